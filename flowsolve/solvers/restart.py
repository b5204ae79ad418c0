"""Restart sampling: down, up again, and down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated

import numpy as np

from ..checked import Must, Natural, NonNegative, Positive, checked
from ..processes import SIGMA, Level
from .base import Solver
from .ode import Ode, Past, V
from .wrapper import Wrapper, check_downward, raised


@checked
@dataclass(frozen=True)
class Restart(Wrapper):
    """When the run has come below ``low``, go up to ``high`` and down again, some times (arXiv
    2306.14878).

    The ways down again are on Karras' grid and share a part of the evaluations. With too few for
    one step each, fewer are made.

    Attributes:
        low, high: the σ̄ between which restarts go; the paper's t_min and t_max.
        repeats: how many; 0 is the inner solver.
        share: the part of the evaluations that goes into them, between 0 and 1.

    Examples:
        >>> plan = flowsolve.plan("restart", flowsolve.EDM(), nfe=20, repeats=1)
        >>> plan.nfe, plan.draws
        (20, 1)
    """

    low: NonNegative = 0.06
    high: Positive = 0.3
    repeats: Natural = 2
    share: Annotated[
        float, Must(lambda v: 0.0 < v <= 0.99, "a number between 0 and 1, at most 0.99")
    ] = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.low < self.high:
            raise ValueError(f"low={self.low!r}, high={self.high!r}: expected low < high")

    def _restarts(self, budget: int) -> tuple[int, int, int]:
        """How many, of how many steps each, and what they cost."""
        steps = int(budget * self.share) // (self.inner.evaluations or 1)
        repeats = min(self.repeats, steps)
        each = steps // repeats if repeats else 0
        return repeats, each, repeats * each * (self.inner.evaluations or 1)

    def steps(self, budget: int, start: Level) -> int:
        return self.inner.steps(budget - self._restarts(budget)[2], start)

    def rules(self, levels: Sequence[Level], budget: int | None) -> list[Solver]:
        if budget is None:  # the grid is the caller's: its steps are the part that restarts leave
            cost = (len(levels) - 1) * (self.inner.evaluations or 1)
            repeats, each, _ = self._restarts(int(cost / (1.0 - self.share)))
            rules = self.inner.rules(levels, None)
        else:
            repeats, each, cost = self._restarts(budget)
            rules = self.inner.rules(levels, budget - cost)
        below = (i for i, level in enumerate(levels[1:-1]) if level.sigma <= self.low)
        at = next(below, len(rules) - 1)
        if repeats and rules:
            rules[at] = _Restarted(rules[at], self, repeats, each)
        return rules

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        return self.inner.step(ode, x, s, t, past)


@dataclass(frozen=True)
class _Restarted(Wrapper):
    """The step after which a run with the options ``restart`` goes up and down again: so many
    times, in so many steps each."""

    restart: Restart
    repeats: int
    each: int

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        check_downward(self.restart, s, t)
        x, past = self.inner.step(ode, x, s, t, past)
        # With few steps none may end below low; a restart then begins where the last one does.
        high = min(max(self.restart.high, 2.0 * t.sigma), ode.process.start.sigma)
        sigmas = np.linspace(high ** (1 / 7), t.sigma ** (1 / 7), self.each + 1) ** 7
        levels = [*(ode.process.at(SIGMA, float(sigma)) for sigma in sigmas[:-1]), t]
        solver = self.restart.inner
        ode = replace(ode, coordinates=solver.coordinates)
        for _ in range(self.repeats):
            x, past = raised(ode, x, t, levels[0]), ()
            for a, b in pairwise(levels):
                x, past = solver.step(ode, x, a, b, past)
        return x, past
