"""Grids in σ̄ or a function of it: the same levels for every scalar process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..checked import checked
from ..processes import FLOW_TIME, LAMBDA, SIGMA, Level, Process, Variable
from ..readers import Must
from .base import Grid, strictly_decreasing

#: Where grids in σ̄ put their second-noisiest level, at most, when the first is pure noise or as
#: good as that: EDM's σ_max.
LARGEST_SIGMA = 80.0

#: Powers between which levels stay apart in double precision.
Power = Annotated[float, Must(lambda v: 0.1 <= v <= 100.0, "a positive number, from 0.1 to 100")]
#: Likewise, factors of σ̄.
Factor = Annotated[float, Must(lambda v: 1e-3 <= v <= 1e3, "a positive number, from 0.001 to 1000")]


class VariableGrid(Grid):
    """A grid in a function of σ̄: n levels from the start to the quietest trained level, then
    clean.

    Examples:
        >>> flowsolve.grids.LogSNR().variable.name
        'lambda'
    """

    in_sigma = True
    variable: Variable = SIGMA

    def levels(
        self, process: Process, n: int, start: Level | None = None, end: Level | None = None
    ) -> tuple[Level, ...]:
        start, end = self._ends(process, n, start, end)
        if end.clean and n == 1:
            return start, end
        quiet = process.level(process.t_min) if end.clean else end
        if end.clean and quiet.sigma >= start.sigma * (1.0 - 1e-9):
            # A start below the trained levels: no room for this grid's law, equal steps in σ̄ to
            # zero noise.
            sigmas = np.linspace(start.sigma, 0.0, n + 1)[1:-1]
            return strictly_decreasing([start, *(process.at(SIGMA, float(v)) for v in sigmas), end])
        steps = n - 1 if end.clean else n
        first, cap = start, max(LARGEST_SIGMA, 2.0 * quiet.sigma)
        if start.drowned and cap < start.sigma:
            first = process.at(SIGMA, cap)
        values = self.values(self.variable.of(first), self.variable.of(quiet), steps)
        if len(values) != steps + 1:
            raise ValueError(
                f"{type(self).__name__}.values gave {len(values)} numbers for {steps} steps; "
                f"expected {steps + 1}, both ends included"
            )
        inner = [process.at(self.variable, float(v)) for v in values[1:-1]]
        return strictly_decreasing([start, *inner, quiet, *([end] if end.clean else [])])

    def values(self, first: float, last: float, n: int) -> np.ndarray:
        """n + 1 values of the variable: equal steps, unless the grid says otherwise."""
        return np.linspace(first, last, n + 1)


@checked
@dataclass(frozen=True)
class Karras(VariableGrid, name="karras"):
    """σ̄^{1/ρ} uniform (arXiv 2206.00364, eq. 5).

    Examples:
        >>> levels = flowsolve.grids.Karras().levels(flowsolve.EDM(), 4)
        >>> [round(level.sigma, 3) for level in levels]
        [80.0, 9.723, 0.47, 0.002, 0.0]
    """

    rho: Power = 7.0

    def values(self, first: float, last: float, n: int) -> np.ndarray:
        return np.linspace(first ** (1 / self.rho), last ** (1 / self.rho), n + 1) ** self.rho


@dataclass(frozen=True)
class LogSNR(VariableGrid, name="logsnr", aliases=("exponential",)):
    """λ = −log σ̄ uniform, that is σ̄ in geometric progression (arXiv 2206.00927; k-diffusion's
    "exponential").

    Examples:
        >>> levels = flowsolve.grids.LogSNR().levels(flowsolve.EDM(), 4)
        >>> [round(level.sigma, 3) for level in levels]
        [80.0, 2.339, 0.068, 0.002, 0.0]
    """

    variable = LAMBDA


@dataclass(frozen=True)
class Sigma(VariableGrid, name="sigma"):
    """σ̄ uniform: the equal steps in which Euler on dx̄ = ε̂ dσ̄ is analysed.

    Examples:
        >>> levels = flowsolve.grids.Sigma().levels(flowsolve.EDM(), 4)
        >>> [round(level.sigma, 3) for level in levels]
        [80.0, 53.334, 26.668, 0.002, 0.0]
    """


@checked
@dataclass(frozen=True)
class Shifted(Grid, name="shifted"):
    """Uniform in rectified-flow time u = σ̄/(1+σ̄), after u → shift·u/(1 + (shift − 1)u), that is
    σ̄ → shift·σ̄.

    The schedule of Stable Diffusion 3 (arXiv 2403.03206, section 5.3.2), where shift is 3; for any
    scalar process.

    Examples:
        >>> levels = flowsolve.grids.Shifted(3.0).levels(flowsolve.RectifiedFlow(), 4)
        >>> [round(level.t, 3) for level in levels]
        [1.0, 0.9, 0.75, 0.5, 0.0]
    """

    shift: Factor = 3.0
    in_sigma = True

    def levels(
        self, process: Process, n: int, start: Level | None = None, end: Level | None = None
    ) -> tuple[Level, ...]:
        start, end = self._ends(process, n, start, end)

        def unshift(u: float) -> float:
            return u / (self.shift - (self.shift - 1.0) * u)

        u = np.linspace(unshift(FLOW_TIME.of(start)), unshift(FLOW_TIME.of(end)), n + 1)[1:-1]
        u = self.shift * u / (1.0 + (self.shift - 1.0) * u)
        return strictly_decreasing([start, *(process.at(FLOW_TIME, float(v)) for v in u), end])


@checked
@dataclass(frozen=True)
class Logistic(Grid, name="logistic"):
    """Equal steps in u, where σ̄ = center · u^low / (1 − u)^high: close to a logistic function of
    log σ̄.

    u is 1 at pure noise and 0 on clean data. The steps in log σ̄ are shortest near the center,
    about the spread of the data, where the prediction varies most, and grow without bound towards
    both ends, where it no longer does. low = high = 1 is :class:`Shifted`; well below the center it
    is Karras's law with ρ = low, carried on to zero noise. No level is below the quietest trained
    one: where the law would be, that one is the last before clean data.

    Attributes:
        center: σ̄ in the middle of the noisy range.
        low, high: the larger, the more of the levels lie at small and at large σ̄.

    Examples:
        >>> levels = flowsolve.grids.Logistic(center=0.5).levels(flowsolve.EDM(), 4)
        >>> [round(level.sigma, 3) for level in levels]
        [80.0, 2.597, 0.373, 0.045, 0.0]
    """

    center: Factor = 1.0
    low: Power = 2.0
    high: Power = 2.0
    in_sigma = True

    def _log_sigma(self, z: float) -> float:
        """log σ̄ as a function of z = log(u/(1 − u)): increasing, with slopes between low and
        high."""
        below = float(np.logaddexp(0.0, -z))  # −log u
        return math.log(self.center) - self.low * below + self.high * (z + below)

    def _place(self, level: Level) -> float:
        if level.pure_noise or level.clean:
            return float(level.pure_noise)
        z = -level.lam / max(self.low, self.high)
        # Newton's method: the slope changes in one direction, so it never goes astray.
        for _ in range(60):
            slope = self.low + (self.high - self.low) * _logistic(z)
            step = (self._log_sigma(z) + level.lam) / slope
            z -= step
            if abs(step) <= 1e-15 * (1.0 + abs(z)):
                break
        return _logistic(z)

    def levels(
        self, process: Process, n: int, start: Level | None = None, end: Level | None = None
    ) -> tuple[Level, ...]:
        start, end = self._ends(process, n, start, end)

        def sigma(u: float) -> float:
            return self.center * u**self.low / (1.0 - u) ** self.high

        top, bottom, tail, quiet = (
            self._place(start),
            self._place(end),
            [end],
            process.level(process.t_min),
        )
        if end.clean and n > 1 and quiet.t < start.t and sigma(top / n) < quiet.sigma:
            n, bottom, tail = n - 1, self._place(quiet), [quiet, end]
        inner = (process.at(SIGMA, sigma(float(u))) for u in np.linspace(top, bottom, n + 1)[1:-1])
        return strictly_decreasing([start, *inner, *tail])


def _logistic(z: float) -> float:
    small = math.exp(-abs(z))  # of which no digit is lost
    return (1.0 if z >= 0.0 else small) / (1.0 + small)
