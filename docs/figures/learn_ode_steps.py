"""DDIM with 2, 4 and 16 steps in (σ̄, x̄), and its error against the number of steps."""

import matplotlib.pyplot as plt
import torch
from learn_ode import MODEL, NOISY, PROCESS, QUIET, START, exact

import flowsolve

STEPS = (2, 4, 8, 16, 32, 64, 128)


def run(n):
    """σ̄ and x̄ of n equal steps from NOISY to QUIET."""
    s = PROCESS.at("sigma", NOISY)
    times = [
        PROCESS.at("sigma", v).t for v in torch.linspace(NOISY, QUIET, n + 1).double().tolist()
    ]
    start = torch.tensor([[START]], dtype=torch.float64) * s.A.value
    found = flowsolve.solve(MODEL, solver="ddim", grid=times, start=start, keep="path")
    A = torch.tensor([level.A.value for level in found.grid], dtype=torch.float64)
    return [level.sigma for level in found.grid], found.path[:, 0, 0] / A


def errors():
    """|x̄ − exact| at the end, by the number of steps."""
    _, path = exact([NOISY, QUIET], [START])
    return [abs((run(n)[1][-1] - path[-1, 0]).item()) for n in STEPS]


def draw():
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.2), layout="constrained")
    sigmas = torch.linspace(NOISY, QUIET, 60).double().tolist()
    axes[0].plot(sigmas, exact(sigmas, [START])[1], color="C2", lw=1.8, label="exact path")
    for n, color in ((1, "C0"), (2, "C1"), (4, "C3"), (16, "C4")):
        axes[0].plot(*run(n), color=color, marker="o", ms=3, lw=1.2, label=f"steps: {n}")
    axes[0].set(xlim=(NOISY + 0.1, QUIET - 0.1))
    axes[0].set(xlabel=r"noise level $\bar\sigma$", ylabel=r"$\bar x$")
    axes[0].legend(fontsize=8)
    found = errors()
    axes[1].loglog(STEPS, found, "o-", color="C0", label="DDIM")
    axes[1].loglog(
        STEPS, [found[-1] * STEPS[-1] / n for n in STEPS], color="0.5", ls="--", label="1 / steps"
    )
    axes[1].set_xticks(STEPS, [str(n) for n in STEPS])
    axes[1].minorticks_off()
    axes[1].set(xlabel="steps", ylabel=r"error of $\bar x$ at the end")
    axes[1].legend(fontsize=8)
    return figure
