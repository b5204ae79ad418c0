"""Where grids put the levels of a run: one strip for each."""

from dataclasses import dataclass
from statistics import NormalDist

import matplotlib.pyplot as plt
import numpy as np

import flowsolve
from flowsolve.grids import VariableGrid, find_grid
from flowsolve.processes import LAMBDA

PROCESS, EVALUATIONS = flowsolve.VP(), 12


@dataclass(frozen=True)
class BellCurve(VariableGrid):
    """The page's grid."""

    center: float = 0.5
    width: float = 2.0

    variable = LAMBDA

    def values(self, first, last, n):
        law = NormalDist(-np.log(self.center), self.width)
        shares = np.linspace(law.cdf(first), law.cdf(last), n + 1)
        return np.array([first, *map(law.inv_cdf, shares[1:-1]), last])


GRIDS = (
    "quadratic",
    "uniform",
    "linspace",
    "beta",
    "karras",
    "logsnr",
    "sigma",
    "shifted",
    "logistic",
)


def strips():
    """σ̄ of the levels at which the network is asked, by the grid's name."""
    grids = {name: find_grid(name, PROCESS) for name in GRIDS} | {"yours": BellCurve()}
    return {
        name: [level.sigma for level in grid.levels(PROCESS, EVALUATIONS) if not level.clean]
        for name, grid in grids.items()
    }


def draw():
    figure, axis = plt.subplots(figsize=(7.4, 3.7), layout="constrained")
    found = strips()
    for row, (name, sigmas) in enumerate(found.items()):
        color = "C2" if name == "yours" else "C0"
        axis.plot([300, 0.003], [row, row], color="0.5", lw=0.5)
        axis.plot(sigmas, [row] * len(sigmas), "|", color=color, ms=13, mew=2.2)
    axis.set_yticks(range(len(found)), list(found))
    axis.axvspan(0.3, 3.0, color="0.5", alpha=0.15, lw=0)
    axis.set(xscale="log", xlim=(300, 0.003), ylim=(len(found) - 0.5, -0.5))
    ticks = (100, 30, 10, 3, 1, 0.3, 0.1, 0.03, 0.01)
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel(r"noise level $\bar\sigma$, from noisy to quiet")
    return figure
