"""Straight lines of single pairs (x0, ε), the ODE's paths, and the law of both at three levels."""

import matplotlib.pyplot as plt
import torch

import flowsolve

PROCESS = flowsolve.VP()
MODEL = flowsolve.exact.Mixture(PROCESS, [0.3, 0.7], [[-1.0], [1.0]], 0.02)
TOP, BOTTOM = 2.0, 0.02  # σ̄
SHOWN = (2.0, 0.8, 0.1)  # the levels of the histograms
POINT = (1.0, -0.3)  # σ̄ and x̄ of the point whose lines are drawn


def lines(n):
    """The ends of the lines of n pairs: x0 at σ̄ = 0 and x0 + TOP ε, each (n,)."""
    x0 = MODEL.draw(n, seed=3)[:, 0]
    eps = torch.randn(n, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return x0, x0 + TOP * eps


def through(sigma, x, n):
    """Slopes of n lines through x̄ at σ̄: ε = (x̄ - x0)/σ̄ for x0 of the posterior; and ε̂."""
    x0 = MODEL.draw(200_000, seed=5)[:, 0]
    likelihood = (-0.5 * ((x - x0) / sigma) ** 2).exp()
    chosen = torch.multinomial(
        likelihood, n, replacement=True, generator=torch.Generator().manual_seed(6)
    )
    level = PROCESS.at("sigma", sigma)
    state = level.A.value * torch.tensor([[x]], dtype=torch.float64)
    return (x - x0[chosen]) / sigma, MODEL(state, level).eps.item()


def paths(start, sigmas):
    """x̄ on the ODE's paths from x̄ at the first of the σ̄'s, (levels, n)."""
    levels = [PROCESS.at("sigma", sigma) for sigma in sigmas]
    run = flowsolve.solve(
        MODEL,
        solver="rk4",
        grid=[level.t for level in levels],
        nfe=4 * len(levels),
        start=levels[0].A.value * start[:, None],
        keep="path",
    )
    A = torch.tensor([level.A.value for level in levels], dtype=torch.float64)
    return run.path[..., 0] / A[:, None]


def density(x, sigma):
    """The exact density of x̄."""
    level = PROCESS.at("sigma", sigma)
    return level.A.value * MODEL.log_density(level.A.value * x[:, None], level).exp()


def draw():
    figure = plt.figure(figsize=(7.4, 5.4), layout="constrained")
    cells = figure.add_gridspec(2, 6, height_ratios=(1.45, 1))
    left, right = (figure.add_subplot(cells[0, 3 * k : 3 * k + 3]) for k in (0, 1))

    x0, top = lines(70)
    for axis in (left, right):
        axis.plot([0, TOP], torch.stack([x0, top]), color="0.5", lw=0.6, alpha=0.45)
        axis.set(xlim=(TOP, -0.02), ylim=(-4.2, 4.2), xlabel=r"noise level $\bar\sigma$")
    sigma, x = POINT
    slopes, mean = through(sigma, x, 14)
    for k, slope in enumerate(slopes):
        ends = [x + (TOP - sigma) * slope, x - sigma * slope]
        name = "lines through one point" if k == 0 else None
        left.plot([TOP, 0], ends, color="C0", lw=0.9, alpha=0.8, label=name)
    here = [x + 0.6 * mean, x - 0.6 * mean]
    name = r"their average slope $\hat\varepsilon$"
    left.plot([sigma + 0.6, sigma - 0.6], here, color="C3", lw=3, label=name)
    left.plot([sigma], [x], "o", color="C3", ms=6)
    left.set(ylabel=r"$\bar x = x/A$", title=r"one line for each pair $(x_0, \varepsilon)$")

    sigmas = torch.linspace(TOP**0.5, BOTTOM**0.5, 90, dtype=torch.float64).square().tolist()
    ways = paths(torch.linspace(-3.6, 3.6, 13, dtype=torch.float64), sigmas)
    right.plot(sigmas, ways[:, 0], color="C3", lw=1.4, label="paths of the ODE")
    right.plot(sigmas, ways[:, 1:], color="C3", lw=1.4)
    right.set(title="the ODE follows the average")
    right.tick_params(labelleft=False)
    for axis in (left, right):
        axis.legend(loc="upper right", fontsize=8)

    level = PROCESS.at("sigma", TOP)
    start = MODEL.draw(40_000, level=level, seed=7)[:, 0] / level.A.value
    known = torch.linspace(TOP, SHOWN[-1], 39, dtype=torch.float64).tolist()
    at = paths(start, known)
    grid = torch.linspace(-6.0, 6.0, 500, dtype=torch.float64)
    for k, sigma in enumerate(SHOWN):
        axis = figure.add_subplot(cells[1, 2 * k : 2 * k + 2])
        row = min(range(len(known)), key=lambda i: abs(known[i] - sigma))
        axis.hist(
            at[row], bins=160, density=True, color="C3", alpha=0.45, label="states of the ODE"
        )
        axis.plot(grid, density(grid, known[row]), color="C0", lw=1.4, label="exact law")
        axis.set_xlim(-6, 6)
        axis.set(title=rf"$\bar\sigma = {sigma:g}$", xlabel=r"$\bar x$")
        if k == 0:
            axis.set_ylabel("density")
            axis.set_ylim(top=0.27)
            axis.legend(fontsize=8, loc="upper right")
    return figure
