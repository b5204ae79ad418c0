r"""The last interval before clean data, for methods that choose their own steps.

A network is asked at ``t_min`` or noisier, and the equation goes on to :math:`\bar\sigma = 0`. Near
there :math:`\hat\varepsilon` is a straight line in :math:`\bar\sigma`: along a path of data with a
smooth density :math:`\bar x = x_0 + O(\bar\sigma^2)`, and of points it is constant. The line
through its values at the quietest level q and at r, twice that, is integrated exactly:

.. math:: \bar x_q - x_0 = \bar\sigma_q\bigl(\hat\varepsilon_q
   + \tfrac{\bar\sigma_q}{2(\bar\sigma_r - \bar\sigma_q)}(\hat\varepsilon_q
   - \hat\varepsilon_r)\bigr) + O(\bar\sigma_q^4),

where the hold of the last prediction errs by :math:`O(\bar\sigma_q^2)`. On the way down the state
at r is where the hold leads from q; on the way up both are asked at the data, from which they are
:math:`O(\bar\sigma^2)` away. Where A and R are matrices the last step is the hold, and the first
its inverse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..coordinates import NOISE, Coordinates
from ..processes import SIGMA, Level
from .base import Rise, Solver
from .ode import Ode, Past


@dataclass(frozen=True)
class Ends(Solver):
    """A step from a noisy level onto clean data, or from there: ``inner`` between the level and
    ``t_min``, if it is noisier, and the line of the module's text."""

    inner: Solver
    fixed = False

    @property
    def coordinates(self) -> Coordinates:
        return self.inner.coordinates

    @property
    def order(self) -> int:
        return self.inner.order

    @property
    def evaluations(self) -> None:
        return None

    def step(self, ode: Ode[Any], x: Any, s: Level, t: Level, past: Past[Any]) -> Any:
        edge = ode.process.level(ode.process.t_min)
        if t.clean:
            if edge.t < s.t and not edge.clean:
                x, past = self._inside(ode, x, s, edge, past)
                if ode.evaluator.stopped or ode.evaluator.reached(x, edge):
                    return x, past
                s = edge
            return self._onto(ode, x, s, t), past
        edge = edge if edge.t < t.t and not edge.clean else t
        x = self._off(ode, x, s, edge)
        if edge is t or ode.evaluator.reached(x, edge):
            return x, past
        return self._inside(ode, x, edge, t, past)

    def _inside(self, ode: Ode[Any], x: Any, s: Level, t: Level, past: Past[Any]) -> Any:
        """The part of the step between noisy levels."""
        rule = self.inner.between(s, t)
        return rule.step(replace(ode, coordinates=rule.coordinates), x, s, t, past)

    def _onto(self, ode: Ode[Any], x: Any, s: Level, t: Level) -> Any:
        """x at clean data from x at s."""
        above = _above(ode, s)
        if above is None:
            hold = Solver.between(self, s, t)
            ode = replace(ode, coordinates=hold.coordinates)
            return hold.step(ode, x, s, t, ())[0]
        ode = replace(ode, coordinates=NOISE)
        p = ode(x, s)
        q = ode(ode.move(x, s, above, p), above)
        return ode.move(x, s, t, _line(p, q, s, above))

    def _off(self, ode: Ode[Any], x: Any, s: Level, t: Level) -> Any:
        """x at t from clean data."""
        above = _above(ode, t)
        ode = replace(ode, coordinates=NOISE)
        if above is None:
            return Rise().step(ode, x, s, t, ())[0]
        p, q = (ode(NOISE.transport(s, level) @ x, level) for level in (t, above))
        return ode.move(x, s, t, _line(p, q, t, above))


def _above(ode: Ode[Any], quiet: Level) -> Level | None:
    """The level of twice the noise; None where the line cannot be drawn."""
    if not quiet.scalar or quiet.pure_noise:
        return None
    above = ode.process.at(SIGMA, min(2.0 * quiet.sigma, ode.process.start.sigma))
    return above if above.sigma > 1.5 * quiet.sigma and not above.pure_noise else None


def _line(p: Any, q: Any, quiet: Level, above: Level) -> Any:
    """The mean between clean data and ``quiet`` of the line that is p there and q above."""
    return p + (p - q) * (0.5 * quiet.sigma / (above.sigma - quiet.sigma))
