"""The same x_T with more and more steps of ddim: a row for each of three digits."""

import matplotlib.pyplot as plt
import torch

import flowsolve

STEPS = (5, 10, 20, 50, 100, 1000)


def draw():
    model = flowsolve.digits(torch.tensor([3, 5, 8]))
    columns = [flowsolve.sample(model, solver="ddim", nfe=n, seed=4) for n in STEPS]
    figure, axes = plt.subplots(3, len(STEPS), figsize=(6.4, 3.4), layout="constrained")
    for k, (n, x) in enumerate(zip(STEPS, columns, strict=True)):
        axes[0, k].set_title(f"S = {n}", fontsize=9)
        for row in range(3):
            axes[row, k].imshow(x[row, 0].numpy(), cmap="gray", vmin=-1, vmax=1)
            axes[row, k].set(xticks=[], yticks=[], frame_on=False)
    return figure
