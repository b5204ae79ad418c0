"""DDIM's steps on a table of 1000 levels: to the estimate of x0, and back up; and which levels."""

import matplotlib.pyplot as plt
import torch

import flowsolve

TABLE = flowsolve.VP.discrete(flowsolve.tables.linear(1000, 1e-4, 0.02))
MODEL = flowsolve.exact.Mixture(TABLE, [1, 1], [[-1.0], [1.0]], 0.02)
START, TIMES = 2.1, (700, 350, 150, -1)  # the state at the first level, and the levels


def run(**options):
    """A run from START, on the levels unless another grid is given."""
    start = torch.tensor([[START]], dtype=torch.float64)
    options = {"grid": [float(t) for t in TIMES]} | options
    return flowsolve.solve(MODEL, start=start, **options)


def with_noise():
    """The mean and the standard deviation of the first step's end, with η = 1."""
    s, t = TABLE.level(float(TIMES[0])), TABLE.level(float(TIMES[1]))
    x0, eps = MODEL(torch.tensor([[START]], dtype=torch.float64), s)
    spread = t.R.value * (1 - (t.sigma / s.sigma) ** 2) ** 0.5
    kept = (t.R.value**2 - spread**2) ** 0.5
    return t.A.value * x0.item() + kept * eps.item(), spread


def subsequences():
    """The levels at which the network is asked, by name."""
    grids = {"uniform": flowsolve.grids.Uniform(), "quadratic": flowsolve.grids.Quadratic()}
    return {"all 1000": list(range(999, -1, -1))} | {
        rf"{name} $\tau$, 20": [level.t for level in grid.levels(TABLE, 20) if not level.clean]
        for name, grid in grids.items()
    }


def arrow(axis, start, end, **style):
    style = {"arrowstyle": "-|>", "shrinkA": 3, "shrinkB": 3, "lw": 1.7} | style
    axis.annotate("", end, start, arrowprops=style)


def draw():
    figure, (axis, ruler) = plt.subplots(
        2, 1, figsize=(7.4, 4.8), height_ratios=(4, 1), sharex=True, layout="constrained"
    )
    times = [float(t) for t in range(TIMES[0], -1, -10)]
    path = run(solver="scipy:DOP853", rtol=1e-9, atol=1e-9, grid=times, keep="path").path[:, 0, 0]
    axis.plot(times, path, color="0.5", lw=1.2, label="exact path of the ODE")

    steps = run(solver="ddim", keep=("path", "x0"))
    states, guesses = steps.path[:, 0, 0].tolist(), steps.x0_path[:, 0, 0].tolist()
    for k, faint in ((0, 1.0), (1, 0.45), (2, 0.45)):
        (s, t), (x, y), x0 = TIMES[k : k + 2], states[k : k + 2], guesses[k]
        arrow(axis, (s, x), (0, x0), color="C1", alpha=faint)
        if t >= 0:  # from the last level the estimate is the sample
            arrow(axis, (0, x0), (t, y), color="C0", alpha=faint)
    axis.plot(TIMES[:3], states[:3], "o", color="C0", label=r"states of DDIM ($\eta=0$)")
    axis.plot([0] * 3, guesses[:3], "D", color="C1", ms=5, label=r"estimates $\hat x_0$")
    mean, spread = with_noise()
    axis.errorbar(
        [TIMES[1]], [mean], [spread], color="C2", fmt="s", ms=4, capsize=4,
        label=r"with $\eta=1$: mean ± sd of $x_t$",
    )  # fmt: skip
    axis.annotate("$x_s$", (TIMES[0], states[0]), (-4, 8), textcoords="offset points", fontsize=11)
    axis.annotate("$x_t$", (TIMES[1], states[1]), (-4, 8), textcoords="offset points", fontsize=11)
    axis.annotate(r"$\hat x_0$", (0, guesses[0]), (6, -3), textcoords="offset points", fontsize=11)
    axis.text(500, 1.3, "1", color="C1", ha="right", fontsize=12)
    axis.text(255, 1.17, "2", color="C0", ha="center", fontsize=12)
    axis.set(ylabel="state $x$", xlim=(1000, -60), ylim=(-0.7, 2.45))
    axis.legend(loc="lower left", fontsize=8)

    for row, ticks in enumerate(subsequences().values()):
        ruler.vlines(ticks, row - 0.35, row + 0.35, color="0.5", lw=0.4 if row == 0 else 1.5)
    ruler.set_yticks(range(3), list(subsequences()), fontsize=8)
    ruler.set(xlabel="index $t$ of the level", ylim=(2.5, -0.5))
    return figure
