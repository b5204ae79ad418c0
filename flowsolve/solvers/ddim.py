r"""DDIM: Euler's step of the equation, and of its ancestral samplers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

from ..checked import Must, checked
from ..coordinates import DATA, NOISE, Coordinates
from ..errors import Unsuited
from ..processes import Level
from .base import Hold, Solver
from .ode import Evaluation, Ode, Past, V


@checked
@dataclass(frozen=True)
class DDIM(Solver):
    r"""Hold the prediction over the step, x_t = A_t x̂0 + R_t ε̂; with η > 0, to a quieter level
    and noise back.

    :math:`\sigma_\eta^2 = \eta^2 R_t^2(1 - \rho)` with
    :math:`\rho = (\bar\sigma_t/\bar\sigma_s)^2`, and
    :math:`x_t = A_t\hat x_0 + \sqrt{R_t^2 - \sigma_\eta^2}\,\hat\varepsilon + \sigma_\eta z` (arXiv
    2010.02502, eq. 12 and 16). η = 0 is Euler's method on dx̄ = ε̂ dσ̄; η = 1 is DDPM's ancestral
    sampler.

    Attributes:
        eta: how much of the posterior's noise is drawn, 0 … η_max = 1/√(1 − ρ) of the shortest
            step.
        large: add noise of DDPM's larger variance β̂ = R_s²(1 − ρ) instead (the "σ̂" rows of the
            paper's tables).
        coordinates: in which the hold is carried out; the result is the same in all.

    Examples:
        >>> flowsolve.solvers.name_of(flowsolve.solvers.DDIM(eta=1.0))
        'ddpm'
        >>> flowsolve.plan("ddim", flowsolve.VP(), nfe=10, eta=0.5).draws
        9
    """

    eta: Annotated[
        float, Must(lambda v: v >= 0.0, "a number >= 0 (0 is deterministic, 1 is DDPM)")
    ] = 0.0
    large: bool = False
    coordinates: Coordinates = NOISE  # type: ignore[assignment]

    @property
    def order(self) -> int:
        return 1

    def between(self, s: Level, t: Level) -> Solver:
        if not t.clean and self.singular(s, t):
            return replace(self, coordinates=DATA)
        return super().between(s, t)

    def step(self, ode: Ode[V], x: V, s: Level, t: Level, past: Past[V]) -> tuple[V, Past[V]]:
        if self.eta == 0.0:
            return Hold(self.coordinates).step(ode, x, s, t, past)
        if not t.t < s.t:
            raise ValueError(
                f"eta={self.eta!r}: noise can be added on the way down only, but {t} is noisier "
                f"than {s}; use eta=0"
            )
        p = ode(x, s)
        past = (Evaluation(s, x, p, ode.coordinates), *past)
        if self.eta == 1.0 and not self.large:  # the posterior, which every process has
            quiet = replace(t, R=ode.process.bridge(s, t, 1.0))
            return ode.move(x, s, quiet, p) + t.R.excess(quiet.R) @ ode.noise(), past
        if not s.scalar:
            raise Unsuited(
                f"eta={self.eta!r}{', large=True' * self.large}: where A and R are matrices there "
                "is a posterior, eta=1, but no fraction of its noise",
                "solver='gddim' with lam, the noise of the reverse SDE",
            )
        rest = 1.0 - (t.sigma / s.sigma) ** 2  # 1 − ρ
        if self.eta * math.sqrt(rest) > 1.0 + 1e-12:
            raise ValueError(
                f"eta={self.eta!r} asks for more noise than {t} holds, coming from {s}; "
                f"on this step eta can be at most {1.0 / math.sqrt(rest):.6g}"
            )
        quiet = replace(t, R=t.R * math.sqrt(max(0.0, 1.0 - self.eta**2 * rest)))
        added = s.R * math.sqrt(rest) if self.large else t.R * (self.eta * math.sqrt(rest))
        return ode.move(x, s, quiet, p) + added @ ode.noise(), past
