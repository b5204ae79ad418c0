r"""Gauss-Newton on a plan's levels and weights.

With :math:`e_s` the error of sample s at the end and θ the logarithms of the levels' σ̄ and some
weights,

.. math:: \min_\theta \sum_s \rho(|e_s(\theta)|^2), \qquad
   \rho(u) = c^2\log(1 + u/c^2), \qquad c = 4\,\mathrm{median}_s |e_s|,

by :math:`(J^TwJ + \mu D)\,\delta = -J^Twe`, D the diagonal (Levenberg-Marquardt), w = ρ' (Cauchy's
weights: a sample that ends in another mode pulls with no more than a bounded force). J is made of
one-sided differences, so that nothing is asked of the network but evaluations: a weight of row r
moves the state there by h U_j, and every moved path is carried on beside the others, all of a level
in one batch. The last row's columns are its U_j themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .problem import Problem, Starts, both, step
from .rows import Rows

#: The weights of a row that are fitted: its newest. The last row has all.
BAND = 4
MOST, PATIENCE = 12, 3
#: Dampings that are tried, in the last that was good.
DAMPINGS = (0.03, 1.0, 30.0)
#: The least part of log σ̄ between two levels.
APART = 1e-3


class Free(NamedTuple):
    """What is fitted: levels (their numbers) and weights (row, column)."""

    levels: list[int]
    weights: list[tuple[int, int]]

    @classmethod
    def of(cls, rows: Rows, on_entries: bool) -> Free:
        last = rows.n - 1
        first = [0 if r == last else max(0, r + 1 - BAND) for r in range(rows.n)]
        weights = [(r, j) for r in range(rows.n) for j in range(first[r], r + 1)]
        return cls([] if on_entries else list(range(1, rows.n)), weights)


def fit(
    problem: Problem,
    rows: Rows,
    train: Starts,
    choose: Starts,
    better: Callable[[float, Rows], object],
) -> Iterator[float]:
    """Fit ``rows`` to the starts ``train``, an iteration at a time: each yields the least error so
    far on ``choose``, and ``better`` is told of what has it."""
    free = Free.of(rows, problem.on_entries)
    best = both(problem.errors(rows, choose))
    squares = problem.errors(rows, train)
    damping, idle = 1e-2, 0
    for _ in range(MOST):
        c2 = 16.0 * squares.median().item()
        if not 0.0 < c2 < np.inf:
            return
        hessian, gradient = _normal(problem, rows, free, train, squares, c2)
        now, moved = _loss(squares, c2), None
        for _ in range(2):
            tried = []
            for mu in (damping * f for f in DAMPINGS):
                new = _moved(problem, rows, free, _solve(hessian, gradient, mu))
                if new is not None:
                    there = problem.errors(new, train)
                    tried.append((_loss(there, c2), mu, new, there))
            moved = min(tried, key=lambda t: t[0], default=None)
            if moved is not None and moved[0] < now * (1.0 - 1e-3):
                break
            damping, moved = min(damping * 100.0, 1e4), None
        if moved is None:
            return
        _, damping, rows, squares = moved
        error = both(problem.errors(rows, choose))
        idle = 0 if error < best * 0.998 else idle + 1
        if error < best:
            best = error
            better(error, rows)
        yield best
        if idle >= PATIENCE:
            return


def _loss(squares: Tensor, c2: float) -> float:
    return torch.log1p(squares / c2).mean().item()


def _normal(
    problem: Problem, rows: Rows, free: Free, starts: Starts, squares: Tensor, c2: float
) -> tuple[np.ndarray, np.ndarray]:
    """JᵀwJ and Jᵀwe, over as many starts at a time as the network is asked for at once."""
    size = len(free.levels) + len(free.weights)
    hessian, gradient = np.zeros((size, size)), np.zeros(size)
    m = len(starts) if problem.model.whole else problem.batch_size
    for i in range(0, len(starts), m):
        some = starts.part(slice(i, i + m))
        end, columns = _columns(problem, rows, free, some)
        w = (1.0 / (1.0 + squares[i : i + m] / c2)).sqrt()
        J, e = (
            (x.to("cpu", torch.float64).flatten(-some.y.ndim + 1) * w[:, None]).flatten(-2).numpy()
            for x in (columns, end - some.truth)
        )
        hessian += J @ J.T
        gradient += J @ e
    return hessian, gradient


def _columns(problem: Problem, rows: Rows, free: Free, starts: Starts) -> tuple[Tensor, Tensor]:
    """The end (m, *state), and its derivatives by each free number (size, m, *state)."""
    h, h_level = problem.steps
    weights, samples = rows.weights.tolist(), starts.samples
    y, answers = starts.y, list[Tensor]()
    # Of each path that was moved, how far its state is from y, and how far its answers are from
    # those of the run, (paths, m, *state): a path is added at the end, and moved from then on.
    away, changes = y.new_empty((0, *y.shape)), list[Tensor]()
    scales: list[float] = []
    order: list[tuple[int, int] | int] = []
    for i, level in enumerate(rows.levels):
        paths = torch.cat([y[None], y + away])
        asked = problem.U(paths.flatten(0, 1), level, samples).unflatten(0, (-1, len(y)))
        here, change = asked[0], asked[1:] - asked[0]
        if i in free.levels:
            log_sigma = -level.lam
            down = log_sigma - h_level > -problem.quiet.lam
            moved = log_sigma + (-h_level if down else h_level)
            other = problem.U(y, problem.level(moved), samples)
            change = torch.cat([change, (other - here)[None]])
            away = torch.cat([away, torch.zeros_like(y)[None]])
            scales.append(-h_level if down else h_level)
            order.append(i)
        answers.append(here)
        changes.append(change)
        for w, gone in zip(weights[i], changes, strict=False):
            if w != 0.0:
                away[: len(gone)].add_(gone, alpha=w)
        y = step(y, weights[i], answers)
        mine = [(i, j) for r, j in free.weights if r == i]
        if mine:
            away = torch.cat([away, torch.stack([answers[j] * h for _, j in mine])])
            scales += [h] * len(mine)
            order += mine
    divided = away / away.new_tensor(scales).view(-1, *[1] * y.ndim)
    place = {name: k for k, name in enumerate(order)}
    return y, divided[[place[name] for name in (*free.levels, *free.weights)]]


def _solve(hessian: np.ndarray, gradient: np.ndarray, mu: float) -> np.ndarray:
    """−(H + μ diag H)⁻¹ g."""
    diagonal = np.diag(hessian)
    s = 1.0 / np.sqrt(np.maximum(diagonal, 1e-12 * diagonal.max()))
    scaled = hessian * s[:, None] * s + mu * np.eye(len(s))
    return -s * np.linalg.solve(scaled, gradient * s)


def _moved(problem: Problem, rows: Rows, free: Free, change: np.ndarray) -> Rows | None:
    """The rows after a change, or after .4 of it; None where the levels would not be in order."""
    for part in (1.0, 0.4):
        weights = rows.weights.copy()
        k = len(free.levels)
        for (r, j), d in zip(free.weights, change[k:], strict=True):
            weights[r, j] += part * d
        levels = list(rows.levels)
        for i, d in zip(free.levels, change[:k], strict=True):
            levels[i] = problem.level(-levels[i].lam + float(np.clip(part * d, -1.0, 1.0)))
        lams = np.array([level.lam for level in levels])
        if np.isfinite(change).all() and (np.diff(lams) > APART).all():
            return replace(rows, levels=tuple(levels), weights=weights)
    return None
