"""CLD, one data point: ε̂ for the root R that solves the root equation, and for the Cholesky
factor."""

import matplotlib.pyplot as plt
import torch
from constant import path

import flowsolve

PROCESS = flowsolve.CLD()


def cholesky(level):
    """L with LLᵀ = RRᵀ, and the orthogonal O with L = RO."""
    L = (level.R @ level.R.T).root()
    return L, level.R.inverse() @ L


def both(x0=1.0, steps=400):
    """Times, and ε̂ along one path: -Rᵀ∇log p, and -Lᵀ∇log p = Oᵀε̂."""
    times, _, eps = path(PROCESS, [x0], 1e-3, steps)
    turned = [cholesky(PROCESS.level(t))[1].T @ e[None] for t, e in zip(times, eps, strict=True)]
    return times, eps, torch.cat(turned)


def draw():
    times, eps, turned = both()
    figure, axes = plt.subplots(1, 3, figsize=(7.4, 2.6), layout="constrained")
    for axis, y, title in zip(
        axes[:2], (eps, turned), ("with $R$", "with Cholesky's $L$"), strict=True
    ):
        axis.plot(times, y, label=(r"$\hat\varepsilon_1$", r"$\hat\varepsilon_2$"))
        axis.set(title=title, xlabel="time $t$", xlim=(1, 0), ylim=(-1.3, 1.3))
        axis.legend(loc="lower left")
    axes[0].set_ylabel("components along the path")
    axes[2].plot(*turned.T, color="C2", label="with $L$")
    axes[2].plot(*eps[0], "o", color="C3", label="with $R$")
    axes[2].set(
        title="in the plane",
        xlabel=r"$\hat\varepsilon_1$",
        ylabel=r"$\hat\varepsilon_2$",
        aspect="equal",
    )
    axes[2].legend(loc="center")
    return figure
