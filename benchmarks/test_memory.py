"""How many state-sized tensors a run keeps alive at once, besides what the network itself makes.

Every operation of a run goes through a mode that remembers which storages of at least a state's
size are alive, without keeping them alive. The network's output is made with the mode off, so it is
not counted: what is left is the solver's. The start belongs to the caller and is counted, since a
run cannot do without it.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from report import Report
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

import flowsolve

#: The most state-sized tensors that may be alive: the start, the state and the next state.
TARGETS = {"ddim": 3}
SOLVERS = ("ddim", "ddpm", "heun", "rk4", "ab2", "ab3", "ab4")


class Alive(TorchDispatchMode):
    """Counts the storages alive that hold at least ``size`` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.now, self.peak = size, 0, 0
        self.seen: set[int] = set()
        self.apart: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.add(leaf)
        return out

    def leave_out(self, x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        self.apart.add(storage._cdata)
        weakref.finalize(
            storage, self.apart.discard, storage._cdata
        )  # its address may come back as a tensor of the solver's
        return x

    def add(self, x: torch.Tensor) -> None:
        storage = x.untyped_storage()
        key = storage._cdata
        if storage.nbytes() < self.size or key in self.seen or key in self.apart:
            return
        self.seen.add(key)
        self.now += 1
        self.peak = max(self.peak, self.now)
        # The storage object of PyTorch lives exactly as long as the memory that it stands for.
        weakref.finalize(storage, self.drop, key)

    def drop(self, key: int) -> None:
        self.seen.discard(key)
        self.now -= 1


def peak(solver: str, predicts: str, nfe: int, shape: tuple[int, ...] = (16, 3, 32, 32)) -> int:
    x = torch.randn(shape)

    def net(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        with _disable_current_modes():
            return alive.leave_out(x * 0.5)

    model = flowsolve.Denoiser(net, flowsolve.VP(), predicts, shape[1:])
    alive = Alive(x.untyped_storage().nbytes())
    alive.add(x)
    noise = torch.zeros(shape)
    alive.leave_out(noise)
    with alive:
        flowsolve.solve(model, solver=solver, nfe=nfe, start=x, noise=lambda k: noise)
    return alive.peak


def test_the_counter_counts() -> None:
    x = torch.zeros(100)
    alive = Alive(400)
    alive.add(x)
    with alive:
        y = x + 1
        for _ in range(5):
            y = y * 2  # the old and the new one are alive together
        small = torch.zeros(10)
        del small
    assert alive.peak == 3
    assert alive.now == 2


def test_memory(full: bool, report: Report) -> None:
    """State-sized tensors alive at the peak of a run, the start included."""
    found = {
        solver: {p: peak(solver, p, 40 if full else 6) for p in ("eps", "v", "x0")}
        for solver in SOLVERS
    }
    report.save("memory.json", found)
    for solver, by in found.items():
        most = TARGETS.get(solver)
        report.row(f"tensors alive, {solver}", max(by.values()), most)
        assert max(by.values()) <= (most or 12), f"{solver}: {by}"
