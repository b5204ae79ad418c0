r"""Stochastic solvers made of deterministic ones: down to a quieter level than asked, and the
difference back as noise.

The state at s holds noise of level :math:`\bar\sigma_s`. A step to t goes deterministically to a
quieter level q, where :math:`\bar\sigma_q \le \bar\sigma_t`, and then up to t by the forward
kernel:

.. math:: x_t = A_tA_q^{-1}x_q + A_t\sqrt{\bar\sigma_t^2 - \bar\sigma_q^2}\;z .

What is chosen is only q, by the *shadow* :math:`g` of the noise level,
:math:`\bar\sigma_q = g(\bar\sigma_t)` with :math:`g(\bar\sigma_s) = \bar\sigma_s`:

* the reverse SDE whose noise is λ times that of the forward one:
  :math:`g = \bar\sigma_s(\bar\sigma/\bar\sigma_s)^{1+\lambda^2}`, exact for a linear prediction
  (gDDIM, arXiv 2206.05564; SDE-DPM-Solver++, 2211.01095; SA-Solver, 2309.05019);
* ancestral sampling:
  :math:`\bar\sigma_q^2 = \bar\sigma_t^2(1 - \eta^2(1 - \bar\sigma_t^2/\bar\sigma_s^2))`, DDIM's η;
* the extended reverse SDE of ER-SDE-Solvers:
  :math:`g = \bar\sigma_s\,\phi(\bar\sigma)/\phi(\bar\sigma_s)` for any φ that falls at least as
  fast as σ̄ (arXiv 2309.06169).

The shadow of a level has the level's own A; only its R is less. Where A and R are matrices it is
:math:`RQ` of the process's :meth:`~flowsolve.Process.bridge`.

With one evaluation a step any solver can make the descent. A multistep method draws its polynomial
over [s, t], where the evaluations are, and integrates it along the shadows of those levels: the
exact integral of the polynomial in the SDE.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

from ..checked import Must, checked, read
from ..coordinates import DATA, Coordinates
from ..errors import Unsuited
from ..processes import Level, Process
from .base import Hold, Shadow, Solver
from .ddim import DDIM
from .ode import Evaluation, Ode, Past, V
from .weights import itself
from .wrapper import Wrapper, check_downward, raised


class Descent(Wrapper):
    """The step of this module; a subclass chooses the shadow.

    Examples:
        >>> s, t = flowsolve.EDM().level(2.0), flowsolve.EDM().level(1.0)
        >>> ancestral = flowsolve.solvers.Ancestral(flowsolve.solvers.DDIM())
        >>> ancestral.shadow(flowsolve.EDM(), s, t)(t).sigma  # √(σ̄_t²(1 − (1 − σ̄_t²/σ̄_s²)))
        0.5
    """

    @abstractmethod
    def shadow(self, process: Process, s: Level, t: Level) -> Shadow:
        """Where the state is, in a step from s to t, while the noise level is between them."""

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        check_downward(self, s, t)
        # From pure noise all of t's noise would be new, and stages would lie on clean data; such a
        # step adds none.
        staged = s.pure_noise and self.inner.evaluations != 1
        shadow = itself if staged else self.shadow(ode.process, s, t)
        if shadow is itself:
            return self.inner.descend(ode, x, s, t, past, itself)
        if (
            ode.process.clock
            and self.coordinates != DATA
            and not isinstance(self.inner, (Hold, DDIM))
        ):
            raise Unsuited(
                "where A and R are matrices noise goes with polynomials of x̂0",
                "an inner solver in DATA coordinates, as dpmpp2s_a has",
            )
        y, past = self.inner.descend(ode, x, s, t, past, shadow)
        return raised(ode, y, shadow(t), t), past


def reverse(process: Process, s: Level, lam: float) -> Shadow:
    """The shadow of the reverse SDE with noise λ: for numbers, σ̄ ↦ σ̄_s (σ̄/σ̄_s)^(1 + λ²)."""
    return (lambda level: replace(level, R=process.bridge(s, level, lam))) if lam else itself


#: λ ≥ 0, the noise of the reverse SDE.
Lam = Annotated[
    float, Must(lambda v: v >= 0.0, "a number >= 0 (0 is deterministic, 1 the reverse SDE)")
]


def lam_at(lam: float | Callable[[float], float], s: Level) -> float:
    """λ in a step from s."""
    if callable(lam) and not s.scalar:
        raise Unsuited(
            f"lam={lam!r}: a function of σ̄ needs levels that have one, and this process's A and R "
            "are matrices",
            "a number",
        )
    return read("lam(sigma)", lam(s.sigma), Lam) if callable(lam) else lam


@checked
@dataclass(frozen=True)
class ReverseSDE(Descent):
    """The reverse-time SDE dx = [Fx − ½(1+λ²)GGᵀ∇log p]dt + λG dw̄.

    Around DDIM this is gDDIM's stochastic step (arXiv 2206.05564, eq. 22); around a multistep
    method SDE-DPM-Solver++ (2211.01095) or, with a corrector, SA-Solver (2309.05019). Where other
    codes have ``eta`` in SDE-DPM-Solver++, it is λ²; SA-Solver's τ is λ.

    Attributes:
        lam: λ ≥ 0, or a function of σ̄ that gives it at the beginning of each step. 0 is the inner
            solver.

    Examples:
        >>> from flowsolve.solvers import DDIM, ReverseSDE
        >>> flowsolve.solvers.name_of(ReverseSDE(DDIM()))
        'gddim'
        >>> late = ReverseSDE(DDIM(), lam=lambda sigma: 1.0 if sigma < 1.0 else 0.0)
        >>> 0 < flowsolve.plan(late, flowsolve.VP(), nfe=10).draws < 9
        True
    """

    lam: Lam | Callable[[float], float] = 1.0

    @property
    def noisy(self) -> bool:
        return self.lam != 0.0

    def shadow(self, process: Process, s: Level, t: Level) -> Shadow:
        return reverse(process, s, lam_at(self.lam, s))


@checked
@dataclass(frozen=True)
class Ancestral(Descent):
    """Ancestral sampling around any solver: DDPM's posterior noise, times η (arXiv
    2010.02502, eq. 16; k-diffusion's "_a" samplers).

    Attributes:
        eta: 0 is the inner solver, 1 adds the noise of DDPM.

    Examples:
        >>> from flowsolve.solvers import DDIM, Ancestral
        >>> plan = flowsolve.plan(Ancestral(DDIM()), flowsolve.VP(), nfe=5)
        >>> plan == flowsolve.plan("ddpm", flowsolve.VP(), nfe=5)
        True
    """

    eta: Annotated[
        float,
        Must(lambda v: 0.0 <= v <= 1.0, "a number from 0 (deterministic) to 1 (ancestral)"),
    ] = 1.0

    @property
    def noisy(self) -> bool:
        return self.eta != 0.0

    def shadow(self, process: Process, s: Level, t: Level) -> Shadow:
        if self.eta in (0.0, 1.0):  # nothing, or the posterior, which every process has
            return reverse(process, s, self.eta)
        if not s.scalar:
            raise Unsuited(
                f"eta={self.eta!r}: where A and R are matrices there is a posterior, eta=1, but no "
                "fraction of its noise",
                "ReverseSDE",
            )
        rho = (t.sigma / s.sigma) ** 2
        kept = 1.0 - self.eta**2 * (1.0 - rho)
        lam = math.sqrt(math.log(kept) / math.log(rho)) if rho > 0.0 else 1.0
        return reverse(process, s, lam)


@checked
@dataclass(frozen=True)
class ExtendedSDE(Descent):
    """ER-SDE-Solvers with the paper's φ = σ̄ (exp(σ̄^0.3) + 10) (arXiv 2309.06169, "ER SDE 5").

    Attributes:
        strength: the power of the bracket; 0 is the inner solver.

    Examples:
        >>> from flowsolve.solvers import DDIM, ExtendedSDE
        >>> plan = flowsolve.plan(ExtendedSDE(DDIM(), strength=0.0), flowsolve.VP(), nfe=9)
        >>> plan == flowsolve.plan("ddim", flowsolve.VP(), nfe=9)
        True
    """

    strength: Annotated[
        float, Must(lambda v: v >= 0.0, "a number >= 0 (0 is deterministic, 1 the paper's)")
    ] = 1.0

    @property
    def noisy(self) -> bool:
        return self.strength != 0.0

    def shadow(self, process: Process, s: Level, t: Level) -> Shadow:
        if self.strength == 0.0:
            return itself
        if s.pure_noise:
            return lambda level: replace(level, R=level.R * 0.0)
        start = self._log_bracket(s.sigma)

        def less(level: Level) -> Level:
            return replace(level, R=level.R * math.exp(self._log_bracket(level.sigma) - start))

        return less

    def _log_bracket(self, sigma: float) -> float:
        power = sigma**0.3
        return self.strength * (math.log(math.exp(power) + 10.0) if power < 50.0 else power)


@dataclass(frozen=True)
class Consistency(Solver):
    """x̂0, and then all of the next level's noise anew: x_t = A_t x̂0 + R_t z (arXiv 2303.01469,
    algorithm 1; 2310.04378).

    For consistency models, which answer with the end of the state's own path. What other networks
    answer, the mean of all data that may be behind the state, has too little variance, and more
    steps do not mend that: the order is 0.

    Examples:
        >>> plan = flowsolve.plan("lcm", flowsolve.VP(), nfe=4)
        >>> plan.nfe, plan.draws
        (4, 3)
    """

    @property
    def coordinates(self) -> Coordinates:
        return DATA

    @property
    def order(self) -> int:
        return 0

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        check_downward(self, s, t)
        p = ode(x, s)
        end = ode.move(x, s, replace(t, R=t.R * 0.0), p)
        return end + t.R @ ode.noise(), (Evaluation(s, x, p, ode.coordinates), *past)
