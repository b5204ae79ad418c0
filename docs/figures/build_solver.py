"""A solver of one's own beside four of the zoo: error against evaluations."""

from dataclasses import dataclass

import matplotlib.pyplot as plt

import flowsolve
from flowsolve.coordinates import FLOW
from flowsolve.processes import FLOW_TIME
from flowsolve.solvers import Evaluation, Solver

PROCESS = flowsolve.VP()
MODEL = flowsolve.exact.Mixture(PROCESS, [1, 2], [[-1.0, 0.0], [1.0, 0.5]], 0.1)
BUDGETS, SPAN, N = (5, 10, 20, 40, 80, 160), (0.9, 0.05), 64


@dataclass(frozen=True)
class Halfway(Solver):
    """The page's solver."""

    coordinates, order = FLOW, 2  # type: ignore[assignment]

    def step(self, ode, x, s, t, past):
        middle, there = s, x
        if past:
            clock = ode.variable(FLOW_TIME)
            middle = ode.process.at(clock, (clock.of(s) + clock.of(t)) / 2)
            there = ode.move(x, s, middle, past[0].seen_in(FLOW))
        p = ode(there, middle)
        return ode.move(x, s, t, p), (Evaluation(middle, there, p, ode.coordinates),)


SOLVERS = {
    "ddim": ("ddim", "0.5", "s"),
    "midpoint": ("midpoint", "C0", "v"),
    "ab2": ("ab2", "C1", "^"),
    "halfway, yours": (Halfway(), "C2", "o"),
    "dpmpp2m": ("dpmpp2m", "C4", "D"),
}


def errors():
    """The rms error of each solver for each of BUDGETS."""
    start = MODEL.draw(N, level=SPAN[0], seed=0)
    how = {"span": SPAN, "start": start}
    exact = flowsolve.sample(MODEL, solver="scipy:DOP853", rtol=1e-10, atol=1e-10, **how)

    def error(solver, n):
        ends = flowsolve.sample(MODEL, solver=solver, nfe=n, **how)
        return (ends - exact).square().mean().sqrt().item()

    return {name: [error(solver, n) for n in BUDGETS] for name, (solver, *_) in SOLVERS.items()}


def draw():
    figure, axis = plt.subplots(figsize=(7.4, 3.6), layout="constrained")
    for name, values in errors().items():
        _, color, marker = SOLVERS[name]
        width = 2.4 if "yours" in name else 1.2
        axis.loglog(BUDGETS, values, marker + "-", color=color, ms=5, lw=width, label=name)
        if "yours" in name or name == "ddim":
            order = 2 if "yours" in name else 1
            line = [values[-1] * (BUDGETS[-1] / n) ** order for n in (30, BUDGETS[-1])]
            axis.plot((30, BUDGETS[-1]), line, color=color, ls=":", lw=1.2)
            axis.annotate(
                f"slope −{order}",
                (BUDGETS[-1], values[-1]),
                (7, -3),
                textcoords="offset points",
                fontsize=8,
            )
    axis.set(xlabel="evaluations", ylabel="rms error", xlim=(4.5, 260))
    axis.set_xticks(BUDGETS, [str(n) for n in BUDGETS])
    axis.minorticks_off()
    axis.legend(fontsize=8, loc="lower left")
    return figure
