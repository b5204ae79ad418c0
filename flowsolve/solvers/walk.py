"""One sample on its way: where its steps lie and how long they are, in the variable of
:mod:`flowsolve.solvers.adaptive`, whose formulas these are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..processes import Level, Process, Variable, numbers


def _mu(level: Level) -> float:
    return 0.0 if level.pure_noise else math.inf if level.clean else math.log1p(1.0 / level.sigma)


def _sigma(mu: Any) -> Any:
    with np.errstate(divide="ignore"):
        return np.where(np.asarray(mu) <= 0.0, np.inf, 1.0 / np.expm1(np.maximum(mu, 0.0)))


#: μ = log(1 + 1/σ̄): 0 at pure noise, λ near clean data.
MU = Variable("log(1+1/sigma)", _mu, _sigma)
#: The next step is this fraction of the one whose error would just meet the tolerance,
SAFETY = 0.9
#: and between these multiples of the last.
LEAST, MOST = 0.2, 5.0
#: A shorter step in μ cannot be told from none: the levels of its stages agree to rounding.
SHORTEST = 1e-12


class Walk:
    """One sample on its way from s to t, in numbers that know of no other sample.

    Attributes:
        here: the level of its state.
        stride: how long a step may be, says the last error.
        made: the evaluations that its step has, 3 if it has arrived.
        asked, rows: for each ``made``, where the next evaluation is made, and what takes the state
            on with it: the two coefficients of D, the weight of the latest p against the first, and
                1/√(A² + R²) before and after.
    """

    def __init__(self, process: Process, s: Level, t: Level, stride: float) -> None:
        self.process, self.here, self.there, self.stride = process, s, t, stride
        self.mu, self.end = MU.of(s), MU.of(t)
        self.low, self.high = sorted((s.t, t.t))
        self.careful = False
        self._lay_out()

    def _lay_out(self) -> None:
        left = abs(self.end - self.mu)
        # What is left is cut in the middle rather than into a long step and a sliver.
        self.length = left if left <= self.stride else min(self.stride, 0.5 * left)
        h = math.copysign(self.length, self.end - self.mu)
        second, third = self._at(h / 3), self._at(2 * h / 3)
        self.goal = self.there if self.length == left else self._at(h)
        self.asked = (self.here, second, third, third)
        a, r = numbers(self.here)
        self.rows = []
        for level, weight in (
            (second, 0.0),
            (third, 2 * centre(2 * h / 3)),
            (self.goal, 1.5 * centre(h)),
        ):
            a_t, r_t = numbers(level)
            carry = r_t / r
            self.rows.append(
                (carry, a_t - carry * a, weight, 1 / math.hypot(a, r), 1 / math.hypot(a_t, r_t))
            )
        self.rows.append((1.0, 0.0, 0.0, 1.0, 1.0))
        self.made = 0

    def _at(self, h: float) -> Level:
        return self.process.level(
            min(max(self.process.time_of(float(_sigma(self.mu + h))), self.low), self.high)
        )

    def judge(self, error: float) -> bool:
        """Accept the step, or lay out a shorter one with the first evaluation in hand. False if
        that would be too short."""
        factor = MOST if error == 0.0 else min(MOST, max(LEAST, SAFETY * error ** (-1 / 3)))
        if error <= 1.0:
            # The last step before t is short for another reason than its error.
            self.stride = max(
                self.stride * (self.length < self.stride),
                self.length * (min(factor, 1.0) if self.careful else factor),
            )
            self.here, self.careful = self.goal, False
            if self.here is self.there:
                self.made = 3
            else:
                self.mu = MU.of(self.here)
                self._lay_out()
            return True
        self.stride, self.careful = self.length * factor, True
        self._lay_out()
        self.made = 1
        return self.stride >= SHORTEST


def centre(h: float) -> float:
    """ρ(h) = ∫₀¹u eʰᵘdu / ∫₀¹eʰᵘdu = 1/(1 − e⁻ʰ) − 1/h, the centre of mass of a step's exponential
    weight; 1/2 at h = 0."""
    if abs(h) < 0.1:  # the next term is below 1e-16
        return 0.5 + h / 12 * (1 - h * h / 60 * (1 - h * h / 42 * (1 - h * h / 40)))
    return -1.0 / math.expm1(-h) - 1.0 / h
