"""Runs from one start with three amounts of noise, and one step: further down, and back up."""

import math

import matplotlib.pyplot as plt
import torch

import flowsolve

PROCESS = flowsolve.VP()
MODEL = flowsolve.exact.Mixture(PROCESS, [1, 1], [[-1.5], [1.5]], 0.05)
START, STEPS, PATHS = 0.35, 60, 24  # x_T, evaluations, and paths of each η
ETAS = {0.0: "C0", 0.5: "C1", 1.0: "C2"}
NOISY, QUIET, X_BAR = 3.0, 1.5, 2.0  # one step: σ̄ of s and of t, x̄ at s


def fan(eta):
    """Times, and the states (levels, paths) of runs from START."""
    run = flowsolve.solve(
        MODEL,
        solver="ddim",
        eta=eta,
        nfe=STEPS,
        grid="quadratic",
        start=torch.full((PATHS, 1), START, dtype=torch.float64),
        seed=list(range(PATHS)),
        keep="path",
    )
    return [level.t for level in run.grid], run.path[..., 0]


def step(eta):
    """x̄ of the estimate; σ̄ and x̄ of the quieter level q; the spread of the noise on the way up
    to t."""
    s = PROCESS.at("sigma", NOISY)
    x0, eps = MODEL(torch.tensor([[X_BAR * s.A.value]], dtype=torch.float64), s)
    rho = (QUIET / NOISY) ** 2
    q = QUIET * math.sqrt(1 - eta**2 * (1 - rho))
    return x0.item(), q, x0.item() + q * eps.item(), math.sqrt(QUIET**2 - q**2)


def arrow(axis, start, end, **style):
    style = {"arrowstyle": "-|>", "shrinkA": 2, "shrinkB": 2, "lw": 1.8} | style
    axis.annotate("", end, start, arrowprops=style)


def draw():
    figure = plt.figure(figsize=(7.4, 5.4), layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=(1, 1.35))
    for row, (eta, color) in enumerate(ETAS.items()):
        axis = figure.add_subplot(grid[row, 0])
        times, x = fan(eta)
        axis.plot(times, x, color=color, lw=0.8, alpha=0.7)
        axis.plot(times[0], START, "o", color="0.5", ms=5, clip_on=False)
        axis.set(xlim=(1, 0), ylim=(-2.9, 2.9), ylabel="state $x$")
        axis.set_title(rf"$\eta={eta:g}$", fontsize=10)
        if row < 2:
            axis.tick_params(labelbottom=False)
        else:
            axis.set_xlabel("time $t$")

    axis = figure.add_subplot(grid[:, 1])
    axis.plot(NOISY, X_BAR, "o", color="0.5", ms=6)
    axis.annotate(r"$\bar x_s$", (NOISY, X_BAR), (0, 7), textcoords="offset points", ha="center")
    for eta, color in ETAS.items():
        x0, q, end, spread = step(eta)
        arrow(axis, (NOISY, X_BAR), (q, end), color=color, alpha=1.0 if eta in (0.0, 1.0) else 0.8)
        if spread:
            arrow(axis, (q, end), (QUIET, end), color=color, ls="--")
            axis.errorbar(
                [QUIET], [end], [spread], color=color, fmt="s", ms=4,
                capsize=4 if eta == 1.0 else 0, elinewidth=1.8 if eta == 1.0 else 7,
                alpha=1.0 if eta == 1.0 else 0.55,
                label=rf"$\eta={eta:g}$: mean ± sd at $t$",
            )  # fmt: skip
            axis.plot(q, end, "o", color=color, mfc="none", ms=6)
        else:
            axis.plot(q, end, "o", color=color, ms=6, label=r"$\eta=0$: DDIM's end")
    axis.plot([q, 0], [end, x0], color="0.5", lw=1, ls=":")
    axis.plot(0, x0, "D", color="0.5", ms=6, clip_on=False, label=r"estimate $\hat x_0$")
    for sigma, name in ((NOISY, "$s$"), (QUIET, "$t$"), (q, r"$q$ of $\eta=1$")):
        axis.axvline(sigma, color="0.5", lw=0.6, ls=":")
        axis.text(sigma - 0.04, -0.72, name, ha="left", va="bottom", fontsize=9)
    axis.set(xlabel=r"noise level $\bar\sigma$", ylabel=r"$\bar x=x/A$", xlim=(3.3, 0))
    axis.set(ylim=(-0.75, 3.3))
    axis.set_title("down further, and back up", fontsize=10)
    axis.legend(loc="upper left", fontsize=8)
    return figure
