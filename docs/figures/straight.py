"""VP, one dimension: paths in (t, x) and in (σ̄, x̄)."""

import matplotlib.pyplot as plt
import torch

import flowsolve

PROCESS = flowsolve.VP()
MODELS = {
    "one point": flowsolve.exact.Dirac(PROCESS, [0.5]),
    "three narrow Gaussians": flowsolve.exact.Mixture(
        PROCESS, [1, 1, 1], [[-1.5], [0.0], [1.5]], 0.03
    ),
}


def paths(model, n=9):
    """Levels, and the states of n paths on them, (levels, n)."""
    start = torch.linspace(-2.0, 2.0, n, dtype=torch.float64)[:, None]
    times = torch.linspace(1.0, PROCESS.t_min, 200, dtype=torch.float64).tolist()
    run = flowsolve.solve(
        model,
        solver="scipy:DOP853",
        nfe=10**6,
        rtol=1e-10,
        atol=1e-10,
        grid=times,
        start=start,
        keep="path",
    )
    return [PROCESS.level(t) for t in times], run.path[..., 0]


def draw():
    figure, axes = plt.subplots(2, 2, figsize=(7.4, 4.6), sharex="col", layout="constrained")
    for row, (name, model) in zip(axes, MODELS.items(), strict=True):
        levels, x = paths(model)
        A = torch.tensor([level.A.value for level in levels], dtype=torch.float64)
        row[0].plot([level.t for level in levels], x, color="C2")
        row[1].plot([level.sigma for level in levels], x / A[:, None], color="C4")
        row[0].set(ylabel=f"{name}\n$x$", xlim=(1, 0))
        row[1].set(ylabel=r"$\bar x$", xlim=(6, 0), ylim=(-9, 9))
    axes[1, 0].set_xlabel("time $t$")
    axes[1, 1].set_xlabel(r"noise level $\bar\sigma$")
    return figure
