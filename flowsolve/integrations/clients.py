"""k-diffusion's sampler signature: ComfyUI, A1111, Forge."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from ..checked import checked, read
from ..denoiser import Denoiser
from ..errors import refused
from ..grids import Explicit
from ..grids.explicit import Time
from ..processes import EDM, Process, RectifiedFlow
from ..sampling import DEFAULT_SOLVER, solve
from ..solvers import find_solver
from ..typing import Float

__all__ = ["kdiffusion"]

#: A sampler of k-diffusion's.
Sampler = Callable[..., Float[Tensor, "n *shape"]]


@checked
def kdiffusion(
    solver: str = DEFAULT_SOLVER,
    *,
    flow: bool,
    noise: Literal["brownian"] | None = None,
    **options: Any,
) -> Sampler:
    """A solver as a sampler of k-diffusion's, a function of (model, x, sigmas, extra_args,
    callback, disable)::

        sampler = flowsolve.integrations.kdiffusion("unipc3", flow=False)
        x = sampler(model, noise * sigmas[0], sigmas, extra_args={"cond": cond})

    ``model(x, sigma, **extra_args)``, sigma (n,), returns the denoised x0. Steps go between the
    ``sigmas``, equal ones merged, and a method of one evaluation a step spends no more than that.
    With 0 at the end the run ends on clean data, else on the last sigma. The state is float32
    whatever the dtype of ``x``, in which the model is asked and the result is. ``callback`` is
    called once for each evaluation, with what k-diffusion's gives: "x", "i" (the number of the
    sigma that was reached), "sigma", "sigma_hat" and "denoised". Noise depends on
    ``extra_args["seed"]``, if there is an integer, and on a draw from torch's global generator
    else.

    Args:
        solver: a name of flowsolve's or of k-diffusion's; "auto" chooses by the number of steps.
        flow: whether x = (1 − σ) x0 + σ ε, as in a rectified flow (Flux, SD3, ComfyUI's CONST), or
            x = x0 + σ ε, as in all others. There is no default: the sigmas do not say, and a
            multistep method in the wrong one is off by percents without a word.
        noise: "brownian" for noise from one path, as k-diffusion's SDE samplers have it: the same
            for any number of steps.
        **options: the solver's.

    Returns:
        The sampler; what it returns has the shape and dtype of ``x``.

    Raises:
        TypeError, ValueError: for a solver or an option there is not, and, when it samples, for
            sigmas that rise, or that a flow does not have.

    Examples:
        >>> sampler = flowsolve.integrations.kdiffusion("unipc3", flow=False)
        >>> unit = lambda x, sigma: x / (1.0 + sigma[:, None] ** 2)  # denoises N(0, 1)
        >>> sigmas = torch.tensor([10.0, 3.0, 1.0, 0.3, 0.0])
        >>> sampler(unit, 10.0 * torch.ones(1, 2), sigmas).shape
        torch.Size([1, 2])
    """
    find_solver(solver, options)  # what cannot be is refused at once

    @torch.no_grad()
    def sampler(
        model: Callable[..., Tensor],
        x: Tensor,
        sigmas: Any,
        extra_args: Mapping[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        disable: bool | None = None,
        **rest: Any,
    ) -> Tensor:
        extra = dict(extra_args or {})
        levels = _falling(sigmas, flow)
        if len(levels) < 2:
            return x
        quiet = min(s for s in levels if s > 0.0)
        process: Process = RectifiedFlow() if flow else EDM(0.5 * quiet, levels[0])
        rising = levels[::-1]

        def net(z: Tensor, sigma: Tensor) -> Tensor:
            x0 = model(z, sigma, **extra)
            if callback is not None:
                told = float(sigma[0]) * (1.0 - 1e-6)
                step = len(levels) - 1 - bisect.bisect_left(rising, told)
                said = {"x": z, "i": max(step, 0), "sigma": sigma[0], "sigma_hat": sigma[0]}
                callback({**said, "denoised": x0})
            return x0

        time = "t" if flow else "sigma"
        shape = tuple(x.shape[1:])
        denoiser = Denoiser(net, process, "x0", shape, time=time, dtype=x.dtype)
        seed = extra.get("seed")
        if not isinstance(seed, int):
            seed = int(torch.randint(2**62, (), device="cpu"))
        n = len(levels) - 1
        method, _ = find_solver(solver, options, n, process)
        run = solve(
            denoiser,
            solver=method,
            nfe=n if method.evaluations == 1 else None,
            grid=Explicit(levels),
            start=x,
            seed=seed % 2**64,
            noise=noise,
        )
        return run.x.to(x.dtype)

    return sampler


def numbers(name: str, values: Any) -> list[float]:
    """Numbers of a list, an array or a tensor. Raises TypeError or ValueError naming it."""
    if isinstance(values, Tensor) and not (values.is_complex() or values.is_meta):
        values = values.detach().double().flatten().tolist()
    return list(read(name, values, tuple[Time, ...]))


def _falling(sigmas: Any, flow: bool) -> tuple[float, ...]:
    """The levels of a run, as numbers, equal ones merged."""
    levels = numbers("sigmas", sigmas)
    kept: list[float] = []
    for sigma in levels:
        if not kept or sigma != kept[-1]:
            kept.append(sigma)
    expected = "falling numbers >= 0" + ", at most 1, as a flow's are" * flow
    if any(b > a for a, b in pairwise(kept)):
        raise ValueError(refused("sigmas", levels, expected))
    top = 1.0 + 1e-5 if flow else float("inf")
    if kept and not (kept[-1] >= 0.0 and 0.0 < kept[0] <= top):
        raise ValueError(refused("sigmas", levels, expected))
    return tuple(min(s, 1.0) if flow else s for s in kept)
