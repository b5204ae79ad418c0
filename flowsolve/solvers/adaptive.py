r"""Steps of a length that the error decides, for every sample by itself.

In DATA coordinates the equation is :math:`d(x/R) = \hat x_0\,d(A/R)`. With
:math:`\mu = \log(1 + 1/\bar\sigma)`, where :math:`A/R = e^\mu - 1`,

.. math:: x_t = \frac{R_t}{R_s}x_s + R_t\int_{\mu_s}^{\mu_t} e^\mu\,\hat x_0\,d\mu .

μ is λ = −log σ̄ where little noise is left and 1/σ̄ where much is, so pure noise is its zero and
not −∞. It is minus the logarithm of the rectified flow's time. For x̂0 a straight line in μ the
integral is known: over a step of length h the line counts as its value at the fraction

.. math::
   \rho(h) = \frac{\int_0^1 u\,e^{hu}du}{\int_0^1 e^{hu}du} = \frac{1}{1 - e^{-h}} - \frac1h .

Let :math:`D_{s\to t}(p) = \tfrac{R_t}{R_s}x_s + (A_t - \tfrac{R_t}{R_s}A_s)\,p` hold p, and let p₁,
p₂, p₃ be the evaluations at s, a third and two thirds of the step:

.. math::
   x_{1/3} = D(p_1),\quad
   x_{2/3} = D\bigl(p_1 + 2\rho(\tfrac23h)(p_2 - p_1)\bigr),\quad
   x_t = D\bigl(p_1 + \tfrac32\rho(h)(p_3 - p_1)\bigr),\quad
   \tilde x_t = D\bigl(p_1 + 3\rho(h)(p_2 - p_1)\bigr).

x_t is of order three: the method of Hochbruck and Ostermann (SIAM J. Numer. Anal. 43, 2005, eq.
5.8), whose conditions hold for any h. x̃_t is of order two, and their difference, a multiple of p₁
− 2p₂ + p₃, estimates the error. The evaluation at the accepted end is the next step's first, and a
rejected step keeps its first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checked import Positive, checked
from ..coordinates import DATA, Coordinates
from ..operators import Rows
from ..processes import Level, Levels, Variable
from .base import Solver
from .ends import Ends
from .ode import Evaluation, Ode, Past
from .walk import MU, SHORTEST, Walk


@checked
@dataclass(frozen=True)
class Adaptive(Solver):
    """The pair of orders 2 and 3 in the module's text (Hochbruck & Ostermann 2005, eq. 5.8), with
    step size, acceptance and history for every sample by itself.

    A step is accepted if the root mean square, over the sample's elements, of error / (atol + rtol
    max(|x_s|, |x_t|)) is at most one, all measured on x/√(A² + R²). So scaled a state has about the
    size of the data and unit noise at every level, and the tolerances mean the same on every
    process: rtol bounds the error of a step relative to the state, and the error of a run is about
    as large. What other samples do changes nothing. The order of the sums is fixed too, so with a
    network whose result for a sample does not depend on the batch the result of a run is the same
    to the bit in any batch.

    A call of the network is the next evaluation of every sample, each on its own level. Samples
    that have arrived leave the batch once they are half of it. ``nfe`` counts calls and is the
    number of evaluations of the slowest sample.

    The network may be differentiated through the accepted steps, whose lengths are then constants.

    Attributes:
        rtol, atol: relative and absolute tolerance on a step's error.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> how = {"solver": "adaptive", "seed": 0}
        >>> loose, tight = (flowsolve.solve(model, rtol=rtol, **how) for rtol in (1e-2, 1e-4))
        >>> loose.nfe < tight.nfe
        True
    """

    rtol: Positive = 1e-3
    atol: Positive = 1e-3
    fixed = False

    @property
    def coordinates(self) -> Coordinates:
        return DATA

    @property
    def variable(self) -> Variable:
        return MU

    @property
    def order(self) -> int:
        return 3

    @property
    def evaluations(self) -> None:
        return None

    def between(self, s: Level, t: Level) -> Solver:
        return Ends(self) if s.clean or t.clean else self

    def rules(self, levels: Sequence[Level], budget: int | None) -> list[Solver]:
        _ = levels[0].sigma  # refused where there is none, before anything is evaluated
        return super().rules(levels, budget)

    def step(self, ode: Ode[Any], x: Any, s: Level, t: Level, past: Past[Any]) -> Any:
        """Every sample from s to t. Raises RuntimeError, naming the sample, if a step has to be too
        short to be made."""
        # A first step of this length errs by about the tolerance if x̂0 is as curved in μ as the
        # data are wide.
        strides = past[0].taken if past else [(self.rtol + self.atol) ** (1 / 3)] * len(x)
        walks = [Walk(ode.process, s, t, stride) for stride in strides]
        y = first = change = x  # where the samples are asked next; p₁ and p₂ − p₁ of their steps
        while any(walk.made < 3 for walk in walks):
            p = ode(y, Levels(walk.asked[walk.made] for walk in walks))
            made = torch.tensor([walk.made for walk in walks], device="cpu")
            first = _choose(made == 0, p, first)
            latest = p - first
            carry, gain, weight, unit_s, unit_t = _columns(walk.rows[walk.made] for walk in walks)
            y = carry @ x + gain @ (first + weight @ latest)
            ends = made == 2
            for walk in walks:
                walk.made += walk.made < 2
            if ends.any():
                with torch.no_grad():
                    size = torch.maximum((unit_s @ x).abs(), (unit_t @ y).abs())
                    error = (
                        (unit_t @ gain @ weight)
                        @ (latest - 2.0 * change)
                        / (self.atol + self.rtol * size)
                    )
                    errors = [math.sqrt(mean) for mean in _row_means(error.square())]
                accepted = ends & torch.tensor([error <= 1.0 for error in errors], device="cpu")
                rejected = ends & ~accepted
                for number in ends.nonzero().flatten().tolist():
                    if not walks[number].judge(errors[number]):
                        raise RuntimeError(
                            f"solver='adaptive' gave up on sample {number} at "
                            f"{walks[number].here}: its step would have to be shorter "
                            f"than {SHORTEST:g}; the network jumps or explodes there. Loosen "
                            f"rtol={self.rtol} and atol={self.atol}"
                        )
                x = _choose(accepted, y, x)
                if rejected.any():
                    carry, gain, *_ = _columns(walk.rows[0] for walk in walks)
                    y = _choose(rejected, carry @ x + gain @ first, y)
                running = torch.tensor([walk.made < 3 for walk in walks], device="cpu")
                here = [walk.here for walk in walks]
                if ode.evaluator.judged(x, here, accepted, rejected, running):
                    break
            change = _choose(made == 1, latest, change)
        strides, nowhere = [walk.stride for walk in walks], None
        past = (Evaluation[Any](t, nowhere, nowhere, ode.coordinates, strides),)
        return x, past


def _columns(rows: Iterable[Sequence[float]]) -> list[Rows]:
    return [Rows(column) for column in np.array(list(rows)).T]


def _choose(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The samples of ``a`` where ``mask`` (n,), on the CPU, is True, else those of ``b``."""
    if mask.all():
        return a
    return torch.where(mask.to(a.device).view(-1, *[1] * (a.ndim - 1)), a, b) if mask.any() else b


def _row_means(x: Tensor) -> list[float]:
    """The mean of each sample's elements, by halving: torch's sums may add in another order in a
    batch of another size."""
    x = x.flatten(1)
    size = x.shape[1]
    while (width := x.shape[1]) > 1:
        half = (width + 1) // 2
        x, rest = x[:, :half].clone(), x[:, half:]
        x[:, : width - half] += rest
    return [total / size for total in x.flatten().tolist()]
