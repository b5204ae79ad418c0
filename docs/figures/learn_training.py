"""Three forward processes with the same marginals: who depends on whom, and paths from one x0."""

import matplotlib.pyplot as plt
import torch

import flowsolve

PROCESS, X0, STEPS, ETAS = flowsolve.VP(), 1.0, 200, (0.0, 0.5, 1.0)
NAMES = ("one noise, kept", "part of it is fresh", "DDPM's Markov chain")


def forward(eta, n, seed=3):
    """Times, levels and n paths of q_σ(x_{0:T} | x0 = X0), drawn from the noisy end.

    A step of ddim with an eta draws from q_σ(x_t | x_s, x̂0). The exact network of data that are one
    point has x̂0 = x0, so that a run is a draw of the forward process.
    """
    point = flowsolve.exact.Dirac(PROCESS, [X0])
    times = torch.linspace(1.0, 1e-3, STEPS + 1, dtype=torch.float64).tolist()
    top = PROCESS.start
    noise = torch.randn(n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    start = top.A.value * X0 + top.R.value * noise
    run = flowsolve.solve(
        point, solver="ddim", eta=eta, grid=times, start=start, seed=seed, keep="path"
    )
    return times, run.grid, run.path[..., 0]


def graph(axis, eta):
    """The arrows of the joint law of x0 … x3."""
    places = {k: (k, 0.0) for k in range(4)}
    for k, place in places.items():
        axis.text(*place, f"$x_{k}$", ha="center", va="center", fontsize=11)

    def arrow(i, j, bend=0.0, **style):
        axis.annotate(
            "",
            places[j],
            places[i],
            arrowprops={
                "arrowstyle": "->",
                "shrinkA": 11,
                "shrinkB": 11,
                "connectionstyle": f"arc3,rad={bend}",
                **style,
            },
        )

    if eta == 1.0:
        for k in range(3):
            arrow(k, k + 1, color="C0")
    else:
        for k in (3, 2):
            arrow(k, k - 1, color="C0")
            arrow(0, k, bend=-0.4, color="C1")
        arrow(0, 1, color="C1")
    axis.set(xlim=(-0.4, 3.4), ylim=(-0.5, 1.0))
    axis.set_axis_off()


def draw():
    figure, axes = plt.subplots(
        2,
        len(ETAS),
        figsize=(7.4, 3.9),
        height_ratios=(1, 3),
        sharey="row",
        layout="constrained",
    )
    for (top, axis), eta, name in zip(axes.T, ETAS, NAMES, strict=True):
        graph(top, eta)
        top.set_title(rf"$\eta = {eta:g}$" + f"\n{name}", fontsize=10)
        times, levels, x = forward(eta, 6)
        A = torch.tensor([level.A.value for level in levels], dtype=torch.float64)
        R = torch.tensor([level.R.value for level in levels], dtype=torch.float64)
        band = axis.fill_between(times, A * X0 - 2 * R, A * X0 + 2 * R, color="0.5", alpha=0.2)
        axis.plot(times, x, linewidth=1)
        axis.set(xlim=(0, 1), xticks=(0, 0.5, 1), xlabel="time $t$")
    axes[1, 0].set_ylabel("state $x$")
    band.set_label(r"$A x_0 \pm 2R$")
    axes[1, 0].legend(handles=[band], loc="lower left", fontsize=8)
    return figure
