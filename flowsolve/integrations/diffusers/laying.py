"""A scheduler's configuration and a number of steps, as a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...about import About
from ...caching import kept
from ...checks import check_solver
from ...grids import Explicit, Grid
from ...plans import Plan
from ...plans.files import loads
from ...processes import Process
from ...run import layout
from ...solvers import Solver
from .levels import Levels
from .read import Convention

Config = Mapping[str, Any]


def on_base(base: Levels, config: Config) -> bool:
    """Whether a run is on the levels of the scheduler whose place is taken."""
    if config["plan"] is not None:
        return False
    auto = config["solver"] == "auto" and config["grid"] is None
    return base.own or config["grid"] == "base" or (config["grid"] is None and not auto)


def check(convention: Convention, config: Config) -> None:
    """Refuse what no number of steps could mend.

    Raises:
        TypeError, ValueError: for a solver, options or a grid that are none, and a solver whose
            steps depend on the data.
    """
    if config["plan"] is not None:
        return _plan(config["plan"]).check(convention.process)
    on = None if config["grid"] == "base" else config["grid"]
    solver, _ = _chosen(convention, convention.process, config, 20, on)
    if not solver.fixed:
        raise ValueError(
            f"solver={config['solver']!r} has no plan: its steps depend on the data, and a "
            "pipeline's loop has as many as it was told. Use it on the pipeline as a model: with "
            "flowsolve.integrations.diffusers.denoiser(pipe, ...) as model"
        )


def lay_out(convention: Convention, base: Levels, config: Config, n: int | None) -> Plan:
    """The plan for n evaluations.

    Raises:
        ValueError: for a number that cannot be, or does not fit.
    """
    process = convention.process_of(base.scheduler.config, base.mu)
    if base.own or n is None:
        given = base.timesteps or base.sigmas or ()
        # Those of schedulers with states x/A have their end in them.
        n = len(given) - (base.timesteps is None and given[-1:] == (0.0,))
    most = process.entries
    if n < 1 or (most is not None and n > most):
        raise ValueError(
            f"num_inference_steps={n!r}: expected a positive integer"
            + (f", at most {most}, the levels the network was trained on" if most else "")
        )
    if config["plan"] is not None:
        plan = _plan(config["plan"])
        if base.own or n != plan.nfe:
            raise ValueError(
                f"num_inference_steps={n}: this scheduler has a plan of {plan.nfe} evaluations and"
                f" its own levels; expected num_inference_steps={plan.nfe} alone"
            )
        return plan
    solver, grid = _chosen(
        convention, process, config, n, None if on_base(base, config) else config["grid"]
    )
    if on_base(base, config):
        grid = base
    span: tuple[float | None, float | None] = (None, None)
    unanswerable = process.start.pure_noise and convention.predicts.name == "eps"
    if unanswerable and not isinstance(grid, (Levels, Explicit)):
        span = (process.t_max - 1.0, None)
    if isinstance(grid, Explicit):
        plan = layout(solver, process, grid, None, span).plan
        if plan is not None and plan.nfe != n:
            raise ValueError(
                f"num_inference_steps={n}: this solver makes {plan.nfe} evaluations on the "
                f"{len(grid.times)} times of its grid; expected num_inference_steps={plan.nfe}"
            )
    else:
        plan = layout(solver, process, grid, n, span).plan
    assert plan is not None
    return plan


def _chosen(
    convention: Convention, process: Process, config: Config, n: int, on: Any
) -> tuple[Solver, Grid | None]:
    size = None if config["shape"] is None else math.prod(config["shape"])
    about = About(size, predicts=convention.predicts)
    return check_solver(process, config["solver"], n, on, config["options"] or {}, about=about)


@kept
def _plan(text: str) -> Plan:
    return Plan(loads(text))


@kept
def begins_with(base: Levels, n: int) -> float:
    """The scheduler's own init_noise_sigma for n steps."""
    return float(base.asked(n).init_noise_sigma)
