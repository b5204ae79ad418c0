r"""Sequential Monte Carlo for the posterior given a measurement: right for any data, in the limit.

Twisted diffusion sampling (arXiv 2306.17775). Particles go down the levels by DDPM's steps with
the guided estimate x̂₀' of :mod:`flowsolve.posteriors`. A step from s to t proposes
:math:`x_t\sim N(\mu', v)` where the model says :math:`N(\mu, v)`, and weights make up for it,

.. math::
   \log w \mathrel{+}= \log\frac{N(x_t;\mu,v)}{N(x_t;\mu',v)}
   + \log\tilde p(y\mid x_t) - \log\tilde p(y\mid x_s),
   \qquad \tilde p(y\mid x) = N(y; H\hat x_0, S),

with MMPS's S, which becomes the likelihood itself at the quietest level. What is left to err are
the steps, which take p(x_s | x_t) for Gaussian, and the number of particles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor

from . import conditioning as conditions
from .checked import Count, OneSeed, checked
from .checks import AnyGrid, check_layout
from .denoiser import Denoiser
from .finite import finite, non_finite
from .krylov import doubt
from .measurements import Map, NoiseLevel, measurement_of
from .noise import Place, Stream, check_seed
from .posteriors import Look, Posterior
from .processes import Level
from .readers import Later
from .starts import Samples
from .typing import Float

#: The most numbers that y may have: each costs a product an evaluation.
MOST = 1024


@dataclass(frozen=True, eq=False)
class Particles:
    """Weighted samples: a mean of f over the posterior is ``(weights @ f(x))``.

    Attributes:
        x: the samples, (particles, *shape).
        weights: of each, (particles,), float64, adding up to 1.
        ess: the effective number of particles 1/Σw² after each evaluation, (nfe,), before they
            were drawn again.
        log_evidence: an estimate of log p(y), in nats.
        nfe: denoiser evaluations spent, each of all particles and of as many passes back through
            the network, and one more, as y has numbers.
        seed: what the noise was drawn from.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> y, H = torch.tensor([1.0]), torch.tensor([[1.0, 0.0]])
        >>> found = flowsolve.smc(model, y, H, noise=0.5, nfe=10, seed=0)
        >>> found.x.shape, found.weights.shape, found.ess.shape
        (torch.Size([64, 2]), torch.Size([64]), torch.Size([10]))
    """

    x: Float[Tensor, "n *shape"]
    weights: Float[Tensor, "n"]
    ess: Float[Tensor, "nfe"]
    log_evidence: float
    nfe: int
    seed: int


@checked
def smc(
    model: Denoiser,
    y: Annotated[Float[Tensor, "*y"], Later("measurement_of")],
    H: Map,
    *,
    noise: NoiseLevel,
    particles: Samples = 64,
    nfe: Count = 100,
    grid: AnyGrid = None,
    seed: Annotated[OneSeed | None, Later("check_seed")] = None,
) -> Particles:
    """Weighted samples of the posterior of x₀ given y = Hx₀ + n, by twisted sequential Monte Carlo,
    which for any data tends to the posterior as ``particles`` and ``nfe`` grow.

    Particles are drawn again, systematically, where fewer than half are effective. They depend on
    one another: what is independent are runs with different seeds.

    Args:
        model, y, H, noise: as in :func:`flowsolve.posterior`; one measurement, for all particles.
        particles: how many.
        nfe: the number of evaluations, each of all particles; each also passes back through the
            network once for each number in y (at most 1024), and once more.
        grid: the levels, as in :func:`flowsolve.solve`, down to clean data.
        seed: particle i's noise depends on (seed, i) alone, which are drawn again on all.

    Returns:
        The particles, (particles, *shape), with their weights and an estimate of log p(y).

    Raises:
        TypeError, ValueError: as :func:`flowsolve.posterior`, and for a model or a y with a row for
            each sample.
        NonFiniteError: the network returned NaN or Inf.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> y, H = torch.tensor([1.0]), torch.tensor([[1.0, 0.0]])
        >>> found = flowsolve.smc(model, y, H, noise=0.5, particles=1000, nfe=50, seed=0)
        >>> abs(found.log_evidence - -1.57) < 0.1  # log N(1; 0, 0.25 + 0.5²)
        True
    """
    measured = measurement_of(model, y, H)
    if measured.each:
        raise ValueError(f"y has {len(measured.y)} rows; expected one measurement: call for each")
    if measured.y.numel() > MOST:
        raise ValueError(
            f"y has {measured.y.numel()} numbers, each of which costs a pass back through the "
            f"network in every evaluation; expected at most {MOST}"
        )
    if conditions.count(model.conditioning, model.per_sample) is not None:
        raise ValueError(
            f"model: {', '.join(model.per_sample or ())} has a row for each sample; expected what "
            "is the same for all particles"
        )
    post = Posterior.given_that(model.in_run(), measured, noise, "mmps")
    *levels, end = check_layout(post.process, "ddpm", nfe, grid, (None, None), {}).levels
    if not end.clean:
        raise ValueError(f"grid={grid!r} ends at {end}; expected one down to clean data")
    return _run(post, levels, particles, check_seed(seed))


def _run(post: Posterior, levels: list[Level], n: int, seed: int) -> Particles:
    dtype, device = post.state_dtype, post.y.device
    process, stream = post.process, Stream(seed, range(n), post.state_shape, dtype, device)
    x = process.prior(levels[0]) @ stream.numbered(0)
    view = _View.of(post, x, levels[0])
    log_w, log_evidence = view.log_p, view.log_p.new_zeros(())
    ess = [_effective(log_w)]
    for s, t in pairwise(levels):
        again = 2.0 * ess[-1] < n
        rows = torch.where(again, _drawn(log_w, seed, s), torch.arange(n, device=device))
        log_evidence = log_evidence + torch.where(again, _log_mean(log_w), 0.0)
        log_w = torch.where(again, 0.0, log_w)
        x, x0, shift, log_p = (part[rows] for part in (x, view.x0, view.shift, view.log_p))
        # Down to q and up again, as DDPM does; ε̂' is ε̂ less R⁻¹A times the shift.
        q = process.bridge(s, t, 1.0)
        fresh, back = t.R.excess(q), q @ s.R.inverse()
        z = stream.at(Place(s.t, 0))
        gap = (t.A - back @ s.A) @ shift
        x = t.A @ x0 + back @ (x - s.A @ x0) + gap + fresh @ z
        pull, z = ((fresh.inverse() @ gap).flatten(1).double(), z.flatten(1).double())
        view = _View.of(post, x, t)
        log_w = log_w + view.log_p - log_p - (0.5 * pull * pull + pull * z).sum(1)
        ess.append(_effective(log_w))
    return Particles(
        x=process.data(view.x0 + view.shift),
        weights=log_w.softmax(0),
        ess=torch.stack(ess),
        log_evidence=float(log_evidence + _log_mean(log_w)),
        nfe=len(levels),
        seed=seed,
    )


@dataclass(frozen=True)
class _View:
    """What particles see on a level: x̂₀, what MMPS adds to it, and log p̃(y|x), (n,)."""

    x0: Tensor
    shift: Tensor
    log_p: Tensor

    @classmethod
    def of(cls, post: Posterior, x: Tensor, level: Level) -> _View:
        (times,) = post.times([level], x)
        with torch.inference_mode(False), torch.enable_grad():
            look = Look(post, post.inside, x, level, times, graph=False)
            misfit = look.misfit
            m, one = misfit.shape[1], torch.zeros_like(misfit)
            columns = []
            for j in range(m):
                unit = one.index_fill(1, torch.tensor([j], device=x.device), 1.0)
                columns.append(look.product(unit)[0])
            small = torch.stack(columns, 2)
            x0 = look.moved(torch.zeros_like(look.x0.detach()))
            if not (finite(x0) and finite(small)):
                raise non_finite(x0, [level])
            eye = torch.eye(m, dtype=small.dtype, device=x.device)
            more = post.noise**2 + doubt(small)
            root = torch.linalg.cholesky(0.5 * (small + small.mT) + more[:, None, None] * eye)
            weight = torch.cholesky_solve(misfit[..., None], root)[..., 0]
            shift = look.pulled(weight).to(x0.dtype)
            half_log = root.diagonal(dim1=1, dim2=2).log().sum(1)
            log_p = -0.5 * (misfit * weight).sum(1) - half_log - 0.5 * m * math.log(2.0 * math.pi)
        return cls(x0, shift, log_p)


def _drawn(log_w: Tensor, seed: int, level: Level) -> Tensor:
    """The particles drawn again, systematically: with one uniform number."""
    n = len(log_w)
    stream = Stream(seed, range(1), (1,), torch.float64, log_w.device)
    u = torch.special.ndtr(stream.at(Place(level.t, 1)).view(()))
    places = (u + torch.arange(n, dtype=log_w.dtype, device=log_w.device)) / n
    return torch.searchsorted(log_w.softmax(0).cumsum(0), places).clamp(max=n - 1)


def _effective(log_w: Tensor) -> Tensor:
    return 1.0 / log_w.softmax(0).square().sum()


def _log_mean(log_w: Tensor) -> Tensor:
    return log_w.logsumexp(0) - math.log(len(log_w))
