"""What can be chosen on the interactive page, and the plans that it plays.

In x̄ = x/A and σ̄ = R/A a run is the same on all processes. So plans are made on EDM's process, where
x̄ is the state and σ̄ the time, on the levels of the process that is shown, and grids that lie in σ̄
need one plan for all. tests/test_explorer.py plays all of them and compares with
:func:`flowsolve.solve` on the processes themselves.
"""

from __future__ import annotations

import functools
import json
from typing import Any, NamedTuple

import numpy as np
import torch

import flowsolve
from flowsolve.grids import Karras, find_grid
from flowsolve.plans import Arrive, Plan
from flowsolve.plans.files import dumps
from flowsolve.solvers.auto import auto
from flowsolve.solvers.zoo import by_name


class Law(NamedTuple):
    """Data in one dimension: a mixture of Gaussians of one variance."""

    name: str
    weights: tuple[float, ...]
    means: tuple[float, ...]
    variance: float

    @property
    def code(self) -> str:
        """What makes its denoiser, in Python."""
        means = [[mean] for mean in self.means]
        if self.variance == 0.0:
            return f"flowsolve.exact.Dirac(process, {means[0]})"
        if len(means) == 1:
            return f"flowsolve.exact.Gaussian(process, {means[0]}, {self.variance})"
        return f"flowsolve.exact.Mixture(process, {[*self.weights]}, {means}, {self.variance})"

    def model(self, process: flowsolve.Process) -> flowsolve.Denoiser:
        return eval(self.code, {"flowsolve": flowsolve, "process": process})


class Shown(NamedTuple):
    """A process: its name, the Python that makes it, and the numbers at the axes of its panel."""

    name: str
    code: str
    times: tuple[float, ...] = (0.9, 0.6, 0.3, 0.0)
    states: tuple[float, ...] = (-2.0, 0.0, 2.0)

    @property
    def process(self) -> flowsolve.Process:
        return eval(self.code, {"flowsolve": flowsolve})


LAWS = {
    "point": Law("one point", (1.0,), (0.6,), 0.0),
    "gaussian": Law("a Gaussian", (1.0,), (0.4,), 0.36),
    "two": Law("two clusters", (0.35, 0.65), (-1.3, 0.9), 0.02),
    "three": Law("three clusters", (0.3, 0.3, 0.4), (-1.5, 0.1, 1.4), 0.02),
}
PROCESSES = {
    "vp": Shown("VP", "flowsolve.VP()"),
    "cosine": Shown("cosine", "flowsolve.VP.cosine()"),
    "flow": Shown("rectified flow", "flowsolve.RectifiedFlow()"),
    "edm": Shown("EDM", "flowsolve.EDM()", (3.0, 2.0, 1.0, 0.0), (-4.0, -2.0, 0.0, 2.0, 4.0)),
}
#: Data in two dimensions, Gaussians on a spiral: the Python that makes their model, and then what
#: makes starts and fresh noise.
PLANE = (
    "turn = torch.pi * torch.linspace(1.0, 16.0, 24, dtype=torch.float64)[:, None].sqrt()",
    "means = turn / 7 * torch.cat([turn.cos(), turn.sin()], 1)",
    "model = flowsolve.exact.Mixture(process, [1.0] * 24, means.tolist(), 0.005)",
)
DRAWS = (
    "generator = torch.Generator().manual_seed(0)",
    "z = torch.randn(13, 100, 2, generator=generator, dtype=torch.float64).round(decimals=2)",
)
SOLVERS = ("ddim", "ab2", "ab3", "heun", "dpmpp2m", "unipc3", "vpc2", "auto")
GRIDS = {
    "uniform": "uniform in t",
    "karras": "Karras",
    "logistic": "logistic",
}
#: Grids whose name has options.
SPELLED = {"logistic": "logistic(low=1.5)"}
ETAS = (0.0, 0.5, 1.0)
COUNTS = (1, 2, 3, 4, 5, 6, 8, 12)
#: All runs start here: it is EDM's, and as good as pure noise.
TOP = 80.0
#: The starts are R z.
STARTS = tuple(np.linspace(-2.0, 2.0, 9).tolist())
#: Digits of a plan's numbers, and places behind the point of an exact path that is only drawn.
DIGITS, PLACES = 14, 3


def plane(process: flowsolve.Process) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """What the Python of the plane makes: model, means, z."""
    names: dict[str, Any] = {"flowsolve": flowsolve, "torch": torch, "process": process}
    exec("\n".join([*PLANE, *DRAWS]), names)
    return names["model"], names["means"], names["z"]


def arguments(solver: str, process: str, grid: str, n: int) -> dict[str, Any]:
    """How :func:`flowsolve.solve` is called on a process for what the page shows."""
    on = PROCESSES[process].process
    top = on.at("sigma", TOP).t
    if solver == "auto":
        return {"nfe": n, "span": (top, None)}
    if grid == "karras":  # of EDM: where it ends would depend on the process
        sigmas = (level.sigma for level in levels(process, grid, steps(solver, n)))
        return {"nfe": n, "grid": [on.at("sigma", sigma).t for sigma in sigmas]}
    return {"nfe": n, "span": (top, None), "grid": SPELLED.get(grid, grid)}


@functools.cache
def steps(solver: str, n: int) -> int:
    """How many steps a solver makes of n evaluations."""
    plan = flowsolve.plan(solver, flowsolve.EDM(), nfe=n)
    return sum(isinstance(line, Arrive) for line in plan.program)


@functools.cache
def levels(process: str, grid: str, steps: int) -> tuple[flowsolve.Level, ...]:
    if grid == "karras":
        return Karras().levels(flowsolve.EDM(0.01), steps)
    on = PROCESSES[process].process
    return find_grid(SPELLED.get(grid, grid), on).levels(on, steps, on.at("sigma", TOP))


def plan(solver: str, process: str, grid: str, n: int, eta: float = 0.0) -> Plan:
    """The plan that is stored: in x̄ and σ̄, on the levels of this process."""
    options = {"eta": eta} if eta else {}
    if solver == "auto":  # which asks what the network predicts, and in how many dimensions
        on = PROCESSES[process].process
        model = plane(on)[0] if grid == "plane" else LAWS["two"].model(on)
        rule, own = auto(n, on, model.about, by_name())
        assert own is not None
        there = own.levels(on, n, on.at("sigma", TOP))
    else:
        rule, there = solver, levels(process, grid, steps(solver, n))
    times = [_round(level.sigma) for level in there]
    return flowsolve.plan(rule, flowsolve.EDM(0.01, 2 * TOP), nfe=n, grid=times, **options)


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def packed(plan: Plan, shapes: dict[str, int]) -> list[Any]:
    """A plan as [number of its shape, its numbers]: the program of its file, in whose shape every
    number is its place among those. Plans that differ in numbers alone share a shape."""
    numbers: dict[float, int] = {}

    def place(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: place(each) for key, each in value.items()}
        if isinstance(value, list):
            return [place(each) for each in value]
        if isinstance(value, float):
            return numbers.setdefault(_round(value), len(numbers))
        return value

    shape = json.dumps(place(json.loads(dumps(plan.program))["program"]))
    return [shapes.setdefault(shape, len(shapes)), list(numbers)]


def sets() -> dict[str, list[tuple[str, str, str, float]]]:
    """The stored plans by name: (solver, process, grid, eta) of each. Names are what
    ``planName`` in explorer.js gives."""
    fixed = [(solver, 0.0) for solver in SOLVERS if solver != "auto"]
    fixed += [("ddim", eta) for eta in ETAS[1:]]
    result = {
        f"uniform {process}": [(solver, process, "uniform", eta) for solver, eta in fixed]
        for process in PROCESSES
    }
    for grid in ("karras", "logistic"):
        result[grid] = [(solver, "edm", grid, eta) for solver, eta in fixed]
    for process in PROCESSES:
        result[f"auto {process}"] = [("auto", process, "", 0.0)]
        result[f"auto {process} plane"] = [("auto", process, "plane", 0.0)]
    return result
