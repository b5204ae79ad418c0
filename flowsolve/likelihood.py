r"""The likelihood that a model gives to data: what the ODE does to volumes.

With :math:`\tilde x = P^{-1}x`, u and p of FLOW coordinates the ODE is :math:`d\tilde x = p\,du`,
and along it (arXiv 1806.07366; 2011.13456, appendix D.2)

.. math::
   \ln p(x_q) = \ln p_T(x_T) + D\ln\frac{P_T}{P_q}
   + \int_{u_q}^{u_T} P\,\mathrm{tr}\frac{\partial p}{\partial x}\,du ,

D being the size of a sample. The integral is one more component of the state, whose p is the
integrand: every solver that integrates the state integrates it as well, with its order. The trace
is had from D vector-Jacobian products, or as the mean of :math:`v^TJv` over random signs v
(Hutchinson), each of which has an integral of its own.

Below the quietest level q the network was not trained. What is reported is the density, at the
data, of data with the noise of that level, :math:`x_q/A_q`: with :math:`D\ln A_q` more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from inspect import signature
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor

from .checked import Count, Positive, checked, read
from .checks import AnyGrid, AnySolver, check_rows
from .coordinates import FLOW
from .denoiser import Denoiser
from .encoding import check_upward
from .errors import Unsuited, refused, shown, unknown
from .finite import check_finite
from .grids import Explicit, find_grid
from .noise import Seed, Stream, check_seeds
from .processes import FLOW_TIME, Level, Process, numbers
from .readers import Later, Must
from .run import integrate
from .solvers import RungeKutta, Tableau
from .starts import Number, check_state
from .typing import Float
from .volume import Volume

#: Evaluations of the default, 40 steps of twelve: mixtures of variances .02 and more to 1e-6 nats.
EVALUATIONS, STAGES = 480, 12
#: How the default's steps lie: u − u_q as this power of their number, short ones near the data.
POWER = 1.5
Several = Annotated[int, Must(lambda k: k >= 2, "an integer >= 2, for a standard error")]
#: The log density of the start of a run downward: (n, *shape) to (n,), in nats.
Prior = Callable[[Float[Tensor, "n *shape"]], Float[Tensor, "n"]]


class Likelihood(NamedTuple):
    """What :func:`log_likelihood` found.

    Attributes:
        nats: ln p of each sample, (n,), float64.
        stderr: its standard error as far as the random probes go, (n,); None of the exact trace.
        nfe: evaluations of the denoiser.
        latent: x_T, where the data go, (n, *shape).

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> found = flowsolve.log_likelihood(model, torch.zeros(3, 2), solver="unipc3", nfe=20)
        >>> found.nats.shape, found.bits(1 / 128).shape, found.nfe
        (torch.Size([3]), torch.Size([3]), 20)
    """

    nats: Float[Tensor, "n"]
    stderr: Float[Tensor, "n"] | None
    nfe: int
    latent: Float[Tensor, "n *shape"]

    @checked
    def bits(self, width: Positive) -> Float[Tensor, "n"]:
        """Bits per dimension of data that were rounded to bins of this width, in the units of x,
        and spread evenly over them again: (−nats/D)/ln 2 − log₂ width, (n,). Eight bits in [−1, 1)
        have a width of 1/128."""
        size = self.latent[0].numel()
        return -self.nats / (size * math.log(2.0)) - math.log2(width)


@checked
def log_likelihood(
    model: Denoiser,
    x: Annotated[Float[Tensor, "n *shape"], Later("check_state")],
    *,
    solver: AnySolver | None = None,
    nfe: Count | None = None,
    grid: AnyGrid = None,
    divergence: Literal["exact", "hutchinson"] = "exact",
    n_probes: Annotated[int | None, Later("_probes")] = None,
    seed: Annotated[Seed | None, Later("noise.check_seeds")] = None,
    first: Number = 0,
    prior: Prior | None = None,
    progress: bool = False,
    differentiable: bool = False,
    **options: Any,
) -> Likelihood:
    """ln p(x) of data under the model's ODE, in nats, as a :class:`Likelihood` (arXiv 1806.07366;
    2011.13456, appendix D.2).

    It is the density of x with the noise of the quietest level that the model is asked at
    (``process.t_min``). The other end is taken for N(0, R_T²), as samplers do; what a model really
    comes to there is a little different on processes that keep some signal (4·10⁻³ nats for two
    dimensions on ``VP()``), which no solver mends, and ``prior`` does.

    An evaluation costs one of the network, and a pass back through it for each number of a sample
    (all of them at once where torch can, ``torch.func.vmap``), or for each probe.

    Args:
        x: data, (n, *shape).
        solver: by default steps of DOP853's order 8, the same for all data, on a grid of their own:
            mixtures of variances of 0.02 and more to 10⁻⁶ nats in 40 of them. Else a deterministic
            solver as in :func:`flowsolve.encode`, "scipy:DOP853" with its tolerances among them.
        nfe: evaluations, by default 480, a multiple of 12 for the default solver. Of another solver
            as in :func:`flowsolve.solve`.
        grid, progress, differentiable, options: as in :func:`flowsolve.encode`; ``differentiable``
            keeps the graph, to x, conditioning and the network's parameters.
        divergence: "exact", or "hutchinson": fresh random signs for every step, or, with a method
            that chooses its own steps, the same signs throughout.
        n_probes: of "hutchinson", 2 or more (default 8): ``stderr`` is their spread over √n_probes.
        seed, first: the signs of sample i are of (seed, first + i) alone.
        prior: the log density at the noisy end, a function of x_T, (n, *shape), to (n,).

    Returns:
        The nats of each sample, (n,), with their standard error, the evaluations and x_T.

    Raises:
        TypeError, ValueError, BudgetExceeded, NonFiniteError: as :func:`flowsolve.encode`; for a
            model with ``correct_x0`` (what is clamped has no density), and a network without
            derivatives.
        Unsuited: for processes whose A and R are matrices.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> found = flowsolve.log_likelihood(model, torch.tensor([[0.0, 1.0]]))
        >>> round(found.nats.item(), 2)  # at the mean: −ln 2π − ln 0.25
        -0.45
    """
    process, probes = model.process, _probes(divergence, n_probes)
    if not process.scalar:
        raise Unsuited(
            f"A and R of {process!r} are matrices, and the change of volume is derived for numbers",
            "a process of numbers, such as flowsolve.VP()",
        )
    _check_uncorrected(model)
    x = check_state(model, "x", x, model.shape, data=True)
    check_finite("x", x)
    model, seed = check_rows(model.in_run(), first, len(x)), check_seeds(seed)
    if not isinstance(seed, int) and len(seed) != len(x):
        raise ValueError(refused("seed", seed, f"an integer, or one for each of {len(x)} samples"))
    if solver is None:
        for name in options:
            known = [each for each in signature(log_likelihood).parameters if each != "options"]
            more = " (the default solver has no options: give a solver= for its own)"
            raise TypeError(unknown("argument", name, known) + more)
        if grid is not None:
            raise ValueError(
                f"grid={grid!r} is for a solver: expected solver= as well, since the default has a "
                "grid of its own"
            )
        how: tuple[Any, ...] = (*_default(process, nfe), (None, None), {})
    else:
        explicit = isinstance(grid and find_grid(grid, process), Explicit)
        how = (solver, nfe, grid, (None, None if explicit else process.t_min), options)
    run = check_upward(process, *how, about=model.about)
    quiet, noisy = run.levels[0], run.levels[-1]
    if quiet.clean:
        raise ValueError(f"grid={grid!r} ends on clean data; expected one down to {process.t_min}")
    stream = None
    if probes is not None:
        shape, samples = (probes * x[0].numel(),), range(first, first + len(x))
        stream = Stream(seed, samples, shape, torch.float64, x.device)
    inside = Volume.around(model, x, stream, run)
    (a, r), (a_t, r_t), size = numbers(quiet), numbers(noisy), x[0].numel()
    start = torch.zeros(len(x), (probes or 1), dtype=torch.float64, device=x.device)
    start = torch.cat([a * x.flatten(1).double(), start], 1)
    watched: dict[str, Any] = {"progress": progress, "differentiable": differentiable}
    found = integrate(inside, run, start, nfe, lambda k: start, None, **watched)
    latent, volumes = found.x[:, :size].view(x.shape), found.x[:, size:] / (a_t + r_t)
    stderr = None if probes is None else volumes.std(1) / math.sqrt(probes)
    nats = _log_prior(process, noisy, latent, prior) + volumes.mean(1)
    nats = nats + size * math.log((a_t + r_t) / (a + r) * a)
    return Likelihood(nats, stderr, found.nfe, latent.to(x.dtype))


def _probes(divergence: str, n_probes: Any) -> int | None:
    """How many random probes, None for the exact trace."""
    if divergence == "exact":
        if n_probes is not None:
            raise ValueError(f"n_probes={n_probes!r}: expected None unless divergence='hutchinson'")
        return None
    return read("n_probes", 8 if n_probes is None else n_probes, Several)


def _check_uncorrected(model: Denoiser) -> None:
    inner: Any = model
    while inner is not None:
        if inner.correct_x0 is not None:
            raise ValueError(
                f"model has correct_x0={inner.correct_x0!r}: what is clamped has no density; "
                "expected a model without, dataclasses.replace(model, correct_x0=None)"
            )
        inner = getattr(inner, "inner", None)


def _log_prior(process: Process, noisy: Level, x: Tensor, prior: Prior | None) -> Tensor:
    """The log density of x_T, (n,) in float64."""
    if prior is None:
        root, size = float(process.prior(noisy).entries), x[0].numel()
        nats = -0.5 * (x.flatten(1) / root).square().sum(1)
        return nats - size * (math.log(root) + 0.5 * math.log(2.0 * math.pi))
    nats = prior(x)
    if not isinstance(nats, Tensor) or nats.shape != (len(x),) or not nats.is_floating_point():
        raise ValueError(f"prior: it gave {shown(nats)}; expected a tensor of shape ({len(x)},)")
    return nats.double()


@cache
def _eighth() -> RungeKutta:
    """DOP853's method of order 8, whatever its error estimates say."""
    from scipy.integrate import DOP853

    a = tuple(tuple(row[:k].tolist()) for k, row in enumerate(DOP853.A))
    return RungeKutta(Tableau(8, tuple(DOP853.C.tolist()), a, tuple(DOP853.B.tolist())), FLOW)


def _default(process: Process, nfe: int | None) -> tuple[RungeKutta, None, Explicit]:
    nfe = EVALUATIONS if nfe is None else nfe
    if not STAGES <= nfe <= 10_000:
        raise ValueError(f"nfe={nfe}: expected {STAGES} to 10000, twelve for each step")
    quiet, n = process.level(process.t_min), nfe // STAGES
    u, u_t = FLOW_TIME.of(quiet), FLOW_TIME.of(process.start)
    inner = (process.at(FLOW_TIME, u + (u_t - u) * (k / n) ** POWER).t for k in range(n - 1, 0, -1))
    return _eighth(), None, Explicit((process.start.t, *inner, quiet.t))
