"""How a sampler of another library is run: through one function, x̂0 at (x̄, σ̄).

Every deterministic sampler commutes with x → x/A, so each of them runs on every process: the peer
sees a table of the process's own noise levels, and the state is handed over in the frame that the
peer works in. What is counted is calls of the denoiser; a setting is given the largest number of
its steps that stays within the budget.

A *setting* is a sampler with its options and its grid, the same on all processes. Three kinds of
help are given to peers
so that nothing but their numerics is measured: the exact σ̄ of their tables instead of a rounded
time index; on EDM and VE, where diffusers has no time grid, the linear table of DDPM down from the
process's largest σ̄; and on processes that begin at pure noise, where most cannot start, the true
state at σ̄ = 999.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from exact_problems import LARGEST, Errors, Problem
from laws import F64
from torch import Tensor

import flowsolve
from flowsolve import Process

logging.getLogger("diffusers").setLevel(logging.ERROR)

Denoise = Callable[[Tensor, float], Tensor]
Run = Callable[[Denoise, Tensor, "Levels", int], Tensor]


@dataclass(frozen=True)
class Levels:
    """The noise levels of a process as a peer gets them."""

    table: tuple[float, ...]  # σ̄, increasing, 1000 entries

    @property
    def ends(self) -> tuple[float, float]:
        return self.table[-1], self.table[0]

    @property
    def betas(self) -> np.ndarray:
        signal = 1.0 / (
            1.0 + np.square(np.concatenate([[0.0], self.table]))
        )  # ᾱ, before and at each entry
        return 1.0 - signal[1:] / signal[:-1]


@lru_cache
def levels_of(process: Process) -> Levels:
    if process.entries is not None:
        return Levels(tuple(process.level(float(i)).sigma for i in range(process.entries)))
    if isinstance(process, (flowsolve.EDM, flowsolve.VE)):
        top, ddpm = process.start.sigma, flowsolve.VP()
        times = np.linspace(
            ddpm.time_of(process.level(process.t_min).sigma), ddpm.time_of(top), 1000
        )
        return Levels((*(ddpm.level(t).sigma for t in times[:-1]), top))
    return Levels(tuple(min(LARGEST, process.level(i / 1000).sigma) for i in range(1, 1001)))


@dataclass(frozen=True)
class Setting:
    """One sampler with its options and its grid; ``steps`` is how many of its steps a budget is
    likely to pay for."""

    name: str
    grid: str
    run: Run
    steps: Callable[[int], int] = lambda nfe: nfe

    def __str__(self) -> str:
        return f"{self.name}, {self.grid}"


class _Overspent(Exception):
    pass


def errors(setting: Setting, where: Problem, nfe: int) -> Errors | None:
    """(RMSE, median) of ``setting`` with at most ``nfe`` evaluations, None if it does not run with
    so few, or not at all."""
    x = end(setting, where, nfe)
    result = None if x is None else where.errors(x)
    return result if result is not None and all(map(math.isfinite, result)) else None


def end(setting: Setting, where: Problem, nfe: int) -> Tensor | None:
    """Where it takes the starts."""
    levels = levels_of(where.process)
    for steps in range(setting.steps(nfe), 0, -1):
        made = 0

        def denoise(x: Tensor, sigma: float) -> Tensor:
            nonlocal made
            made += 1
            if made > nfe:
                raise _Overspent
            return where.denoise(x.to(F64), sigma)

        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                return setting.run(denoise, where.first, levels, steps).to(F64)
        except _Overspent:
            continue
        except (ValueError, IndexError, ZeroDivisionError, AssertionError, RuntimeError, TypeError):
            return None
    return None
