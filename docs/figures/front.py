"""The same starts with more and more evaluations, by DDIM and by auto."""

import matplotlib.pyplot as plt
import torch

import flowsolve

BUDGETS, N, GAP = (1, 2, 5, 20), 4, 2


def draw():
    model = flowsolve.fashion(torch.tensor([0, 1, 8, 9]))
    figure, axes = plt.subplots(2, len(BUDGETS), figsize=(7.4, 1.4), layout="constrained")
    for row, solver in zip(axes, ("ddim", "auto"), strict=True):
        for axis, nfe in zip(row, BUDGETS, strict=True):
            x = flowsolve.sample(model, solver=solver, nfe=nfe, n=N, seed=1)
            x = torch.nn.functional.pad(x, (GAP, GAP, GAP, GAP), value=-1.0)
            sheet = x[:, 0].permute(1, 0, 2).reshape(28 + 2 * GAP, -1)
            axis.imshow(sheet, cmap="gray_r", vmin=-1, vmax=1)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(solver, family="monospace")
    for axis, nfe in zip(axes[0], BUDGETS, strict=True):
        axis.set_title(f"{nfe} evaluation{'s' * (nfe > 1)}", fontsize=10)
    return figure
