r"""Stochastic solvers made of deterministic ones: down to a quieter level than asked, and the difference back as noise.

The state at s holds noise of level :math:`\bar\sigma_s`. A step to t goes deterministically to a quieter level q, where
:math:`\bar\sigma_q \le \bar\sigma_t`, and then up to t by the forward kernel:

.. math:: x_t = A_tA_q^{-1}x_q + A_t\sqrt{\bar\sigma_t^2 - \bar\sigma_q^2}\;z .

What is chosen is only q, by the *shadow* :math:`g` of the noise level, :math:`\bar\sigma_q = g(\bar\sigma_t)` with
:math:`g(\bar\sigma_s) = \bar\sigma_s`:

* the reverse SDE whose noise is λ times that of the forward one: :math:`g = \bar\sigma_s(\bar\sigma/\bar\sigma_s)^{1+\lambda^2}`,
  exact for a linear prediction (gDDIM, arXiv 2206.05564; SDE-DPM-Solver++, 2211.01095; SA-Solver, 2309.05019);
* ancestral sampling: :math:`\bar\sigma_q^2 = \bar\sigma_t^2(1 - \eta^2(1 - \bar\sigma_t^2/\bar\sigma_s^2))`, DDIM's η;
* the extended reverse SDE of ER-SDE-Solvers: :math:`g = \bar\sigma_s\,\phi(\bar\sigma)/\phi(\bar\sigma_s)` for any φ that
  falls at least as fast as σ̄ (arXiv 2309.06169).

The shadow of a level has the level's own A; only its R is less. Where A and R are matrices it is :math:`RQ` of the process's
:meth:`~flowsolve.Process.bridge`.

With one evaluation a step any solver can make the descent. A multistep method draws its polynomial over [s, t], where the
evaluations are, and integrates it along the shadows of those levels: the exact integral of the polynomial in the SDE.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..coordinates import DATA, Coordinates
from ..flow import Flow, Node
from ..processes import LAMBDA, TIME, Level, Process, Variable
from .base import DDIM, Solver, Step
from .exponential import InLambda
from .multistep import Shadow, itself


def raised(flow: Flow, x: Any, s: Level, t: Level, scale: float = 1.0) -> Any:
    """x at the noisier level t: the forward kernel, its noise times ``scale``."""
    if s.A == t.A:
        return x + scale * (t.R.excess(s.R) @ flow.noise())
    carry = t.A @ s.A.inverse()
    return carry @ x + scale * (t.R.excess(carry @ s.R) @ flow.noise())


def check_downward(solver: Solver, s: Level, t: Level) -> None:
    if not t.t < s.t:
        raise ValueError(
            f"{solver} adds noise, which can be done on the way down only, but {t} is noisier than {s}; use a solver without noise"
        )


@dataclass(frozen=True)
class Wrapper(Solver):
    """A solver around another one, whose coordinates, budget, singular levels and, but for ``noisy_past``, end it shares."""

    inner: Solver

    @property
    def coordinates(self) -> Coordinates:
        return self.inner.coordinates

    @property
    def variable(self) -> Variable:
        return self.inner.variable

    @property
    def order(self) -> int:
        """Weak order: what is promised of means and covariances when noise is added. The method's own without."""
        return 1

    @property
    def evaluations(self) -> int | None:
        return self.inner.evaluations

    def rules(self, starts: Sequence[Level], budget: int | None) -> list[Solver]:
        return [replace(self, inner=rule) for rule in self.inner.rules(starts, budget)]

    def steps(self, budget: int, start: Level) -> int:
        return self.inner.steps(budget, start)

    @property
    def noisy_past(self) -> bool:
        """True if new noise comes between the evaluations that steps remember."""
        return False

    def last(self) -> Solver:
        # A better end than the hold goes by what the corrector changed, which would be the noise between its points.
        return super().last() if self.noisy_past else self.inner.last()

    def singular(self, level: Level) -> bool:
        return self.inner.singular(level)

    def from_singular(self) -> Solver:
        return replace(self, inner=self.inner.from_singular())

    def noise_in_time(self, lam: float) -> Solver:
        """:meth:`in_time` of a solver whose noise is that of the reverse SDE with λ."""
        if lam and self.coordinates != DATA and not isinstance(self.inner, DDIM):
            raise ValueError(f"{self}: where A and R are matrices noise goes with polynomials of x̂0; use an inner solver in DATA")
        return ReverseSDE(self.inner.in_time(), lam)


class Descent(Wrapper):
    """The step of this module; a subclass chooses the shadow."""

    @abstractmethod
    def shadow(self, process: Process, s: Level, t: Level) -> Shadow:
        """Where the state is, in a step from s to t, while the noise level is between them."""

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        check_downward(self, s, t)
        # From pure noise all of t's noise would be new, and stages would lie on clean data; such a step adds none.
        staged = s.pure_noise and self.inner.evaluations != 1
        shadow = itself if staged else self.shadow(flow.process, s, t)
        y, past = self.inner.toward(flow, x, s, t, past, shadow)
        return (y if shadow is itself else raised(flow, y, shadow(t), t)), past


def reverse(process: Process, s: Level, lam: float) -> Shadow:
    """The shadow of the reverse SDE with noise λ: for numbers, σ̄ ↦ σ̄_s (σ̄/σ̄_s)^(1 + λ²)."""
    return (lambda level: replace(level, R=process.bridge(s, level, lam))) if lam else itself


def check_lam(lam: Any) -> None:
    if not callable(lam) and not (isinstance(lam, (int, float)) and 0.0 <= lam < math.inf):
        raise ValueError(f"lam={lam!r}: expected a number >= 0 (0 is deterministic, 1 the reverse SDE) or a function of sigma")


def check_number(lam: float | Callable[[float], float]) -> float:
    """λ where levels have no σ̄ to be a function of."""
    if callable(lam):
        raise ValueError(f"lam={lam!r}: a function of σ̄ needs levels that have one, and this process's A and R are matrices")
    return lam


def lam_at(lam: float | Callable[[float], float], s: Level) -> float:
    """λ in a step from s."""
    return lam(s.sigma) if callable(lam) else lam


@dataclass(frozen=True)
class ReverseSDE(Descent):
    """The reverse-time SDE dx = [Fx − ½(1+λ²)GGᵀ∇log p]dt + λG dw̄.

    Around DDIM this is gDDIM's stochastic step; around a multistep method SDE-DPM-Solver++ or, with a corrector,
    SA-Solver. Where other codes have ``eta`` in SDE-DPM-Solver++, it is λ²; SA-Solver's τ is λ.

    Attributes:
        lam: λ ≥ 0, or a function of σ̄ that gives it at the beginning of each step. 0 is the inner solver.
    """

    lam: float | Callable[[float], float] = 1.0

    def __post_init__(self) -> None:
        check_lam(self.lam)

    @property
    def noisy_past(self) -> bool:
        return self.lam != 0.0

    def shadow(self, process: Process, s: Level, t: Level) -> Shadow:
        return reverse(process, s, lam_at(self.lam, s))

    def in_time(self) -> Solver:
        return self.noise_in_time(check_number(self.lam))


@dataclass(frozen=True)
class Ancestral(Descent):
    """Ancestral sampling around any solver: DDPM's posterior noise, times η (DDIM's η; k-diffusion's "_a" samplers).

    Attributes:
        eta: 0 is the inner solver, 1 adds the noise of DDPM.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        if not (isinstance(self.eta, (int, float)) and 0.0 <= self.eta <= 1.0):
            raise ValueError(f"eta={self.eta!r}: expected a number from 0 (deterministic) to 1 (ancestral)")

    @property
    def noisy_past(self) -> bool:
        return self.eta != 0.0

    def shadow(self, process: Process, s: Level, t: Level) -> Shadow:
        rho = (t.sigma / s.sigma) ** 2
        if self.eta == 0.0:
            return itself
        kept = 1.0 - self.eta**2 * (1.0 - rho)
        return reverse(process, s, math.sqrt(math.log(kept) / math.log(rho)) if rho > 0.0 else 1.0)

    def in_time(self) -> Solver:
        if self.eta not in (0.0, 1.0):
            raise ValueError(
                f"eta={self.eta!r}: where R is a matrix there is a posterior (eta=1) but no fraction of its noise; use ReverseSDE"
            )
        return self.noise_in_time(self.eta)


@dataclass(frozen=True)
class ExtendedSDE(Descent):
    """ER-SDE-Solvers with the paper's φ = σ̄ (exp(σ̄^0.3) + 10) (arXiv 2309.06169, "ER SDE 5").

    Attributes:
        strength: the power of the bracket; 0 is the inner solver.
    """

    strength: float = 1.0

    def __post_init__(self) -> None:
        if not (isinstance(self.strength, (int, float)) and 0.0 <= self.strength < math.inf):
            raise ValueError(f"strength={self.strength!r}: expected a number >= 0 (0 is deterministic, 1 the paper's)")

    @property
    def noisy_past(self) -> bool:
        return self.strength != 0.0

    def shadow(self, process: Process, s: Level, t: Level) -> Shadow:
        if self.strength == 0.0:
            return itself
        if s.pure_noise:
            return lambda level: replace(level, R=level.R * 0.0)

        def log_bracket(sigma: float) -> float:
            return self.strength * math.log(math.exp(sigma**0.3) + 10.0)

        return lambda level: replace(level, R=level.R * math.exp(log_bracket(level.sigma) - log_bracket(s.sigma)))


@dataclass(frozen=True)
class StagedSDE(InLambda):
    """Single-step SDE-DPM-Solver++: the exponential midpoint rule with the SDE's own noise at the middle as well (arXiv 2211.01095).

    Attributes:
        lam: λ of :class:`ReverseSDE`. 0 is DPM-Solver++(2S).
    """

    lam: float | Callable[[float], float] = 1.0
    variable: Variable = LAMBDA  # type: ignore[assignment]

    def __post_init__(self) -> None:
        check_lam(self.lam)

    @property
    def coordinates(self) -> Coordinates:
        return DATA

    @property
    def order(self) -> int:
        return 2 if self.lam == 0.0 else 1

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return 2

    def step(self, flow: Flow, x: Any, s: Level, t: Level, past: tuple[Node, ...]) -> Step:
        check_downward(self, s, t)
        middle = self.between(flow, s, t, 0.5)
        first = Node(s, x, flow(x, s), flow.coordinates)
        lam = lam_at(self.lam, s)
        if lam == 0.0:
            return flow.move(x, s, t, flow(flow.move(x, s, middle, first.p), middle)), (first, *past)
        shadow, onward = reverse(flow.process, s, lam), flow.process.bridge(middle, t, lam)
        a, b = shadow(middle), shadow(t)
        to_middle = middle.R.excess(a.R) @ flow.noise()
        p = flow(flow.move(x, s, a, first.p) + to_middle, middle)
        # The noise up to the middle belongs to the path: it goes on to t as the SDE carries it, and new noise joins it.
        noise = (onward @ middle.R.inverse()) @ to_middle + t.R.excess(onward) @ flow.noise()
        return flow.move(x, s, b, p) + noise, (first, *past)

    def in_time(self) -> Solver:
        check_number(self.lam)
        return replace(self, variable=TIME)

    def remainder(self, first: Solver) -> Solver:
        return ReverseSDE(super().remainder(first), self.lam)
