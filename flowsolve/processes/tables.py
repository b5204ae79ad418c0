"""Tables of β for :meth:`flowsolve.VP.discrete`: the ones released networks were trained with."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..errors import expect_value


def check_betas(betas: Iterable[float]) -> tuple[float, ...]:
    """``betas`` as a tuple of floats. Raises ValueError unless each lies in (0, 1), the last in (0,
    1]."""
    table = tuple(float(b) for b in betas)
    if not table:
        raise ValueError("betas is empty; expected a one-dimensional table of numbers in (0, 1)")
    for i, b in enumerate(table):
        if not (0.0 < b < 1.0 or (b == 1.0 and i == len(table) - 1)):
            raise ValueError(
                f"betas[{i}]={b!r} is outside (0, 1) (only the last entry may be exactly 1: pure "
                "noise)"
            )
    return table


def linear(entries: int = 1000, start: float = 1e-4, stop: float = 0.02) -> list[float]:
    """β linear in the index (DDPM, arXiv 2006.11239)."""
    expect_value("entries", entries, "a positive integer")
    return np.linspace(start, stop, entries).tolist()


def scaled_linear(entries: int = 1000, start: float = 0.00085, stop: float = 0.012) -> list[float]:
    """√β linear in the index (latent diffusion, arXiv 2112.10752)."""
    expect_value("entries", entries, "a positive integer")
    return (np.linspace(start**0.5, stop**0.5, entries) ** 2).tolist()


def cosine(entries: int = 1000, s: float = 0.008, largest: float = 0.999) -> list[float]:
    """β_i = 1 − ᾱ((i+1)/T)/ᾱ(i/T), ᾱ a squared cosine, at most ``largest`` (arXiv 2102.09672)."""
    expect_value("entries", entries, "a positive integer")

    def alpha_bar(u: float) -> float:
        return math.cos((u + s) / (1.0 + s) * math.pi / 2) ** 2

    return [
        min(1.0 - alpha_bar((i + 1) / entries) / alpha_bar(i / entries), largest)
        for i in range(entries)
    ]


def sigmoid(entries: int = 1000, start: float = 1e-4, stop: float = 0.02) -> list[float]:
    """β along a logistic curve over [−6, 6] (the DDPM code's "sigmoid")."""
    expect_value("entries", entries, "a positive integer")
    return (1.0 / (1.0 + np.exp(-np.linspace(-6, 6, entries))) * (stop - start) + start).tolist()


def zero_terminal_snr(betas: Iterable[float]) -> list[float]:
    """The table shifted and scaled so that its last level is pure noise exactly (arXiv 2305.08891,
    algorithm 1)."""
    alpha = np.sqrt(np.cumprod(1.0 - np.asarray(check_betas(betas), dtype=np.float64)))
    if len(alpha) < 2:
        raise ValueError("zero_terminal_snr needs a table of at least two entries")
    alpha = (alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1]))
    alpha_bar = np.concatenate([[1.0], alpha**2])
    return (1.0 - alpha_bar[1:] / alpha_bar[:-1]).tolist()
