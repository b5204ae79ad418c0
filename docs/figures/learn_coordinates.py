"""One exact path of a rectified flow, from pure noise to clean data: what each of the coordinates
holds, and the state as each sees it."""

import matplotlib.pyplot as plt
import torch

import flowsolve
from flowsolve.coordinates import DATA, FLOW, NOISE

PROCESS = flowsolve.RectifiedFlow()
MODEL = flowsolve.exact.Mixture(PROCESS, [1, 1], [[-1.0], [1.0]], 0.05)
START = 0.6  # the state at pure noise
#: Coordinates, what they hold, and what they divide the state by.
CASES = {
    "NOISE": (NOISE, r"$\hat\varepsilon$", "$x/A$", "C0"),
    "DATA": (DATA, r"$\hat x_0$", "$x/R$", "C1"),
    "FLOW": (FLOW, r"$\hat\varepsilon-\hat x_0$", "$x/(A+R)$", "C2"),
}


def path(points=100):
    """Times, and the states (points,) of the path on them."""
    times = torch.linspace(1.0, PROCESS.t_min, points, dtype=torch.float64).tolist()
    run = flowsolve.solve(
        MODEL,
        solver="scipy:DOP853",
        rtol=1e-9,
        atol=1e-9,
        grid=times,
        start=torch.tensor([[START]], dtype=torch.float64),
        keep="path",
    )
    return times, run.path[:, 0, 0]


def held():
    """Times, and along the path what each coordinates hold and x/P, by name."""
    times, x = path()
    levels = [PROCESS.level(t) for t in times]
    pairs = [MODEL(y.reshape(1, 1), level) for y, level in zip(x, levels, strict=True)]
    x0, eps = (torch.stack([pair[k][0, 0] for pair in pairs]) for k in (0, 1))
    found = {}
    for name, (coordinates, *_) in CASES.items():
        u, v = coordinates.p_of
        P = torch.tensor([coordinates.P(level).value for level in levels], dtype=torch.float64)
        found[name] = u * x0 + v * eps, x / P
    return times, found


def draw():
    times, found = held()
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.5), layout="constrained")
    for name, (_, p, y, color) in CASES.items():
        left.plot(times, found[name][0], color=color, lw=1.8, label=f"{name}: {p}")
        right.plot(times, found[name][1], color=color, lw=1.8, label=f"{name}: {y}")
    for axis in (left, right):
        axis.set(xlabel=r"time $t=\bar\sigma/(1+\bar\sigma)$", xlim=(1.03, -0.03))
        axis.axvline(1.0, color="0.5", lw=0.8, ls=":")
        axis.axvline(0.0, color="0.5", lw=0.8, ls=":")
    left.set(ylabel="held over a step", ylim=(-1.1, 1.5))
    right.set(ylabel="the state, divided", ylim=(-0.9, 6.0))
    left.set_title("what is held", fontsize=10)
    right.set_title("where it can start and end", fontsize=10)
    left.legend(loc="lower left", fontsize=8)
    right.legend(loc="upper center", fontsize=8)
    for x, ha, word in ((0.98, "left", "pure\nnoise"), (0.02, "right", "clean\ndata")):
        right.text(x, -0.75, word, ha=ha, va="bottom", fontsize=8, color="0.5")
    return figure
