r"""What a solver is: coordinates, a rule that takes one step, and how it spends a budget of evaluations.

A run is a list of legs, (rule, s, t), made here once and driven by one loop:

* the leg that ends on clean data is the hold of the last prediction, x = x̂0, unless the solver has a better ``last``;
* a leg from or to a level where the solver's coordinates have no inverse (pure noise for NOISE) is taken by
  ``from_singular``;
* what a multi-stage method cannot spend in whole steps goes into single-evaluation steps early in the run.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from ..coordinates import DATA, NOISE, VELOCITY, Coordinates
from ..flow import Flow, Leg, Node
from ..processes import SIGMA, Level, Process, Variable

Step = tuple[Any, tuple[Node, ...]]


@dataclass(frozen=True)
class Solver(ABC):
    """A frozen dataclass: its fields are its options, ``step`` its method."""

    #: False for solvers whose arithmetic depends on the data; they run on tensors instead of through a plan.
    fixed = True

    @property
    @abstractmethod
    def coordinates(self) -> Coordinates: ...

    @property
    def variable(self) -> Variable:
        """The scalar in which the rule's steps are laid out: the coordinates' own clock, unless it says otherwise."""
        return self.coordinates.clock or SIGMA

    @property
    @abstractmethod
    def order(self) -> int:
        """Order of convergence in the step size."""

    @property
    def evaluations(self) -> int | None:
        """Denoiser calls per step; None where the method decides for itself and the budget is a cap."""
        return 1

    @abstractmethod
    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        """x at t from x at s, and the evaluations to remember (newest first)."""

    def on(self, process: Process) -> Solver:
        """This solver for ``process``: itself, or :meth:`in_time` where levels have no σ̄. Raises ValueError if it makes no sense there."""
        if process.scalar:
            return self
        if self.coordinates == VELOCITY and not process.velocity:
            raise ValueError(
                f"solver={self} works in VELOCITY coordinates, where A + R must have an inverse, which that of {process!r} need not; "
                "use a solver in NOISE or DATA coordinates, such as 'etd3' or 'ab3'"
            )
        return self.in_time()

    def in_time(self) -> Solver:
        """The same method where A and R are matrices: its polynomials and stages are laid out in t, its noise is the bridge's.

        Raises:
            ValueError: with the reason, if the method needs a σ̄.
        """
        raise ValueError(
            f"solver={self} is made of noise levels σ̄ = R/A that are numbers, and those of this process are matrices; "
            "use 'ddim', a multistep or Runge-Kutta method, 'gddim', 'ddpm', or a torchdiffeq or scipy method"
        )

    def toward(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...], shadow: Callable[[Level], Level]) -> Step:
        """The step from s to t carried out from s to the shadow of t, a quieter level; see :mod:`flowsolve.solvers.stochastic`."""
        return self.step(flow, x, s, shadow(t), past)

    def rules(self, starts: Sequence[Level], budget: int | None) -> list[Solver]:
        """One rule for each step of a run that starts its steps at ``starts``, spending at most ``budget``."""
        return [self] * len(starts)

    def steps(self, budget: int, start: Level) -> int:
        """The most steps from ``start`` that ``budget`` evaluations pay for."""
        return budget if self.evaluations is None else budget // self.evaluations

    def last(self) -> Solver:
        """The rule for the leg onto clean data, one evaluation: the hold of its prediction, x = x̂0, unless the method has a better end."""
        return DDIM(coordinates=DATA)

    def singular(self, level: Level) -> bool:
        """True where this rule cannot start or end a step."""
        return self.coordinates.singular(level)

    def from_singular(self) -> Solver:
        """The rule for a step from or to a level that is singular in these coordinates."""
        return DDIM(coordinates=DATA)


def legs(solver: Solver, levels: Sequence[Level], nfe: int | None) -> list[Leg]:
    """The run of ``solver`` over ``levels`` with at most ``nfe`` evaluations (None: as many as whole steps need)."""
    pairs = list(pairwise(levels))
    clean = levels[-1].clean
    body = pairs[:-1] if clean else pairs
    budget = None if nfe is None else nfe - clean
    rules: list[Solver] = [
        rule.from_singular() if rule.singular(s) or rule.singular(t) else rule
        for rule, (s, t) in zip(solver.rules([s for s, _ in body], budget), body, strict=True)
    ]
    if clean:
        rules.append(DDIM() if DATA.singular(levels[-2]) else solver.last())  # a CLD at t = 0 has noise in the velocities alone
    return [Leg(rule, s, t) for rule, (s, t) in zip(rules, pairs, strict=True)]


@dataclass(frozen=True)
class DDIM(Solver):
    r"""Hold the prediction over the step, x_t = A_t x̂0 + R_t ε̂; with η > 0, to a quieter level and noise back.

    :math:`\sigma_\eta^2 = \eta^2 R_t^2(1 - \rho)` with :math:`\rho = (\bar\sigma_t/\bar\sigma_s)^2`, and
    :math:`x_t = A_t\hat x_0 + \sqrt{R_t^2 - \sigma_\eta^2}\,\hat\varepsilon + \sigma_\eta z`
    (arXiv 2010.02502, eq. 12 and 16). η = 0 is Euler's method on dx̄ = ε̂ dσ̄; η = 1 is DDPM's ancestral sampler.

    Attributes:
        eta: how much of the posterior's noise is drawn, 0 … η_max = 1/√(1 − ρ) of the shortest step.
        large: add noise of DDPM's larger variance β̂ = R_s²(1 − ρ) instead (the "σ̂" rows of the paper's tables).
        coordinates: in which the hold is carried out; the result is the same in all.
    """

    eta: float = 0.0
    large: bool = False
    coordinates: Coordinates = NOISE  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if not (isinstance(self.eta, (int, float)) and 0.0 <= self.eta < math.inf):
            raise ValueError(f"eta={self.eta!r}: expected a number >= 0 (0 is deterministic, 1 is DDPM)")

    @property
    def order(self) -> int:
        return 1

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        p = flow(x, s)
        past = (Node(s, x, p, flow.coordinates), *past)
        if self.eta == 0.0:
            return flow.move(x, s, t, p), past
        if not t.t < s.t:
            raise ValueError(f"eta={self.eta!r}: noise can be added on the way down only, but {t} is noisier than {s}; use eta=0")
        if self.eta == 1.0 and not self.large:  # the posterior, which every process has
            quiet = replace(t, R=flow.process.bridge(s, t, 1.0))
            return flow.move(x, s, quiet, p) + t.R.excess(quiet.R) @ flow.noise(), past
        rest = 1.0 - (t.sigma / s.sigma) ** 2  # 1 − ρ
        if self.eta**2 * rest > 1.0 + 1e-12:
            raise ValueError(
                f"eta={self.eta!r} asks for more noise than {t} holds, coming from {s}; "
                f"on this step eta can be at most {1.0 / math.sqrt(rest):.6g}"
            )
        quiet = replace(t, R=t.R * math.sqrt(max(0.0, 1.0 - self.eta**2 * rest)))
        added = s.R * math.sqrt(rest) if self.large else t.R * (self.eta * math.sqrt(rest))
        return flow.move(x, s, quiet, p) + added @ flow.noise(), past

    def in_time(self) -> Solver:
        if self.eta not in (0.0, 1.0) or self.large:
            raise ValueError(
                f"eta={self.eta!r}{', large=True' * self.large}: where R is a matrix there is a posterior, eta=1, "
                "but no fraction of its noise; use solver='gddim' with lam, the noise of the reverse SDE"
            )
        return self

    def from_singular(self) -> Solver:
        return replace(self, coordinates=DATA)
