"""Tables of arXiv 2206.05564 (gDDIM), on the shipped digits: see papers.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor

import flowsolve
from flowsolve.coordinates import NOISE
from flowsolve.grids import Quadratic
from flowsolve.noise import normal
from flowsolve.operators import Block

from .papers_judge import Table


def started(model: flowsolve.Denoiser, **how: Any) -> Tensor:
    """The states from which flowsolve.sample would start."""
    path = flowsolve.solve(model, solver="ddim", nfe=1, keep="path", **how).path
    assert path is not None
    return path[0]


def turn(level: flowsolve.processes.Level, root: str) -> Block:
    """The rotation O that makes the root RO: Cholesky's factor of RRᵀ for "L", R itself for "R"."""
    if root == "R":
        return Block.of(np.eye(2))
    return level.R.inverse() @ (level.R @ level.R.T).root()


@cache
def weights(process: flowsolve.CLD, times: tuple[float, ...], end: float, root: str) -> list[Any]:
    """Of the last times (newest first): the blocks C_j of ∫ d(A⁻¹R) O Σ_j ℓ_j(t) u_j from times[0]
    to end, in states of ``end``, where u = Oᵀε̂ and ℓ_j are Lagrange's polynomials in t."""
    places, parts = np.polynomial.legendre.leggauss(24)
    high, low = times[0] ** 0.5, end**0.5
    found = [np.zeros((2, 2)) for _ in times]
    for place, part in zip(places, parts, strict=True):  # Gauss-Legendre in √t
        at = (high + 0.5 * (1 + place) * (low - high)) ** 2
        level, to = process.level(at), process.level(end)
        slope = NOISE.transport(level, to) @ NOISE.slope(process, level)[1] @ turn(level, root)
        for j, t in enumerate(times):
            lagrange = np.prod([(at - u) / (t - u) for u in times if u != t])
            found[j] += part * at**0.5 * (low - high) * lagrange * slope.entries
    return [Block.of(entries) for entries in found]


def adams(model: flowsolve.Denoiser, nfe: int, points: int, root: str, **how: Any) -> Tensor:
    """Samples by Adams-Bashforth steps through ``points`` values of Oᵀε̂, everything else exact: the
    paper's multistep predictor of order q = points − 1. One point and R is ddim."""
    process = model.process
    levels = Quadratic().levels(process, nfe)
    x, past = started(model, **how), []
    for s, t in pairwise(levels):
        said = model(x, s)
        if t.clean:
            return process.data(said.x0)
        past = [(s.t, turn(s, root).T @ said.eps), *past][:points]
        blocks = weights(process, tuple(time for time, _ in past), t.t, root)
        x = NOISE.transport(s, t) @ x
        for block, (_, held) in zip(blocks, past, strict=True):
            x = x + block @ held
    raise AssertionError("the last level of a grid is clean")


def in_time(
    model: flowsolve.Denoiser, nfe: int, lam: float, *, heun: bool = False, **how: Any
) -> Tensor:
    """Samples by what knows nothing of A and R: Euler-Maruyama's steps of the reverse SDE in t with
    λ times its noise, dx = [A'x̂0 + R'ε̂ + λ²(R' − A'A⁻¹R)ε̂]dt + λG dw (arXiv 2206.05564, eq. 6), or
    Heun's of the ODE in t, two evaluations each. The last evaluation says x̂0."""
    process, x = model.process, started(model, **how)

    def drift(level: Any, said: flowsolve.Prediction) -> Tensor:
        dA, dR = process.rates(level)
        rest = lam**2 * (dR - dA @ level.A.inverse() @ level.R)
        return dA @ said.x0 + (dR + rest) @ said.eps

    levels = Quadratic().levels(process, (nfe + 1) // 2 if heun else nfe)
    for k, (s, t) in enumerate(pairwise(levels)):
        said = model(x, s)
        if t.clean:
            return process.data(said.x0)
        h, slope = t.t - s.t, drift(s, said)
        if heun:
            ahead = x + h * slope
            slope = 0.5 * (slope + drift(t, model(ahead, t)))
        x = x + h * slope
        if lam:
            numbers = range(how["first"], how["first"] + len(x))
            z = normal(how["seed"], numbers, k + 1, x.shape[1:], x.dtype, x.device)
            x = x + lam * (-h) ** 0.5 * (diffusion(process, s) @ z)
    raise AssertionError("the last level of a grid is clean")


def diffusion(process: Any, level: Any) -> Any:
    """G, a root of 2(R' − A'A⁻¹R)Rᵀ; of a CLD the positions have none."""
    dA, dR = process.rates(level)
    square = 2.0 * (dR - dA @ level.A.inverse() @ level.R) @ level.R.T
    if isinstance(square, Block):
        return Block.of([[0.0, 0.0], [0.0, square.d**0.5]])
    return square.root()


def model_on(process: str, labels: Tensor) -> flowsolve.Denoiser:
    """The shipped model of a process. On the paper's VP, with β from 0.1 to 20, the network of the
    cosine schedule is told the time at which that has the same σ̄."""
    if process != "vp":
        return flowsolve.digits(labels, process=process)
    model = flowsolve.digits(labels)
    own = model.process
    return replace(model, process=flowsolve.VP(), time=lambda level: own.time_of(level.sigma))


def drawn(
    draw: Callable[..., Tensor], process: str, labels: Tensor, seed: int, *asked: Any, **more: Any
) -> Tensor:
    return draw(model_on(process, labels), *asked, n=len(labels), first=0, seed=seed, **more)


def library(model: flowsolve.Denoiser, nfe: int, solver: str, **how: Any) -> Tensor:
    return flowsolve.sample(model, solver=solver, nfe=nfe, grid="quadratic", **how)


def by_root(cell: tuple[str, ...], labels: Tensor, seed: int) -> Tensor:
    root, q, nfe = cell
    return drawn(adams, "cld", labels, seed, int(nfe), int(q[-1]) + 1, root)


CLD = Table(
    [(root, f"q = {q}", str(nfe)) for nfe in (10, 20, 50) for q in (0, 1, 2) for root in "RL"],
    by_root,
    [("R", "q = 1", "3"), ("L", "q = 0", "2")],
)


def by_lambda(cell: tuple[str, ...], labels: Tensor, seed: int) -> Tensor:
    rule, lam, nfe = cell[0], float(cell[1][4:]), int(cell[2])
    if rule == "Euler-Maruyama":
        return drawn(in_time, "cld", labels, seed, nfe, lam)
    return drawn(library, "cld", labels, seed, nfe, "gddim", lam=lam)


LAMBDA = Table(
    [
        (rule, f"λ = {lam:g}", str(nfe))
        for nfe in (20, 50)
        for lam in (0, 0.1, 0.3, 0.5, 1)
        for rule in ("gDDIM", "Euler-Maruyama")
    ],
    by_lambda,
    [("gDDIM", "λ = 0.3", "3"), ("Euler-Maruyama", "λ = 0.3", "2")],
)


def by_process(cell: tuple[str, ...], labels: Tensor, seed: int) -> Tensor:
    process, method, nfe = cell
    if method == "Euler-Maruyama":
        return drawn(in_time, process, labels, seed, int(nfe), 1.0)
    if method == "Heun":
        return drawn(in_time, process, labels, seed, int(nfe), 0.0, heun=True)
    return drawn(library, process, labels, seed, int(nfe), method)


PROCESS = Table(
    [
        (process, method, str(nfe))
        for nfe in (10, 20, 50)
        for process in ("vp", "blurring", "cld")
        for method in ("Euler-Maruyama", "Heun", "ddim", "ab3")
    ],
    by_process,
    [("blurring", "Heun", "3"), ("vp", "ab3", "3"), ("cld", "Euler-Maruyama", "2")],
)
