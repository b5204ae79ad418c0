"""A process of one's own beside three others: signal and noise, and what is sampled on it."""

import math
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch

import flowsolve
from flowsolve.processes import ScalarProcess


@dataclass(frozen=True)
class StraightSignal(ScalarProcess):
    """The page's process."""

    t_max = 1.0
    t_min = 5e-5

    def signal_and_noise(self, t):
        return 1.0 - t, math.sqrt(t * (2.0 - t))

    def signal_and_noise_rates(self, t):
        a, r = self.signal_and_noise(t)
        return -1.0, a / r

    def time_of(self, sigma):
        if math.isinf(sigma):
            return 1.0
        root = math.sqrt(1.0 + sigma**2)
        return sigma**2 / (root * (1.0 + root))


PROCESSES = {
    "VP": (flowsolve.VP(), "C0", "-"),
    "cosine": (flowsolve.VP.cosine(), "C1", "--"),
    "rectified flow": (flowsolve.RectifiedFlow(), "C4", "-."),
    "yours": (StraightSignal(), "C2", "-"),
}
N = 2000


def samples():
    """The law, and samples of a run of 20 evaluations."""
    model = flowsolve.exact.Mixture(StraightSignal(), [1, 2], [[-1.0], [1.0]], 0.05)
    return model, flowsolve.sample(model, nfe=20, n=N, seed=0)[:, 0]


def draw():
    figure, axes = plt.subplots(1, 3, figsize=(7.4, 2.9), layout="constrained")
    for name, (process, color, style) in PROCESSES.items():
        times = torch.linspace(0.0, process.t_max, 200, dtype=torch.float64).tolist()
        levels = [process.level(t) for t in times]
        width = 2.4 if name == "yours" else 1.3
        for axis, y in zip(axes, ("A", "R"), strict=False):
            axis.plot(
                times,
                [getattr(level, y).value for level in levels],
                style,
                color=color,
                lw=width,
                label=name,
            )
    for axis, title in zip(axes, ("signal $A$", "noise $R$"), strict=False):
        axis.set(xlabel="time $t$", ylim=(-0.04, 1.04))
        axis.set_title(title, fontsize=10)
    axes[1].legend(fontsize=8, loc="lower right")
    model, x = samples()
    axes[2].hist(x, bins=60, range=(-2, 2), density=True, color="C2", alpha=0.5, label="samples")
    at = torch.linspace(-2, 2, 300, dtype=torch.float64)
    density = model.log_density(at[:, None], model.process.t_clean).exp()
    axes[2].plot(at, density, color="0.5", lw=1.5, label="the law")
    axes[2].set(xlabel="$x_0$")
    axes[2].set_title("sampled on yours", fontsize=10)
    axes[2].legend(fontsize=8, loc="upper left")
    return figure
