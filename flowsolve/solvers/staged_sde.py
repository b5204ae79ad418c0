"""Single-step SDE-DPM-Solver++."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..checked import checked
from ..coordinates import DATA, Coordinates
from ..processes import Level
from .base import Solver
from .descent import Lam, ReverseSDE, lam_at, reverse
from .exponential import InLambda
from .ode import Evaluation, Ode, Past, V
from .wrapper import check_downward


@checked
@dataclass(frozen=True)
class StagedSDE(InLambda):
    """Single-step SDE-DPM-Solver++: the exponential midpoint rule with the SDE's own noise at the
    middle as well (arXiv 2211.01095).

    Attributes:
        lam: λ of :class:`ReverseSDE`. 0 is DPM-Solver++(2S).

    Examples:
        >>> plan = flowsolve.plan(flowsolve.solvers.StagedSDE(lam=0.0), flowsolve.VP(), nfe=9)
        >>> plan == flowsolve.plan("dpmpp2s", flowsolve.VP(), nfe=9)
        True
    """

    lam: Lam | Callable[[float], float] = 1.0

    @property
    def coordinates(self) -> Coordinates:
        return DATA

    @property
    def order(self) -> int:
        return 2 if self.lam == 0.0 else 1

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return 2

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        check_downward(self, s, t)
        middle = self.middle(ode, s, t, 0.5)
        first = Evaluation(s, x, ode(x, s), ode.coordinates)
        lam = lam_at(self.lam, s)
        if lam == 0.0:
            p = ode(ode.move(x, s, middle, first.p), middle)
            return ode.move(x, s, t, p), (first, *past)
        shadow, onward = reverse(ode.process, s, lam), ode.process.bridge(middle, t, lam)
        a, b = shadow(middle), shadow(t)
        to_middle = middle.R.excess(a.R) @ ode.noise()
        p = ode(ode.move(x, s, a, first.p) + to_middle, middle)
        # The noise up to the middle belongs to the path: it goes on to t as the SDE carries it, and
        # new noise joins it.
        noise = (onward @ middle.R.inverse()) @ to_middle + t.R.excess(onward) @ ode.noise()
        return ode.move(x, s, b, p) + noise, (first, *past)

    def filler(self, first: Solver) -> Solver:
        return ReverseSDE(super().filler(first), self.lam)
