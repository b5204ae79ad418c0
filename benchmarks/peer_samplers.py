"""The samplers of diffusers and azula, and iPNDM, each a function of the denoiser, the start, the
levels and how many steps."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from laws import F64
from peer_runs import Denoise, Levels, Run
from torch import Tensor

#: azula's smallest noise.
SMALLEST = 1e-3


#: What a scheduler is told of the process when it is made.
TOLD: dict[str, Callable[[Levels], dict[str, Any]]] = {
    "table": lambda levels: {"trained_betas": levels.betas},
    "ends": lambda levels: {"sigma_max": levels.ends[0], "sigma_min": levels.ends[1]},
    "nothing": lambda levels: {},
}


@cache
def _made(cls: Any, levels: Levels, told: str, options: frozenset[tuple[str, Any]]) -> Any:
    known = inspect.signature(cls.__init__).parameters
    arguments = {**TOLD[told](levels), **dict(options)}
    missing = set(arguments) - set(known)
    if missing:  # a grid's option that it does not have means that it does not have the grid
        raise ValueError(f"{cls.__name__} has no {missing}")
    return cls(**arguments)


def _scheduler(cls: Any, levels: Levels, told: str, steps: int, **options: Any) -> Any:
    """A scheduler of diffusers at the beginning of a run. Some take a second to be made, so each is
    made once; ``set_timesteps`` makes it forget the run before."""
    scheduler = _made(cls, levels, told, frozenset(options.items()))
    scheduler.set_timesteps(steps)
    return scheduler


def in_vp_frame(cls: Any, **options: Any) -> Run:
    """Schedulers whose state has A² + R² = 1 and whose σ̄ are in ``sigmas``."""

    def run(denoise: Denoise, start: Tensor, levels: Levels, steps: int) -> Tensor:
        scheduler = _scheduler(cls, levels, "table", steps, prediction_type="sample", **options)
        flow = options.get("use_flow_sigmas", False)
        x = start / levels.ends[0]  # as the scheduler takes it: noise of variance one
        for i, t in enumerate(scheduler.timesteps):
            s = float(scheduler.sigmas[i])
            signal, sigma = (1.0 - s, s / (1.0 - s)) if flow else (1.0 / math.hypot(1.0, s), s)
            x = scheduler.step(denoise(x.double() / signal, sigma), t, x).prev_sample
        last = float(scheduler.sigmas[-1])
        return x * ((1.0 - last) ** -1 if flow else math.hypot(1.0, last))

    return run


def in_sigma_frame(cls: Any, **options: Any) -> Run:
    """Schedulers whose state has A = 1."""

    def run(denoise: Denoise, start: Tensor, levels: Levels, steps: int) -> Tensor:
        scheduler = _scheduler(cls, levels, "table", steps, prediction_type="epsilon", **options)
        x = start
        for t in scheduler.timesteps:
            scheduler.scale_model_input(x, t)
            second = hasattr(scheduler, "sigmas_interpol") and not scheduler.state_in_first_order
            sigma = float(
                (scheduler.sigmas_interpol if second else scheduler.sigmas)[scheduler.step_index]
            )
            x = scheduler.step((x - denoise(x, sigma)) / sigma, t, x).prev_sample
        return x

    return run


def by_index(cls: Any, **options: Any) -> Run:
    """DDIM and PNDM, which go by table index alone."""

    def run(denoise: Denoise, start: Tensor, levels: Levels, steps: int) -> Tensor:
        scheduler = _scheduler(cls, levels, "table", steps, prediction_type="epsilon", **options)
        x = start / levels.ends[0]
        for t in scheduler.timesteps:
            sigma = levels.table[int(t)]
            scaled = x * math.hypot(1.0, sigma)
            x = scheduler.step((scaled - denoise(scaled, sigma)) / sigma, t, x).prev_sample
        return x if scheduler.final_alpha_cumprod == 1 else x * math.hypot(1.0, levels.table[0])

    return run


def edm(cls: Any, **options: Any) -> Run:
    """The EDM schedulers, which do the preconditioning themselves and so want EDM's F."""

    def run(denoise: Denoise, start: Tensor, levels: Levels, steps: int) -> Tensor:
        scheduler = _scheduler(cls, levels, "ends", steps, **options)
        x, data = start, 0.5
        for i, t in enumerate(scheduler.timesteps):
            scheduler.scale_model_input(x, t)
            s = float(scheduler.sigmas[i])
            norm = s * s + data * data
            f = (denoise(x, s) - data * data / norm * x) / (s * data / math.sqrt(norm))
            x = scheduler.step(f, t, x).prev_sample
        return x

    return run


def flow_match(cls: Any, **options: Any) -> Run:
    """FlowMatchEuler and FlowMatchHeun, from the first level below pure noise that the process
    has."""

    def run(denoise: Denoise, start: Tensor, levels: Levels, steps: int) -> Tensor:
        scheduler = _scheduler(cls, levels, "nothing", steps, **options)
        top = levels.ends[0]
        x = start / (1.0 + top)
        for t in scheduler.timesteps:
            if scheduler.step_index is None:
                scheduler._init_step_index(t)
            s = min(float(scheduler.sigmas[scheduler.step_index]), top / (1.0 + top))
            scaled = x.double() / (1.0 - s)
            sigma = s / (1.0 - s)
            x0 = denoise(scaled, sigma)
            x = scheduler.step((scaled - x0) / sigma - x0, t, x).prev_sample
        return x

    return run


class _Asked(torch.nn.Module):
    """What azula's samplers want of a model: a schedule of (α, σ), and the posterior mean."""

    def __init__(
        self, denoise: Denoise, schedule: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> None:
        super().__init__()
        self.denoise, self.schedule = denoise, schedule

    def forward(self, x: Tensor, t: Tensor) -> Any:
        from azula.denoise import DiracPosterior

        alpha, sigma = (float(y) for y in self.schedule(t))
        return DiracPosterior(self.denoise(x / alpha, sigma / alpha))


def azula(
    sampler: Any,
    grid: Callable[[Levels, int], Callable[[Tensor], tuple[Tensor, Tensor]]],
    **options: Any,
) -> Run:
    """azula's samplers step uniformly in the time of a schedule, so a grid is a schedule."""

    def run(denoise: Denoise, start: Tensor, levels: Levels, steps: int) -> Tensor:
        schedule = grid(levels, steps)
        first = [float(y) for y in schedule(torch.ones((), dtype=F64))]
        solver = sampler(_Asked(denoise, schedule), steps=steps, silent=True, dtype=F64, **options)
        end = solver(start * (first[1] / levels.ends[0]))
        return end / float(schedule(torch.zeros((), dtype=F64))[0])

    return run


def azula_grids() -> Iterator[tuple[str, Any]]:
    """azula's own schedules, from the process's first level, and Karras's in the same form."""
    from azula import noise

    def decay(levels: Levels) -> float:
        return 1.0 / math.hypot(1.0, levels.ends[0])

    def karras(levels: Levels, steps: int) -> Any:
        high, low = (s ** (1 / 7) for s in (levels.ends[0], SMALLEST))
        return lambda t: (torch.ones_like(t), (low + t * (high - low)) ** 7)

    yield "VESchedule", lambda levels, steps: noise.VESchedule(SMALLEST, levels.ends[0])
    yield "Karras", karras
    for cls in (
        noise.VPSchedule,
        noise.CosineSchedule,
        noise.RectifiedSchedule,
        noise.DecaySchedule,
    ):
        yield (
            cls.__name__,
            lambda levels, steps, cls=cls: cls(alpha_min=decay(levels), sigma_min=SMALLEST),
        )


def ipndm(order: int, grid: str) -> Run:
    """iPNDM (arXiv 2202.09778, eq. 10-12): Adams-Bashforth's constants for equal steps, on any grid
    of σ̄; ends at zero."""
    constants = {
        1: (1.0,),
        2: (3 / 2, -1 / 2),
        3: (23 / 12, -16 / 12, 5 / 12),
        4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
    }

    def run(denoise: Denoise, x: Tensor, levels: Levels, steps: int) -> Tensor:
        high, low = levels.ends
        u = np.linspace(0.0, 1.0, steps)
        rho = 7.0
        sigmas = {
            "exponential": lambda: high * (low / high) ** u,
            "karras": lambda: (
                (high ** (1 / rho) + u * (low ** (1 / rho) - high ** (1 / rho))) ** rho
            ),
            "linspace": lambda: np.interp(999.0 * (1.0 - u), np.arange(1000), levels.table),
            "trailing": lambda: np.array(levels.table)[
                np.round(1000 - np.arange(steps) * 1000 / steps).astype(int) - 1
            ],
        }[grid]()
        past: list[Tensor] = []
        for s, t in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
            past = [(x - denoise(x, float(s))) / float(s), *past][:order]
            x = x + (float(t) - float(s)) * sum(
                c * d for c, d in zip(constants[len(past)], past, strict=True)
            )
        return x

    return run
