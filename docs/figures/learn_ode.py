"""One step of DDIM in (t, x), where it bends, and in (σ̄, x̄), where it is a chord of Euler's."""

import matplotlib.pyplot as plt
import torch

import flowsolve

PROCESS = flowsolve.VP()
MODEL = flowsolve.exact.Mixture(PROCESS, [1, 1], [[-1.5], [1.5]], 0.05)
NOISY, QUIET, START = 4.0, 0.7, 3.0  # σ̄ of s and of t; x̄ at s
TOP = 5.0  # the σ̄ at which the drawing begins


def exact(sigmas, starts):
    """Levels, and x̄ on the exact paths through ``starts`` at the first of the σ̄'s."""
    levels = [PROCESS.at("sigma", sigma) for sigma in sigmas]
    run = flowsolve.solve(
        MODEL,
        solver="scipy:DOP853",
        rtol=1e-6,
        atol=1e-6,
        grid=[level.t for level in levels],
        start=torch.tensor(starts, dtype=torch.float64)[:, None] * levels[0].A.value,
        keep="path",
    )
    return levels, run.path[..., 0] / signals(levels)


def spread_out(top):
    """σ̄'s from ``top`` down to nearly 0, closer together there, where time is."""
    return (0.01 + (top - 0.01) * torch.linspace(1.0, 0.0, 60).double() ** 1.6).tolist()


def signals(levels):
    return torch.tensor([[level.A.value] for level in levels], dtype=torch.float64)


def estimates():
    """x̂0 and ε̂ at the state that the step begins from."""
    s = PROCESS.at("sigma", NOISY)
    x0, eps = MODEL(torch.tensor([[START]], dtype=torch.float64) * s.A.value, s)
    return x0.item(), eps.item()


def held(sigmas):
    """Levels, and x̄ = x̂0 + σ̄ ε̂ with both held."""
    x0, eps = estimates()
    sigmas = torch.as_tensor(sigmas, dtype=torch.float64)
    return [PROCESS.at("sigma", v) for v in sigmas.tolist()], (x0 + sigmas * eps)[:, None]


def both(axes, levels, y, **style):
    axes[0].plot([level.t for level in levels], signals(levels) * y, **style)
    axes[1].plot([level.sigma for level in levels], y, **style)


def draw():
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.7), layout="constrained")
    sigmas = spread_out(TOP)
    others = exact(sigmas, [-1.5, -0.3, 0.5, 2.0, 5.0])
    both(axes, *others, color="0.5", lw=0.8, alpha=0.6)
    sigmas = spread_out(NOISY)
    both(axes, *exact(sigmas, [START]), color="C2", lw=1.8, label="exact path")
    both(axes, *held(torch.linspace(NOISY, QUIET, 30)), color="C0", lw=2.2, label="DDIM's step")
    both(axes, *held(torch.linspace(QUIET, 0.0, 30)), color="C0", lw=1.2, ls=":")
    both(axes, *held([NOISY, QUIET]), color="C0", marker="o", ls="")
    x0, eps = estimates()
    for axis in axes:
        axis.plot([0], [x0], "D", color="C0", ms=5, clip_on=False, label=r"estimate $\hat x_0$")
    end = x0 + QUIET * eps
    axes[1].plot([NOISY, NOISY, QUIET], [START, end, end], color="C1", lw=1.2)
    words = {"color": "C1", "fontsize": 9}
    axes[1].text(
        2.3, end - 0.1, r"run $=\bar\sigma_t-\bar\sigma_s$", ha="center", va="top", **words
    )
    axes[1].text(NOISY + 0.08, 0.5 * (START + end), "rise", ha="right", va="center", **words)
    axes[1].text(3.0, 1.85, r"slope $\hat\varepsilon$", color="C0", ha="center", va="center")
    axes[0].set(xlabel="time $t$", ylabel="state $x$", xlim=(PROCESS.at("sigma", TOP).t, 0))
    axes[1].set(xlabel=r"noise level $\bar\sigma$", ylabel=r"$\bar x = x/A$", xlim=(TOP, 0))
    axes[1].set(ylim=(-0.6, 3.7))
    axes[0].set(ylim=(-0.3, 1.8))
    axes[0].set_title("the step bends", fontsize=10)
    axes[1].set_title("divided by $A$ it is straight", fontsize=10)
    axes[0].legend(loc="upper left", fontsize=8)
    return figure
