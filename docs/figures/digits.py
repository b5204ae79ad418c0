"""The shipped models: a sample's way from noise to data, and what positions and velocities do on a
CLD."""

import matplotlib.pyplot as plt

import flowsolve

LABEL, SEED, COLUMNS = 3, 2, (0, 4, 8, 12, 15, 18, 20)


def way(process):
    """Times and states on the way, and the sample at the end, which is data."""
    model = flowsolve.digits(LABEL, process=process)
    run = flowsolve.solve(model, solver="unipc3", nfe=20, grid="quadratic", seed=SEED, keep="path")
    states = [run.path[k, 0] for k in COLUMNS[:-1]]
    return [run.grid[k].t for k in COLUMNS[:-1]], states, run.x[0, 0]


def draw():
    rows = {}
    for process in ("cosine", "cld", "blurring"):
        times, states, x = way(process)
        rows[process] = [state[0] for state in states] + [x]
        if process == "cld":
            rows["cld, velocity"] = [2.0 * state[1] for state in states]  # in units of √M
    figure, axes = plt.subplots(len(rows), len(COLUMNS), figsize=(7.4, 4.4), layout="constrained")
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[], frame_on=False)
        for axis, picture in zip(line, pictures, strict=False):
            axis.imshow(picture.numpy(), cmap="gray", vmin=-1.6, vmax=1.6)
        line[0].set_ylabel(name)
    for axis, title in zip(axes[0], (*(f"$t = {t:.2f}$" for t in times), "data"), strict=True):
        axis.set_title(title, fontsize=9)
    return figure
