"""The data of the interactive page, made by flowsolve at build time: plans as in their files, for
the page to play on exact mixtures, and exact paths."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from explorer_plans import (
    COUNTS,
    DRAWS,
    ETAS,
    GRIDS,
    LAWS,
    PLACES,
    PLANE,
    PROCESSES,
    SOLVERS,
    STARTS,
    TOP,
    packed,
    plan,
    plane,
    sets,
)
from mathml import node

import flowsolve

HERE = Path(__file__).parent
STATIC = HERE.parent / "_static"
SCRIPTS = (
    "explorer_player.js",
    "explorer_svg.js",
    "explorer_plane.js",
    "explorer_runs.js",
    "explorer_pictures.js",
    "explorer.js",
    "explorer_page.js",
)


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


def exact(model: flowsolve.Denoiser, z: torch.Tensor) -> torch.Tensor:
    """x̄ on the exact paths of a model of EDM's process from σ̄ z, (levels, *z.shape), to 1e-8: by
    rk4 with four steps from level to level, and by holding x̂0 from the last, at 3e-5."""
    at = np.array(sigmas()[:-1])
    parts = 4
    u = np.interp(np.arange(parts * (len(at) - 1) + 1) / parts, np.arange(len(at)), at / (1 + at))
    fine = u / (1.0 - u)
    fine[::parts] = at
    run = flowsolve.solve(
        model,
        solver="rk4",
        grid=[*fine.tolist(), 0.0],
        start=TOP * z,
        keep="path",
    )
    return torch.cat([run.path[:-1:parts], run.path[-1:]])


def points() -> dict[str, Any]:
    """The data, starts, draws and exact ends of the plane."""
    model, means, z = plane(flowsolve.EDM())
    return {
        "code": PLANE,
        "draws": DRAWS,
        "weights": [1.0 / len(means)] * len(means),
        "means": means.tolist(),
        "variance": model.law.variances[0, 0].item(),
        "starts": z[0].tolist(),
        "noises": z[1:].tolist(),
        "ends": exact(model, z[0])[-1].numpy().round(4).tolist(),
    }


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
    z = torch.tensor(STARTS, dtype=torch.float64)[:, None]
    data: dict[str, Any] = {}
    for key, law in LAWS.items():
        path = exact(law.model(flowsolve.EDM()), z)[..., 0].numpy()
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
        "plane": points(),
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
    modules = [str(STATIC / script) for script in SCRIPTS[:-1]]
    names = "Player, Svg, Plane, Runs, Pictures, Explorer"
    whole = (
        f"const [{names}] = {json.dumps(modules)}.map((f) => require(f));"
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
