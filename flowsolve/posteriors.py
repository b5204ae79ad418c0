r"""The posterior of the data given a measurement, y = Hx₀ + n, as a denoiser for any solver.

Given the state, x₀ has mean x̂₀ and, by Tweedie's formula, covariance :math:`V=(R^2/A)J` with
:math:`J=\partial\hat x_0/\partial x`. If it is taken for Gaussian, with
:math:`n\sim N(0,\sigma_y^2)`,

.. math::
   \hat x_0' = \hat x_0 + \frac{R^2}{A}J^TH^TS^{-1}(y - H\hat x_0),
   \qquad S = \sigma_y^2 + HVH^T,

and ε̂' is what is left, x = A x̂₀' + R ε̂'. MMPS (arXiv 2405.13712) solves with V itself, by
products with Jᵀ (J is symmetric where x̂₀ is the mean); ΠGDM (Song, Vahdat, Mardani, Kautz, ICLR
2023) with r² in the place of V, :math:`r^2=\bar\sigma^2/(1+\bar\sigma^2)`. Of Gaussian data MMPS is
exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Annotated

import torch
from torch import Tensor

from .around import Around
from .checked import checked
from .denoiser import Denoiser
from .errors import unknown
from .krylov import solved
from .measurements import Map, Measured, NoiseLevel, measurement_of
from .network import Times
from .operators import combine
from .processes import Level, Levels
from .processes.levels import LEAST_SIGNAL
from .readers import Later
from .typing import Float

#: What :func:`posterior` knows.
METHODS = ("mmps", "pgdm")


@checked
def posterior(
    model: Denoiser,
    y: Annotated[Float[Tensor, "*y"], Later("measurement_of")],
    H: Map,
    *,
    noise: NoiseLevel,
    method: str = "mmps",
) -> Denoiser:
    """The denoiser of x₀ given y = Hx₀ + n, n ~ N(0, noise²), for every solver that suits ``model``
    (MMPS, arXiv 2405.13712; ΠGDM, ICLR 2023).

    An evaluation costs one of ``model``, with its gradient, and passes back through its network:
    with "mmps" until the equations are solved to 10⁻⁴, at most as many as y has numbers and at
    most 32; with "pgdm" one. Nothing of this is counted in ``nfe``. Of Gaussian data "mmps" is the
    exact posterior; of others both are approximations, which more evaluations do not mend:
    :func:`flowsolve.smc` is what converges.

    Args:
        model: a denoiser on a process whose A and R are numbers; its network one that autograd can
            differentiate.
        y: what was measured, in the shape of H's result for a sample: one for all samples, or with
            a row for each.
        H: a tensor (m, D) that acts on flattened samples; a mask, a tensor of truth values in a
            sample's shape, that lets the entries through where it is True, in their order (y =
            ``x[:, mask]``); or a linear function of x₀, of a batch to a batch, made of torch's
            operations, each sample by itself.
        noise: σ_y, the standard deviation of the measurement's noise, in the data's units.
        method: "mmps", or "pgdm" (ΠGDM).

    Returns:
        A denoiser of ``model``'s shape, on its process.

    Raises:
        TypeError, ValueError: for arguments that do not fit, for a function that is not linear or
            not of each sample by itself, and for a model with ``correct_x0``, whose x̂₀ is no mean:
            correct what comes out, ``dataclasses.replace(posterior(...), correct_x0=...)``.
        Unsuited: for processes whose A and R are matrices.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> y, H = torch.tensor([1.0]), torch.tensor([[1.0, 0.0]])  # the first number, measured
        >>> given = flowsolve.posterior(model, y, H, noise=0.5)
        >>> flowsolve.sample(given, nfe=20, n=2000, seed=0).mean(0).round(decimals=1)
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    if method not in METHODS:
        text = unknown("method", method, METHODS)
        sampler = " 'smc' is a sampler and no denoiser: flowsolve.smc(model, y, H, noise=...)"
        raise ValueError(text + sampler * (method == "smc"))
    return Posterior.given_that(model, measurement_of(model, y, H), noise, method)


@dataclass(frozen=True, eq=False)
class Posterior(Around):
    """A denoiser of x₀ given a measurement; :func:`posterior` makes it."""

    _: KW_ONLY
    measure: Callable[[Tensor], Tensor]
    noise: float
    method: str
    #: The measurement (1, *m) of all samples, or by what those of each are known in the
    #: conditioning.
    told: Tensor | str

    @property
    def y(self) -> Float[Tensor, "rows *m"]:
        """The measurement, in float64, with a row for each sample or one for all."""
        return self.conditioning[self.told] if isinstance(self.told, str) else self.told

    @classmethod
    def given_that(
        cls, model: Denoiser, measured: Measured, noise: float, method: str
    ) -> Posterior:
        """The one of what was measured."""
        if model.correct_x0 is not None:
            raise ValueError(
                f"model has correct_x0={model.correct_x0!r}: its x0 is no mean, whose derivative "
                "is the covariance; expected a model without, and the correction on the result: "
                "dataclasses.replace(posterior(...), correct_x0=...)"
            )
        how = {"measure": measured.by, "noise": noise, "method": method}
        if not measured.each:
            return cls.of(model, {}, told=measured.y, **how)
        # There may be a posterior inside, with measurements of its own.
        inside = sum(key.startswith("measured y") for key in model.conditioning)
        name = f"measured y {inside}" if inside else "measured y"
        return cls.of(model, {name: measured.y}, (name,), told=name, **how)

    def changed(
        self, inside: Denoiser, x: Float[Tensor, "n *state"], level: Level, times: Times
    ) -> tuple[Float[Tensor, "n *state"], Float[Tensor, "n *state"] | None]:
        graph = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            look = Look(self, inside, x, level, times, graph)
            if self.method == "mmps":
                shift = solved(look.product, look.misfit, self.noise**2)[1]
            else:
                shift = look.pulled(solved(look.spread, look.misfit, self.noise**2)[0])
            out, learned = look.answer(shift), look.learned
        if graph or learned is None:
            return out if graph else out.detach(), learned
        return out.detach(), learned.detach()


class Look:
    """One evaluation of the denoiser inside, and what can be computed from its derivative.

    Where no signal is left, A = 0, x̂₀ does not depend on x and V = (R²/A)J is 0/0. There, and where
    as good as none is left, the denoiser is asked at the same noise on the level of A/R = 10⁻³,
    whose x̂₀ and V differ by about that much.

    Attributes:
        x0: x̂₀, with its graph.
        misfit: y − Hx̂₀ in float64, (n, m).
        learned: the v of a learned variance, or None.
    """

    def __init__(
        self,
        model: Posterior,
        inside: Denoiser,
        x: Tensor,
        level: Level,
        times: Times,
        graph: bool,
    ) -> None:
        self.measure, self.inside, self.level, self.graph = model.measure, inside, level, graph
        self.state, self.at = x, _with_signal(model, level)
        if self.at is not level:
            # Samples on levels of their own may be elsewhere, and are then left as they are.
            here = [old is new for old, new in zip(level.each, self.at.each, strict=True)]
            self.here = torch.tensor(here, device=x.device).view(-1, *[1] * (x.ndim - 1))
            x = torch.where(self.here, x, (self.at.R @ level.R.inverse()) @ x)
            (times,) = inside.times([self.at], x)
        # Clones, for what inference mode made cannot be differentiated.
        self.x = x if graph and x.requires_grad else x.detach().clone().requires_grad_()
        self.out, self.learned = inside.evaluate_both(self.x, self.at, times.clone())
        if not self.out.requires_grad:
            raise ValueError(
                "model: its network's answer has no gradient with respect to the state (computed "
                "under torch.no_grad or outside torch?); expected one that autograd can "
                "differentiate"
            )
        self.x0 = combine(inside.linear(self.at).x0, (self.x, self.out))
        self.seen = self.measure(self.x0)
        misfit = (model.y.to(x.device) - self.seen.double()).flatten(1)
        self.misfit = misfit if graph else misfit.detach()

    def pulled(self, w: Float[Tensor, "n m"]) -> Float[Tensor, "n *state"]:
        """V Hᵀ w = (R²/A) Jᵀ Hᵀ w, in float64: a pass back through the network."""
        return (self.at.R @ self.at.R @ self.at.A.inverse()) @ self._back(self.x, w)

    def product(self, w: Float[Tensor, "n m"]) -> tuple[Float[Tensor, "n m"], Tensor]:
        """(H V Hᵀ w, V Hᵀ w)."""
        shift = self.pulled(w)
        return self._measured(shift), shift

    def spread(self, w: Float[Tensor, "n m"]) -> tuple[Float[Tensor, "n m"], Tensor]:
        """(r² H Hᵀ w, r² Hᵀ w), without the network."""
        a, r = self.at.A @ self.at.A, self.at.R @ self.at.R
        shift = (r @ (a + r).inverse()) @ self._back(self.x0, w)
        return self._measured(shift), shift

    def moved(self, shift: Float[Tensor, "n *state"]) -> Float[Tensor, "n *state"]:
        """x̂₀ + shift."""
        return (self.x0 if self.graph else self.x0.detach()) + shift.to(self.x0.dtype)

    def answer(self, shift: Float[Tensor, "n *state"]) -> Float[Tensor, "n *state"]:
        """What the denoiser returns if its x̂₀ is x̂₀ + shift."""
        of_x, of_out = self.inside.linear(self.level).x0
        out = self.out + of_out.inverse() @ shift.to(self.out.dtype)  # nothing cancels
        if self.at is self.level:
            return out
        elsewhere = of_out.inverse() @ (self.moved(shift) - of_x @ self.state)
        return torch.where(self.here, out, elsewhere)

    def _back(self, of: Tensor, w: Tensor) -> Tensor:
        w = w.to(self.seen.dtype).view(self.seen.shape)
        kept = {"retain_graph": True, "create_graph": self.graph}
        return torch.autograd.grad(self.seen, of, w, **kept)[0].double()

    def _measured(self, shift: Tensor) -> Tensor:
        return self.measure(shift.to(self.x0.dtype)).flatten(1).double()


def _with_signal(model: Denoiser, level: Level) -> Level:
    """``level``, or the one with a little signal in its place."""
    if not level.drowned:
        return level
    if isinstance(level, Levels):
        return Levels(_with_signal(model, each) for each in level.each)
    return model.process.at("sigma", 1.0 / LEAST_SIGNAL)
