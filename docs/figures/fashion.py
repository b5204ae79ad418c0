"""Clothes from the same starts: solvers with five evaluations, and where the ODE ends."""

import matplotlib.pyplot as plt
import torch

import flowsolve
from flowsolve.models.fashion import NAMES

SOLVERS = ("ddim", "dpmpp2m", "unipc3", "auto")
#: That of the named solvers; "auto" has its own.
GRID = "uniform"
NFE, MANY, SEED = 5, 100, 0


def ends():
    """The samples by the names of their rows, and their root mean square distance to the last's."""
    model = flowsolve.fashion(torch.arange(len(NAMES)))
    many = flowsolve.sample(model, nfe=MANY, seed=SEED)
    found = {
        name: flowsolve.sample(
            model, solver=name, nfe=NFE, grid=None if name == "auto" else GRID, seed=SEED
        )
        for name in SOLVERS
    }
    errors = {name: float((x - many).square().mean().sqrt()) for name, x in found.items()}
    return {**found, f"auto, {MANY}": many}, errors


def draw():
    rows, errors = ends()
    figure, axes = plt.subplots(len(rows), len(NAMES), figsize=(7.4, 4.0), layout="constrained")
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image[0].numpy(), cmap="gray", vmin=-1, vmax=1)
            axis.set(xticks=[], yticks=[], frame_on=False)
        said = f"{name}, {NFE}\n{errors[name]:.3f}" if name in errors else name
        line[0].set_ylabel(said, rotation=0, ha="right", va="center")
    for axis, name in zip(axes[0], NAMES, strict=True):
        axis.set_title(name, fontsize=7.5)
    return figure
