"""A digit on a CLD and on blurring diffusion; and what stands still on a CLD, and what turns."""

import matplotlib.pyplot as plt
import torch
from constant import path
from root import cholesky

import flowsolve
from flowsolve.models.data import data

DIGIT, SEED, TIMES = 6, 0, (0.0, 0.1, 0.2, 0.3, 0.5, 0.9)
CLD, POINT = flowsolve.CLD(), 1.0


def states():
    """By name, pictures of one digit at TIMES, with one noise."""
    x0 = data().held_out[DIGIT : DIGIT + 1].double()
    generator = torch.Generator().manual_seed(SEED)
    rows = {}
    for name, process in (
        ("VP: noise", flowsolve.VP()),
        ("CLD: position", CLD),
        ("blurring", flowsolve.Blurring(8)),
    ):
        clean = process.state(x0)
        eps = torch.randn(clean.shape, dtype=torch.float64, generator=generator)
        levels = [process.level(t) for t in TIMES]
        x = [level.A @ clean + level.R @ eps for level in levels]
        rows[name] = [y[0, 0] for y in x]
        if process is CLD:
            rows["CLD: velocity"] = [2.0 * y[0, 1] for y in x]  # in units of √M
    return rows


def draw_states():
    rows = states()
    figure, axes = plt.subplots(len(rows), len(TIMES), figsize=(7.4, 5.0), layout="constrained")
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            axis.set(xticks=[], yticks=[], frame_on=False)
            axis.imshow(picture.numpy(), cmap="gray", vmin=-1.6, vmax=1.6)
        line[0].set_ylabel(name, fontsize=9)
    for axis, t in zip(axes[0], TIMES, strict=True):
        axis.set_title(f"$t={t:g}$", fontsize=9)
    return figure


def along(steps=100):
    """Times; state, ε̂ of R, and what Cholesky's root holds, (levels, 2) each, along one path of the
    ODE to the point."""
    times, x, eps = path(CLD, [POINT], 1e-3, steps)
    turned = [cholesky(CLD.level(t))[1].T @ e[None] for t, e in zip(times, eps, strict=True)]
    return times, x, eps, torch.cat(turned)


def draw():
    times, *three = along()
    figure, axes = plt.subplots(1, 3, figsize=(7.4, 3.0), layout="constrained")
    words = (
        ("the state moves", "state $x$", ("position", "velocity")),
        ("with the right root", r"$\hat\varepsilon$ of $R$", ("first", "second")),
        ("with Cholesky's root", r"$\hat\varepsilon$ of $L$", ("first", "second")),
    )
    for axis, y, (title, label, names) in zip(axes, three, words, strict=True):
        for k, name in enumerate(names):
            axis.plot(times, y[:, k], color=f"C{k}", lw=1.8, label=name, ls="-" if k == 0 else "--")
        axis.set(xlabel="time $t$", ylabel=label, xlim=(1, 0))
        axis.set_title(title, fontsize=10)
        axis.set_ylim(-1.5, 2.1)
        axis.legend(loc="upper left", fontsize=7, ncols=2, handlelength=1.3, columnspacing=0.8)
    return figure
