"""The data of the interactive page "What does a step hold?": see explorer.py.

They are made by flowsolve at build time: plans as in their files, for the page to play on exact
mixtures, and exact paths. The page has no formula of a solver.

In x̄ = x/A and σ̄ = R/A a run is the same on all processes. So plans are made on EDM's process, where
x̄ is the state and σ̄ the time, on the levels of the process that is shown, and grids that lie in σ̄
need one plan for all. tests/test_explorer.py plays all of them and compares with
:func:`flowsolve.solve` on the processes themselves.
"""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mathml import node

import flowsolve
from flowsolve.grids import Karras, find_grid
from flowsolve.plans import Arrive, Plan
from flowsolve.plans.files import dumps
from flowsolve.solvers.auto import auto
from flowsolve.solvers.zoo import by_name

STATIC = Path(__file__).parent.parent / "_static"
SCRIPTS = ("explorer_player.js", "explorer.js")


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


def sigmas() -> list[float]:
    """The levels of the exact paths, from noisy to clean: equal steps in σ̄/(1+σ̄) below 6, geometric
    above, and one from which the step to clean data has no error."""
    u = 6.0 / 7.0 * np.arange(1, 60) / 60.0
    noisy = [*np.geomspace(TOP, 6.0, 16), *(u / (1.0 - u))[::-1], 3e-5]
    return [*(float(f"{sigma:.5g}") for sigma in noisy), 0.0]


def noises() -> list[list[float]]:
    """Draw k of path i: what fresh noise is on the page."""
    generator = np.random.default_rng(0)
    return generator.standard_normal((max(COUNTS), len(STARTS))).round(3).tolist()


def exact(law: Law) -> torch.Tensor:
    """x̄ on the exact paths, (levels, paths), to 1e-8: by rk4 with four steps from each level to the
    next, and by holding x̂0 from the last, at 3e-5, to clean data."""
    at, process = np.array(sigmas()[:-1]), flowsolve.EDM()
    parts = 4
    u = np.interp(np.arange(parts * (len(at) - 1) + 1) / parts, np.arange(len(at)), at / (1 + at))
    fine = u / (1.0 - u)
    fine[::parts] = at
    run = flowsolve.solve(
        law.model(process),
        solver="rk4",
        grid=[*fine.tolist(), 0.0],
        start=TOP * torch.tensor(STARTS, dtype=torch.float64)[:, None],
        keep="path",
    )
    return torch.cat([run.path[:-1:parts], run.path[-1:]])[..., 0]


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
    if solver == "auto":  # which asks what the network predicts
        on = PROCESSES[process].process
        rule, own = auto(n, on, LAWS["two"].model(on).about, by_name())
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
    return result


@functools.cache
def build() -> dict[str, Any]:
    """The page's data."""
    shapes: dict[str, int] = {}
    plans = {
        name: {
            f"{solver} {eta:g}": [
                packed(plan(solver, process, grid, n, eta), shapes) for n in COUNTS
            ]
            for solver, process, grid, eta in members
        }
        for name, members in sets().items()
    }
    at = sigmas()
    data: dict[str, Any] = {}
    for key, law in LAWS.items():
        path = exact(law).numpy()
        # Of what is drawn, the little by which a path is no ray from the origin.
        rays = np.outer(at, STARTS)
        rest = np.rint((path - rays) * 10**PLACES).astype(int)
        data[key] = {
            **law._asdict(),
            "code": law.code,
            "rest": rest.T.tolist(),
            "ends": [float(f"{end:.11g}") for end in path[-1]],
        }
    processes: dict[str, Any] = {}
    for key, shown in PROCESSES.items():
        on = shown.process
        there = [on.at("sigma", sigma) for sigma in at]
        processes[key] = {
            **shown._asdict(),
            "first": min(float(f"{there[0].t:.5g}"), max(1.0, *shown.times)),
            "t": [float(f"{level.t:.5g}") for level in there],
            "A": [float(f"{level.A.value:.5g}") for level in there],
        }
    return {
        "counts": COUNTS,
        "etas": ETAS,
        "solvers": SOLVERS,
        "grids": GRIDS,
        "top": TOP,
        "places": PLACES,
        "starts": STARTS,
        "noises": noises(),
        "sigmas": at,
        "data": data,
        "processes": processes,
        "shapes": [json.loads(shape) for shape in shapes],
        "plans": plans,
    }


def written() -> str:
    """The data as JSON that may stand in a script element."""
    return json.dumps(build(), separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")


def asked_of_node(program: str, data: Any = None) -> Any:
    """What JavaScript returns, the body of a function of Explorer, Player, D (the page's data) and
    given (``data``), read and written as JSON."""
    modules = [json.dumps(str(STATIC / script)) for script in SCRIPTS]
    whole = (
        f"const Player = require({modules[0]}), Explorer = require({modules[1]});"
        "const [D, given] = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        f"const main = () => {{ {program} }};"
        "require('fs').writeSync(1, JSON.stringify(main()));"
    )
    done = subprocess.run(
        [node(), "-e", whole],
        input=json.dumps([json.loads(written()), data]),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)
