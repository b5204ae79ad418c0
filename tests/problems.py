"""Problems with known answers, shared by tests."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

import flowsolve
from flowsolve import exact
from flowsolve.processes import Process

F64 = torch.float64

PROCESSES: dict[str, Process] = {
    "vp": flowsolve.VP(),
    "cosine": flowsolve.VP.cosine(),
    "discrete": flowsolve.VP.discrete(flowsolve.tables.linear()),
    "zero_terminal_snr": flowsolve.VP.discrete(flowsolve.tables.zero_terminal_snr(flowsolve.tables.scaled_linear())),
    "subvp": flowsolve.SubVP(),
    "ve": flowsolve.VE(),
    "edm": flowsolve.EDM(),
    "rectified_flow": flowsolve.RectifiedFlow(),
}

FIXED = [row.name for row in flowsolve.solvers() if row.solver.fixed]
STOCHASTIC = [row.name for row in flowsolve.solvers() if row.family == "stochastic"]
DETERMINISTIC = [name for name in FIXED if name not in STOCHASTIC]
ALL = [row.name for row in flowsolve.solvers()]


def mixture(process: Process) -> exact.Mixture:
    """Three Gaussians in the plane, smooth enough for slopes to be measured."""
    variances = [torch.tensor(c, dtype=F64) for c in ([0.09, 0.09], [0.2, 0.15], [0.05, 0.3])]
    return exact.Mixture(process, [0.3, 0.5, 0.2], [[1.0, 0.5], [-1.0, 0.3], [0.2, -1.2]], variances)


@lru_cache(maxsize=64)
def mixture_run(process: Process, noisy: float, quiet: float, n: int = 16) -> tuple[exact.Mixture, Tensor, Tensor, tuple[float, float]]:
    """The mixture, starts at σ̄ = ``noisy``, the ODE's exact ends at σ̄ = ``quiet`` (DOP853 at 3e-14), and the span in t."""
    model = mixture(process)
    s, t = process.at("sigma", noisy), process.at("sigma", quiet)
    start = model.draw(n, level=s)
    end = flowsolve.solve(model, solver="scipy:DOP853", rtol=3e-14, atol=1e-15, grid=[s.t, t.t], start=start).x
    return model, start, end, (s.t, t.t)


def elementwise(x: Tensor, t: Tensor) -> Tensor:
    """A network whose result for a sample does not depend on the others, to the bit."""
    return 0.9 * torch.tanh(x * 0.7) + 0.1 * torch.cos(x + t.view(-1, *[1] * (x.ndim - 1)).to(x))


class Tanh(torch.nn.Module):
    """A network with parameters: tanh after ``inner``, whatever the time."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(self.inner(x))


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
