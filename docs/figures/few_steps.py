"""VP, one data point, few uniform steps in t: what is left of the noise, by rule."""

from itertools import pairwise

import matplotlib.pyplot as plt
import torch

import flowsolve
from flowsolve.coordinates import NOISE

PROCESS = flowsolve.VP()
X0, END = 1.0, 1e-3
MODEL = flowsolve.exact.Dirac(PROCESS, [X0])


def euler(x, s, t, lam, z):
    """Euler's method on the reverse SDE, Euler-Maruyama: everything at its value at s."""
    h, rate, R = (
        t.t - s.t,
        PROCESS.beta_min + (PROCESS.beta_max - PROCESS.beta_min) * s.t,
        s.R.value,
    )
    drift = -0.5 * rate * x + 0.5 * (1 + lam**2) * rate / R * MODEL(x, s).eps
    return x + h * drift + lam * (-h * rate) ** 0.5 * z


def frozen_eps(x, s, t, lam, z):
    """The exact solution of the same SDE with ε̂ held at its value at s."""
    carry, weight = (o.value for o in NOISE.hold(s, t))
    noise = ((carry * s.R.value) ** 2 - t.R.value**2) ** 0.5
    return carry * x + (1 + lam**2) * weight * MODEL(x, s).eps + lam * noise * z


def frozen_x0(x, s, t, lam, z):
    """The exact solution with x̂0 held: gDDIM's stochastic step."""
    x0, eps = MODEL(x, s)
    quiet = PROCESS.bridge(s, t, lam)
    return t.A @ x0 + quiet @ eps + t.R.excess(quiet) @ z


RULES = {
    "Euler-Maruyama, ν = 1": (euler, 1.0),
    "frozen ε̂, ν = 1": (frozen_eps, 1.0),
    "frozen ε̂, ν = ½": (frozen_eps, 0.5),
    "Euler, ν = 0": (euler, 0.0),
    "frozen ε̂, ν = 0: DDIM": (frozen_eps, 0.0),
    "frozen x̂0, ν = 1": (frozen_x0, 1.0),
}


def left(rule, lam, steps):
    """E|x - x0|² at t = 10⁻³. A rule is affine in x and z, so mean and variance are carried without
    sampling."""
    levels = [
        PROCESS.level(t) for t in torch.linspace(1.0, END, steps + 1, dtype=torch.float64).tolist()
    ]
    mean, variance = levels[0].A.value * X0, levels[0].R.value ** 2
    x, z = torch.tensor([[[0.0], [1.0], [0.0]], [[0.0], [0.0], [1.0]]], dtype=torch.float64)
    for s, t in pairwise(levels):
        at_zero, at_one, noise = rule(x, s, t, lam, z).flatten().tolist()
        mean = at_zero + (at_one - at_zero) * mean
        variance = (at_one - at_zero) ** 2 * variance + (noise - at_zero) ** 2
    return (mean - X0) ** 2 + variance


def wander(lam, steps=400, paths=4):
    """Times and ε̂ along paths of the SDE with noise ν, sampled without error by gDDIM's step."""
    levels = [
        PROCESS.level(t) for t in torch.linspace(1.0, END, steps + 1, dtype=torch.float64).tolist()
    ]
    generator = torch.Generator().manual_seed(2)
    x, eps = MODEL.draw(paths, level=levels[0], seed=2), []
    for s, t in pairwise(levels):
        eps.append(MODEL(x, s).eps)
        x = frozen_x0(x, s, t, lam, torch.randn(x.shape, dtype=torch.float64, generator=generator))
    return [s.t for s in levels[:-1]], torch.cat(eps, 1).T


def draw():
    figure, (one, two) = plt.subplots(
        1, 2, figsize=(7.4, 3.6), width_ratios=(0.8, 1), layout="constrained"
    )
    for lam, color in ((1.0, "C4"), (0.0, "C2")):
        times, eps = wander(lam)
        first, *_ = one.plot(times, eps, color=color, lw=0.8 if lam else 1.6)
        first.set_label(f"$\\nu = {lam:g}$")
    one.set(xlabel="time $t$", ylabel=r"$\hat\varepsilon$ along a path", xlim=(1, 0))
    one.legend(loc="upper left")
    counts = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300]
    for (name, (rule, lam)), marker in zip(RULES.items(), "osvPX^", strict=True):
        two.loglog(counts, [left(rule, lam, n) for n in counts], marker=marker, label=name)
    two.axhline(PROCESS.level(END).R.value ** 2, color="black", lw=0.8, ls=":")
    two.set(xlabel="steps", ylabel=r"$E\,|x-x_0|^2$ at $t=10^{-3}$")
    two.legend(fontsize=7.5, loc="upper right")
    return figure
