"""One digit at rising noise levels: the state, the state over A, and what a network makes of it."""

import matplotlib.pyplot as plt
import torch

import flowsolve
from flowsolve.models.data import data

DIGIT, SEED, SIGMAS = 6, 0, (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)


def states():
    """Levels, the states of one digit on them with one noise, and the estimates of x0."""
    model = flowsolve.digits()
    x0 = data().held_out[DIGIT : DIGIT + 1]
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(SEED))
    levels = [model.process.at("sigma", sigma) for sigma in SIGMAS]
    x = [level.A.value * x0 + level.R.value * eps for level in levels]
    guesses = [x0, *(model(y, level).x0 for y, level in zip(x[1:], levels[1:], strict=True))]
    return levels, x, guesses


def draw():
    levels, x, guesses = states()
    figure, axes = plt.subplots(2, len(levels), figsize=(7.4, 2.7), layout="constrained")
    for line, row in zip(axes, (x, guesses), strict=True):
        for axis, picture in zip(line, row, strict=True):
            axis.set(xticks=[], yticks=[], frame_on=False)
            axis.imshow(picture[0, 0].numpy(), cmap="gray", vmin=-1.6, vmax=1.6)
    for axis, level in zip(axes[0], levels, strict=True):
        axis.set_title(
            rf"$\bar\sigma = {level.sigma:g}$"
            + f"\nA = {level.A.value:.2f}\nR = {level.R.value:.2f}",
            fontsize=9,
        )
    axes[0, 0].set_ylabel("state $x$")
    axes[1, 0].set_ylabel(r"estimate $\hat x_0$")
    return figure
