"""Digits as codes: there and back, one start with more steps, and between two codes."""

import matplotlib.pyplot as plt
import torch

import flowsolve
from flowsolve.models.data import data

THERE, NFE = 9, (5, 20)  # how many digits go there and back, and with how many evaluations
STEPS, LABELS, SEED = (5, 10, 20, 50, 100), (3, 5, 8), 4
BETWEEN, POINTS = (2, 6), 9  # held-out digits, and how many pictures from one to the other


def pictures(rows, columns, height, titles=(), names=()):
    """A figure of empty frames, with titles above the columns and names left of the rows."""
    figure, axes = plt.subplots(
        rows, columns, figsize=(7.4, height), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for axis, title in zip(axes[0], titles, strict=False):
        axis.set_title(title, fontsize=9)
    for axis, name in zip(axes[:, 0], names, strict=False):
        axis.set_ylabel(name, fontsize=9)
    return figure, axes


def show(axes, images, limit=1.0):
    for axis, image in zip(axes, images, strict=True):
        axis.imshow(image[0].numpy(), cmap="gray", vmin=-limit, vmax=limit)


def there_and_back():
    """Held-out digits, their codes, and what comes back with so many evaluations each way."""
    split = data()
    x, model = split.held_out[:THERE], flowsolve.digits(split.held_out_labels[:THERE])
    return x, {
        n: flowsolve.reconstruct(model, x, solver="ddim", grid="uniform", nfe=n) for n in NFE
    }


def draw():
    x, found = there_and_back()
    names = ["digit $x_0$", "its code $x_T$", *(f"back, S = {n}" for n in NFE)]
    figure, axes = pictures(len(names), THERE, 3.6, names=names)
    show(axes[0], x)
    show(axes[1], found[NFE[-1]].latent, 2.0)
    for row, n in zip(axes[2:], NFE, strict=True):
        show(row, found[n].x)
    return figure


def same_start():
    model = flowsolve.digits(torch.tensor(LABELS))
    start = torch.randn(len(LABELS), 1, 8, 8, generator=torch.Generator().manual_seed(SEED))
    titles = ["start $x_T$", *(f"S = {n}" for n in STEPS)]
    figure, axes = pictures(len(LABELS), len(titles), 3.6, titles)
    show(axes[:, 0], start, 2.0)
    for column, n in zip(axes.T[1:], STEPS, strict=True):
        show(column, flowsolve.sample(model, solver="ddim", nfe=n, start=start))
    return figure


def between():
    split, (a, b) = data(), BETWEEN
    model = flowsolve.digits()
    x = flowsolve.interpolate(
        model, split.held_out[a : a + 1], split.held_out[b : b + 1], steps=POINTS, nfe=20
    )
    blend = [torch.lerp(x[0, 0], x[-1, 0], k / (POINTS - 1)) for k in range(POINTS)]
    titles = [f"{k}/{POINTS - 1}" for k in range(POINTS)]
    figure, axes = pictures(2, POINTS, 2.1, titles, ["codes", "pixels"])
    show(axes[0], x[:, 0])
    show(axes[1], blend)
    return figure
