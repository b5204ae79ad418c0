"""Results that are not numbers: they are never given back, and the error says where they began."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .processes import Level, Levels
from .typing import Float


class NonFiniteError(ValueError):
    """The network or ``correct_x0`` returned NaN or Inf, or the state overflowed.

    Attributes:
        x: the state at the end of the run (with the non-finite entries).
        level: the level of the first non-finite evaluation, None if every evaluation was finite.
        evaluation: its number, from 1.
        samples: indices in the batch of the samples concerned.
        source: who returned it, "the network" or "correct_x0".

    Examples:
        >>> net = lambda x, t: x / 0.0
        >>> try:
        ...     flowsolve.sample(flowsolve.Denoiser(net, flowsolve.VP(), shape=(2,)), nfe=4)
        ... except flowsolve.NonFiniteError as error:
        ...     print(error.evaluation, error.samples, error.source)
        1 [0] the network
    """

    def __init__(
        self,
        x: Float[Tensor, "n *state"],
        level: Level | None,
        evaluation: int,
        samples: list[int],
        source: str = "the network",
    ) -> None:
        self.x, self.level, self.evaluation, self.samples = x, level, evaluation, samples
        self.source = source
        where = (
            f"{source} returned NaN or Inf first at evaluation {evaluation}, {level}"
            if level is not None
            else "every evaluation was finite but the state overflowed"
        )
        super().__init__(
            f"{where}; samples of the batch that are not finite at the end: {some(samples)}."
        )

    def __reduce__(self) -> Any:
        return type(self), (self.x, self.level, self.evaluation, self.samples, self.source)


def some(samples: list[int]) -> str:
    """The first of these numbers, for a message."""
    return ", ".join(map(str, samples[:8])) + (", ..." if len(samples) > 8 else "")


def finite(x: Tensor) -> bool:
    """Whether all of it is."""
    # A sum is many times cheaper than isfinite, and finite only if all its terms are; the converse
    # is rarely needed.
    try:
        return bool(torch.isfinite(x.detach().sum())) or bool(torch.isfinite(x).all())
    except RuntimeError as error:
        if "vmap" in str(error):  # there are no numbers to look at inside torch.func.vmap
            return True
        raise


def bad_rows(x: Tensor) -> Tensor:
    """Which samples are not finite, (n,) on the CPU."""
    return ~torch.isfinite(x.detach()).flatten(1).all(1).cpu()


def check_finite(name: str, x: Tensor) -> None:
    """Raise ValueError unless all of ``x`` is, which the caller knows by ``name``."""
    if not finite(x):
        samples = some(bad_rows(x).nonzero().flatten().tolist())
        raise ValueError(f"{name} has NaN or Inf in samples {samples}; expected finite numbers")


def non_finite(
    x: Tensor, asked: list[Level], source: str = "the network", running: Tensor | bool = True
) -> NonFiniteError:
    """The error for the state or output ``x``; the last of ``asked``, if any, is where ``source``
    went wrong."""
    bad = (bad_rows(x) & running).nonzero().flatten().tolist()
    level = asked[-1] if asked else None
    first = level.each[bad[0]] if isinstance(level, Levels) else level
    return NonFiniteError(x, first, len(asked), bad, source)
