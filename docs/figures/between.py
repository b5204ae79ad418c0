"""Between two x_T of one class: along the great circle, and along a straight line."""

import matplotlib.pyplot as plt
import torch

import flowsolve

STEPS, LABELS, SEED = 9, (2, 6, 8), 7


def draw():
    model = flowsolve.digits(torch.tensor(LABELS))
    start = model.process.start
    a, b = (
        (start.R @ torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(SEED + k)))
        for k in (0, 1)
    )
    ts = [k / (STEPS - 1) for k in range(STEPS)]
    circle = [flowsolve.sample(model, nfe=20, start=flowsolve.slerp(a, b, t)) for t in ts]
    line = [flowsolve.sample(model, nfe=20, start=torch.lerp(a, b, t)) for t in ts]
    figure, axes = plt.subplots(6, STEPS, figsize=(7.0, 5.0), layout="constrained")
    for k in range(STEPS):
        for row in range(6):
            x = (circle, line)[row % 2][k][row // 2, 0]
            axes[row, k].imshow(x.numpy(), cmap="gray", vmin=-1, vmax=1)
            axes[row, k].set(xticks=[], yticks=[], frame_on=False)
    for row in range(6):
        axes[row, 0].set_ylabel(("circle", "line")[row % 2], fontsize=8)
    return figure
