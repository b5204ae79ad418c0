"""Problems with known ends: a law of the data on a process, where runs start, and where the
probability-flow ODE truly takes them.

References are those of DOP853 with tolerances of 1e-10, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from inside import numbers
from laws import F64, LAWS, Law, Velocity
from torch import Tensor

import flowsolve
from flowsolve import Process, exact

#: The σ̄ at which the reference takes its x̂0; what is left of a path from there is of the order of
#: σ̄² over a variance.
QUIET = 1e-5
#: Where runs of peers begin on a process that begins at pure noise: the first level of diffusers'
#: flow schedulers.
LARGEST = 999.0
#: (root mean square, median): over samples and pixels; over samples of it over a sample's pixels.
#: The first a few samples that land on another mode decide, the second they cannot.
Errors = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Problem:
    """A law of the data on a process, with starts and the ODE's ends.

    Attributes:
        name: "mixture", ...; with the process's name it says which problem this is.
        model: the exact denoiser.
        noise: (n, *shape), standard normal: what every sampler makes its start of.
        truth: (n, *shape), where the probability-flow ODE takes the start.
        first: (n, *shape), the true x̄ = x/A where peers begin: at the process's start, or at
            ``LARGEST`` if that is pure noise.
    """

    name: str
    process_name: str
    model: flowsolve.Denoiser
    noise: Tensor
    truth: Tensor
    first: Tensor

    @property
    def process(self) -> Process:
        return self.model.process

    @property
    def start(self) -> Tensor:
        return self.process.prior(self.process.start) @ self.noise

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """x̂0 at x̄ = x/A and σ̄, the same for every process."""
        assert isinstance(self.model.net, Velocity)
        return self.model.net.law(x.flatten(1).to(F64), 1.0, sigma)[0].view(x.shape)

    def errors(self, x: Tensor) -> Errors:
        return errors(x, self.truth)


def errors(x: Tensor, truth: Tensor) -> Errors:
    error = (x.to(F64) - truth).flatten(1).square().mean(1)
    return error.mean().sqrt().item(), error.median().sqrt().item()


class NetworkProblem(Problem):
    """The same with a trained network, whose path ends with its x̂0 at the quietest trained
    level."""

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        process = self.process
        level = process.level(min(process.t_max, max(process.t_min, process.time_of(sigma))))
        return self.model(x * numbers(level)[0], level).x0.to(F64)


PROCESSES: dict[str, Process] = {
    "VP": flowsolve.VP(),
    "EDM": flowsolve.EDM(),
    "flow": flowsolve.RectifiedFlow(),
    "cosine": flowsolve.VP.cosine(),
    "table": flowsolve.VP.discrete(flowsolve.tables.scaled_linear()),
    "VE": flowsolve.VE(),
}
#: Samples in a full run.
SIZES = {
    "circle": 256,
    "1500 digits": 64,
    "mixture": 128,
    "digits": 24,
    "images": 8,
    "random mixture": 128,
    "patches": 24,
    "rougher images": 8,
}
#: What ``solver="auto"`` was chosen from, and what it was then checked on.
CHOOSING = [
    (law, process) for law in ("mixture", "digits", "images") for process in ("VP", "EDM", "flow")
]
CHECKING = [
    (law, process)
    for law in ("random mixture", "patches", "rougher images")
    for process in ("cosine", "table", "VE")
]


def library_model(name: str, process: Process) -> exact.Mixture:
    """The library's own exact denoiser of the same law."""
    return exact.Mixture(process, *LAWS[name]())


@lru_cache
def problem(
    name: str, process_name: str, n: int | None = None, tolerance: float = 1e-10
) -> Problem:
    """One of ``LAWS`` on one of ``PROCESSES`` with ``n`` starts."""
    process, parts = PROCESSES[process_name], LAWS[name]()
    shape, net = tuple(parts[1].shape[1:]), Velocity(Law(*parts), process)
    model = flowsolve.Denoiser(net, process, "flow", shape, time="t", dtype=F64)
    generator = torch.Generator().manual_seed(1000)
    noise = torch.randn(n or SIZES[name], *shape, dtype=F64, generator=generator)
    blank = Problem(name, process_name, model, noise, torch.empty(0), torch.empty(0))
    truth = end(blank, "scipy:DOP853", rtol=tolerance, atol=tolerance)
    return Problem(name, process_name, model, noise, truth, _first(blank, tolerance))


@lru_cache
def network_problem(n: int = 48, tolerance: float = 1e-6) -> Problem:
    """The shipped network of digits."""
    model = flowsolve.digits()
    process = model.process
    noise = torch.randn(n, *model.data_shape, dtype=F64, generator=torch.Generator().manual_seed(3))
    blank = NetworkProblem("network", "cosine", model, noise, torch.empty(0), torch.empty(0))
    quiet = process.level(process.t_min)
    with torch.no_grad():
        x = path_to(blank, quiet.sigma, tolerance=tolerance) * numbers(quiet)[0]
        truth = model(x, quiet).x0.to(F64)
        first = _first(blank, tolerance)
    return NetworkProblem("network", "cosine", model, noise, truth, first)


def _first(where: Problem, tolerance: float) -> Tensor:
    if where.process.start.pure_noise:
        return path_to(where, LARGEST, tolerance=tolerance)
    return where.noise * where.process.start.sigma


def end(where: Problem, solver: str, **options: Any) -> Tensor:
    """Where ``solver`` takes the starts, down to σ̄ = ``QUIET`` and from there by x̂0."""
    return where.denoise(_path(where, QUIET, solver, **options), QUIET)


def path_to(where: Problem, sigma: float, *, tolerance: float = 1e-10) -> Tensor:
    """The true x̄ at σ̄, (n, *shape)."""
    return _path(where, sigma, "scipy:DOP853", rtol=tolerance, atol=tolerance)


def _path(where: Problem, sigma: float, solver: str, **options: Any) -> Tensor:
    level = where.process.at("sigma", sigma)
    run = flowsolve.solve(
        where.model, solver=solver, start=where.start, span=(None, level.t), **options
    )
    return run.x / numbers(level)[0]
