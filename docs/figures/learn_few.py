"""ε̂ along paths of the ODE, and how fast it changes: a point, a Gaussian, a mixture, a network."""

import matplotlib.pyplot as plt
import torch

import flowsolve

PROCESS, TOP, BOTTOM = flowsolve.VP(), 20.0, 0.02  # and the σ̄ between which paths are drawn
LAWS = {
    "one point": flowsolve.exact.Dirac(PROCESS, [0.5]),
    "a Gaussian": flowsolve.exact.Gaussian(PROCESS, [0.0], 0.25),
    "two narrow Gaussians": flowsolve.exact.Mixture(PROCESS, [1, 1], [[-1.0], [1.0]], 0.01),
}
PIXELS = (10, 13, 20, 27, 34, 44, 52)  # of the digits, drawn for one path
LABELS, SEED = (3, 5, 8), 0


def path(model, solver, nfe, start):
    """σ̄'s, and ε̂ on each level along the paths from a state at TOP, (levels, n, numbers)."""
    ratio = BOTTOM / TOP
    levels = [model.process.at("sigma", TOP * ratio ** (k / nfe)) for k in range(nfe + 1)]
    run = flowsolve.solve(
        model,
        solver=solver,
        nfe=nfe * 5,
        grid=[level.t for level in levels],
        start=start,
        keep="path",
    )
    eps = [model(x, level).eps.flatten(1) for x, level in zip(run.path, levels, strict=True)]
    return [level.sigma for level in levels], torch.stack(eps).double()


def laws():
    """σ̄'s and ε̂ along the paths from eight states at TOP, for each law."""
    start = torch.tensor([-2.1, -1.5, -0.9, -0.3, 0.3, 0.9, 1.5, 2.1], dtype=torch.float64)[:, None]
    state = PROCESS.at("sigma", TOP).R.value * start
    return {name: path(model, "rk4", 100, state) for name, model in LAWS.items()}


def network():
    """The same for the shipped network, one path for each label."""
    model = flowsolve.digits(torch.tensor(LABELS))
    start = torch.randn(len(LABELS), 1, 8, 8, generator=torch.Generator().manual_seed(SEED))
    level = model.process.at("sigma", TOP)
    return path(model, "etd3", 40, level.R.value * start)


def rates(sigmas, eps):
    """Middle σ̄'s, and the rms change of ε̂ for each factor of e in σ̄."""
    logs = torch.tensor(sigmas, dtype=torch.float64).log()
    change = (eps[1:] - eps[:-1]).square().mean((1, 2)).sqrt() / (logs[:-1] - logs[1:])
    return ((logs[1:] + logs[:-1]) / 2).exp(), change


def draw():
    found = laws() | {"the digits' network": network()}
    figure, axes = plt.subplots(
        2,
        4,
        figsize=(7.4, 4.0),
        height_ratios=(1.7, 1),
        sharex=True,
        sharey="row",
        layout="constrained",
    )
    for k, (column, (name, (sigmas, eps))) in enumerate(zip(axes.T, found.items(), strict=True)):
        shown = eps[:, 0, PIXELS] if k == 3 else eps[..., 0]
        column[0].plot(sigmas, shown, color="C4", lw=1.2)
        column[0].set_title(name, fontsize=10)
        column[1].plot(*rates(sigmas, eps), color="C3", lw=1.4)
        column[1].set(xlabel=r"$\bar\sigma$", xscale="log", xlim=(TOP, BOTTOM))
        column[1].set_xticks([10, 1, 0.1], ["10", "1", "0.1"])
        column[1].minorticks_off()
    axes[0, 0].set(ylabel=r"prediction $\hat\varepsilon$", ylim=(-3, 3))
    axes[1, 0].set(ylabel="change for a\nfactor of e in " + r"$\bar\sigma$")
    return figure
