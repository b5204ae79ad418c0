"""Stochastic solvers that leave the way down: churn and Restart go up first, a corrector stays, Euler-Maruyama overshoots.

Noise is only ever added as the forward process adds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ..coordinates import DATA, NOISE, Coordinates
from ..errors import expect
from ..flow import Flow, Node
from ..processes import SIGMA, Level
from .base import DDIM, Solver, Step
from .stochastic import Wrapper, check_downward, raised


@dataclass(frozen=True)
class Churn(Wrapper):
    """EDM's stochastic sampler: raise the noise by a factor 1 + γ, then step down from there (arXiv 2206.00364, algorithm 2).

    γ = min(s_churn/N, √2 − 1) in a run of N steps, at most up to the process's noisiest level.

    Attributes:
        s_churn: how much noise is added in all; 0 is the inner solver.
        s_min, s_max: the σ̄ between which it is.
        s_noise: its standard deviation, 1 to keep the marginals. The paper inflates it to 1.003 or 1.007 for its networks.
    """

    s_churn: float = 40.0
    s_min: float = 0.05
    s_max: float = 50.0
    s_noise: float = 1.0
    n: int = 1

    def __post_init__(self) -> None:
        expect(self, "a number >= 0", "s_churn", "s_min", "s_max", "s_noise")

    @property
    def noisy_past(self) -> bool:
        return self.s_churn != 0.0

    def rules(self, starts: Sequence[Level], budget: int | None) -> list[Solver]:
        return [replace(self, inner=rule, n=len(starts) + 1) for rule in self.inner.rules(starts, budget)]

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        check_downward(self, s, t)
        top = min(s.sigma * (1.0 + min(self.s_churn / self.n, math.sqrt(2.0) - 1.0)), flow.process.start.sigma)
        if self.s_min <= s.sigma <= self.s_max and top > s.sigma:
            h = flow.process.at(SIGMA, top)
            x, s = raised(flow, x, s, h, self.s_noise), h
            # The state has left the path a corrector could mend, and evaluations must lie above it for a polynomial.
            past = tuple(node._replace(taken=None) for node in past if node.level.sigma > top * (1.0 + 1e-9))
        return self.inner.step(flow, x, s, t, past)


@dataclass(frozen=True)
class Restart(Wrapper):
    """Restart sampling: when the run has come below ``low``, go up to ``high`` and down again, some times (arXiv 2306.14878).

    The ways down again are on Karras' grid and share a part of the evaluations. With too few for one step each, fewer are made.

    Attributes:
        low, high: the σ̄ between which restarts go; the paper's t_min and t_max.
        repeats: how many; 0 is the inner solver.
        share: the part of the evaluations that goes into them, between 0 and 1.
    """

    low: float = 0.06
    high: float = 0.3
    repeats: int = 2
    share: float = 0.5
    again: tuple[Solver, int] | None = None

    def __post_init__(self) -> None:
        expect(self, "a number >= 0", "low", "high", "repeats")
        if not self.low < self.high:
            raise ValueError(f"low={self.low!r}, high={self.high!r}: expected low < high")
        if not (isinstance(self.share, (int, float)) and 0.0 < self.share < 1.0):
            raise ValueError(f"share={self.share!r}: expected a number between 0 and 1")

    def _restarts(self, budget: int) -> tuple[int, int, int]:
        """How many, of how many steps each, and what they cost."""
        steps = int(budget * self.share) // (self.inner.evaluations or 1)
        repeats = min(int(self.repeats), steps)
        each = steps // repeats if repeats else 0
        return repeats, each, repeats * each * (self.inner.evaluations or 1)

    def steps(self, budget: int, start: Level) -> int:
        return self.inner.steps(budget - self._restarts(budget)[2], start)

    def rules(self, starts: Sequence[Level], budget: int | None) -> list[Solver]:
        if budget is None:  # the grid is the caller's: its steps are the part that restarts leave
            repeats, each, _ = self._restarts(int(len(starts) * (self.inner.evaluations or 1) / (1.0 - self.share)))
            rules = self.inner.rules(starts, None)
        else:
            repeats, each, cost = self._restarts(budget)
            rules = self.inner.rules(starts, budget - cost)
        at = next((i for i, level in enumerate(starts[1:]) if level.sigma <= self.low), len(starts) - 1)
        if repeats:
            rules[at] = replace(self, inner=rules[at], repeats=repeats, again=(self.inner, each))
        return rules

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        x, past = self.inner.step(flow, x, s, t, past)
        if self.again is None:
            return x, past
        check_downward(self, s, t)
        solver, steps = self.again
        # With few steps none may end below low; a restart then begins where the last one does.
        high = min(max(self.high, 2.0 * t.sigma), flow.process.start.sigma)
        sigmas = np.linspace(high ** (1 / 7), t.sigma ** (1 / 7), steps + 1) ** 7
        levels = [*(flow.process.at(SIGMA, float(sigma)) for sigma in sigmas[:-1]), t]
        flow = replace(flow, coordinates=solver.coordinates)
        for _ in range(self.repeats):
            x, past = raised(flow, x, t, levels[0]), ()
            for a, b in pairwise(levels):
                x, past = solver.step(flow, x, a, b, past)
        return x, past


@dataclass(frozen=True)
class PredictorCorrector(Wrapper):
    r"""Langevin steps after each step of a solver (arXiv 2011.13456, algorithm 4 and 5).

    A Langevin step of size ½δR² on the level t is x − ½δRε̂ + √δ R z to first order in δ. It is taken as the hold to the quieter level of
    noise √(1−δ) R and the difference back, which keeps the variance to all orders. The paper's signal-to-noise ratio r
    gives δ = 4r², its norms ‖z‖ and ‖ε̂‖ being equal in the mean; here it is at most what the step before took away of the
    variance, in the mean over a sample's entries, so that the corrector's own bias vanishes as the grid refines.

    Attributes:
        snr: r, from 0 (no corrector: the inner solver) to 1/2.
        corrections: Langevin steps, one evaluation each, after each step.
    """

    snr: float = 0.16
    corrections: int = 1

    def __post_init__(self) -> None:
        if not (isinstance(self.snr, (int, float)) and 0.0 <= self.snr <= 0.5):
            raise ValueError(f"snr={self.snr!r}: expected a number from 0 (no corrector) to 0.5")
        expect(self, "a positive integer", "corrections")

    @property
    def _extra(self) -> int:
        return self.corrections if self.snr else 0

    def in_time(self) -> Solver:
        return replace(self, inner=self.inner.in_time())

    @property
    def evaluations(self) -> int:
        return (self.inner.evaluations or 1) + self._extra

    def _corrected(self, budget: int, start: Level) -> int:
        """How many steps are corrected: all, but for a remainder of the budget that goes into steps."""
        k = budget // self.evaluations
        while k and self.inner.steps(budget - self._extra * k, start) < k:
            k -= 1
        return k

    def steps(self, budget: int, start: Level) -> int:
        return self.inner.steps(budget - self._extra * self._corrected(budget, start), start)

    def rules(self, starts: Sequence[Level], budget: int | None) -> list[Solver]:
        if not self._extra or not starts:
            return self.inner.rules(starts, budget)
        corrected = len(starts) if budget is None else self._corrected(budget, starts[0])
        rules = self.inner.rules(starts, None if budget is None else budget - self._extra * corrected)
        return [replace(self, inner=rule) if i >= len(starts) - corrected else rule for i, rule in enumerate(rules)]

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        check_downward(self, s, t)
        x, past = self.inner.step(flow, x, s, t, past)
        kept = t.R.inverse() @ flow.process.bridge(s, t, 1.0)  # σ̄_t/σ̄_s
        delta = min(4.0 * self.snr**2, max(0.0, 1.0 - kept.mean_square))
        for _ in range(self._extra):
            x = flow.move(x, t, replace(t, R=t.R * math.sqrt(1.0 - delta)), flow(x, t)) + (t.R * math.sqrt(delta)) @ flow.noise()
        return x, tuple(node._replace(taken=None) for node in past)


@dataclass(frozen=True)
class EulerMaruyama(Solver):
    """Euler-Maruyama for the reverse SDE of x̄ = x/A in the clock σ̄², dx̄ = ½(1+λ²)(ε̂/σ̄)dσ̄² + λdw (arXiv 2011.13456, eq. 6).

    The linear part of the SDE in x is thereby solved exactly. Kept to be compared with: :class:`ReverseSDE` costs the same.

    Attributes:
        lam: the noise; 1 is the reverse SDE, 0 Euler's method on the probability flow in the clock σ̄².
    """

    lam: float = 1.0

    def __post_init__(self) -> None:
        expect(self, "a number >= 0", "lam")

    @property
    def coordinates(self) -> Coordinates:
        return NOISE

    @property
    def order(self) -> int:
        return 1

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        check_downward(self, s, t)
        carry = flow.coordinates.transport(s, t)
        before = carry @ s.R
        # A dσ̄² of noise levels that are matrices, R/A = Y, is A(YYᵀ)_t − A(YYᵀ)_s; by Y⁻ᵀ at s the first is the posterior's R.
        x = carry @ x + ((flow.process.bridge(s, t, 1.0) - before) * (0.5 * (1.0 + self.lam**2))) @ flow(x, s)
        if self.lam:
            x = x + (before.excess(t.R) * self.lam) @ flow.noise()
        return x, ()

    def in_time(self) -> Solver:
        return self

    def from_singular(self) -> Solver:
        return DDIM(eta=min(1.0, self.lam), coordinates=DATA)
