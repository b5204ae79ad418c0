"""One data point: the state moves along the ODE's path, ε̂ rests. Every process of the page."""

import matplotlib.pyplot as plt
import torch

import flowsolve

PICTURE = [
    [[0.9, -0.4, 0.1, 0.7], [-0.8, 0.3, -0.1, -0.6], [0.2, 0.5, -0.9, 0.4], [0.6, -0.7, 0.8, -0.2]]
]

#: Process, data point, and the last time of the path.
CASES = {
    "VP": (flowsolve.VP(), [1.0, -2.0, 0.5], 1e-3),
    "VE": (flowsolve.VE(sigma_max=5.0), [1.0, -2.0, 0.5], 0.0),
    "CLD": (flowsolve.CLD(), [1.0], 1e-3),
    "BDM": (flowsolve.Blurring(4), PICTURE, 0.0),
}


def path(process, x0, end, steps=50):
    """Times, states and ε̂ along one path of the probability-flow ODE, by DOP853."""
    model = flowsolve.exact.Dirac(process, x0)
    roots = torch.linspace(process.t_max**0.5, end**0.5, steps + 1, dtype=torch.float64)
    times = [process.t_max, *(roots[1:-1] ** 2).tolist(), end]
    accurate = {"solver": "scipy:DOP853", "nfe": 10**6, "rtol": 1e-12, "atol": 1e-12}
    run = flowsolve.solve(model, **accurate, grid=times, seed=10, keep="path")
    eps = [model(x, t).eps for x, t in zip(run.path, times, strict=True)]
    return times, run.path.flatten(1), torch.cat(eps).flatten(1)


def changes():
    """The largest change of any component of ε̂ along the path, and of the state."""
    paths = {name: path(*case) for name, case in CASES.items()}
    return {
        name: [(y - y[0]).abs().max().item() for y in (eps, x)]
        for name, (_, x, eps) in paths.items()
    }


def draw():
    figure, axes = plt.subplots(
        2, len(CASES), sharex=True, figsize=(7.4, 3.6), layout="constrained"
    )
    for column, (name, case) in zip(axes.T, CASES.items(), strict=True):
        times, x, eps = path(*case)
        for axis, y in zip(column, (x, eps), strict=True):
            axis.plot(times, y[:, :4])
        column[0].set_title(name)
        column[0].set_xlim(times[0], times[-1])
        column[1].set_xlabel("time $t$")
        column[1].set_ylim(-3, 3)
    axes[0, 0].set_ylabel("state $x$")
    axes[1, 0].set_ylabel(r"prediction $\hat\varepsilon$")
    return figure
