"""Tables of β for :meth:`flowsolve.VP.discrete`: the ones released networks were trained with."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated

import numpy as np

from ..checked import NonNegative, Part, checked
from ..errors import shown
from ..readers import Must

Entries = Annotated[int, Must(lambda n: 1 <= n <= 10**6, "an integer from 1 to 1000000")]
Beta = Annotated[float, Must(lambda b: 0.0 < b < 1.0, "a number in (0, 1)")]


@checked
def check_betas(betas: Iterable[float]) -> tuple[float, ...]:
    """``betas`` as a tuple of floats. Raises ValueError unless each lies in (0, 1), the last in (0,
    1].

    Examples:
        >>> flowsolve.processes.tables.check_betas([0.1, 0.2])
        (0.1, 0.2)
    """
    table = tuple(betas)
    if not table:
        raise ValueError("betas is empty; expected a one-dimensional table of numbers in (0, 1)")
    for i, b in enumerate(table):
        if not (0.0 < b < 1.0 or (b == 1.0 and i == len(table) - 1)):
            raise ValueError(
                f"betas[{i}]={b!r} is outside (0, 1) (only the last entry may be exactly 1: pure "
                "noise)"
            )
    return table


@checked
def linear(entries: Entries = 1000, start: Beta = 1e-4, stop: Beta = 0.02) -> list[float]:
    """β linear in the index (DDPM, arXiv 2006.11239).

    Examples:
        >>> flowsolve.processes.tables.linear(3, 0.1, 0.3)
        [0.1, 0.2, 0.3]
    """
    return np.linspace(start, stop, entries).tolist()


@checked
def scaled_linear(
    entries: Entries = 1000, start: Beta = 0.00085, stop: Beta = 0.012
) -> list[float]:
    """√β linear in the index (latent diffusion, arXiv 2112.10752).

    Examples:
        >>> [round(beta, 6) for beta in flowsolve.processes.tables.scaled_linear(3, 0.01, 0.09)]
        [0.01, 0.04, 0.09]
    """
    return (np.linspace(start**0.5, stop**0.5, entries) ** 2).tolist()


@checked
def cosine(entries: Entries = 1000, s: NonNegative = 0.008, largest: Part = 0.999) -> list[float]:
    """β_i = 1 − ᾱ((i+1)/T)/ᾱ(i/T), ᾱ a squared cosine, at most ``largest`` (arXiv 2102.09672).

    Examples:
        >>> [round(beta, 3) for beta in flowsolve.processes.tables.cosine(4)]
        [0.153, 0.417, 0.708, 0.999]
    """

    def alpha_bar(u: float) -> float:
        return math.cos((u + s) / (1.0 + s) * math.pi / 2) ** 2

    return [
        min(1.0 - alpha_bar((i + 1) / entries) / alpha_bar(i / entries), largest)
        for i in range(entries)
    ]


@checked
def sigmoid(entries: Entries = 1000, start: Beta = 1e-4, stop: Beta = 0.02) -> list[float]:
    """β along a logistic curve over [−6, 6] (the DDPM code's "sigmoid", arXiv 2006.11239).

    Examples:
        >>> [round(beta, 3) for beta in flowsolve.processes.tables.sigmoid(3, 0.1, 0.3)]
        [0.1, 0.2, 0.3]
    """
    return (1.0 / (1.0 + np.exp(-np.linspace(-6, 6, entries))) * (stop - start) + start).tolist()


@checked
def zero_terminal_snr(betas: Iterable[float]) -> list[float]:
    """The table shifted and scaled so that its last level is pure noise exactly (arXiv 2305.08891,
    algorithm 1). Raises ValueError for a table that is none.

    Examples:
        >>> tables = flowsolve.processes.tables
        >>> flowsolve.VP.discrete(tables.zero_terminal_snr(tables.linear())).start.pure_noise
        True
    """
    alpha = np.sqrt(np.cumprod(1.0 - np.asarray(check_betas(betas), dtype=np.float64)))
    if len(alpha) < 2 or not (np.diff(alpha) < 0.0).all():
        raise ValueError(
            f"betas={shown(betas)}: expected at least two entries, each with more noise than the "
            "one before"
        )
    alpha = (alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1]))
    alpha_bar = np.concatenate([[1.0], alpha**2])
    return (1.0 - alpha_bar[1:] / alpha_bar[:-1]).tolist()
