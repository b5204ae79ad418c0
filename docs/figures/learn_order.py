"""Polynomials through past predictions, and the error that is left by one, two and three points."""

import matplotlib.pyplot as plt
import torch

import flowsolve

PROCESS = flowsolve.VP()
MODEL = flowsolve.exact.Mixture(PROCESS, [1, 1], [[-1.0], [1.0]], 0.05)
NOISY, QUIET = 5.0, 0.1  # σ̄ of the runs' ends
START = 1.5  # x̄ at NOISY of the path on the left
PAST, NEXT = (2.0, 1.6, 1.2), 0.8  # σ̄ of the evaluations, oldest first, and of the step's end
BUDGETS = (4, 6, 10, 20, 40, 80, 160)
SOLVERS = {"ddim": "C0", "ab2": "C1", "ab3": "C2"}


def exact(start, levels):
    """States on the ODE's paths, (levels, n, 1)."""
    return flowsolve.solve(
        MODEL,
        solver="scipy:DOP853",
        rtol=1e-11,
        atol=1e-11,
        grid=[level.t for level in levels],
        start=start,
        keep="path",
    ).path


def predictions(sigmas):
    """ε̂ along the path from START, on levels of these σ̄'s, decreasing."""
    levels = [PROCESS.at("sigma", sigma) for sigma in (NOISY, *sigmas)]
    start = torch.tensor([[START]], dtype=torch.float64) * levels[0].A.value
    states = exact(start, levels)[1:]
    return torch.stack([MODEL(x, s).eps[0, 0] for x, s in zip(states, levels[1:], strict=True)])


def polynomial(points, sigmas):
    """Lagrange's polynomial through the newest ``points`` predictions, at σ̄'s."""
    nodes, values = PAST[-points:], predictions(PAST)[-points:]
    total = torch.zeros_like(sigmas)
    for j, value in enumerate(values.tolist()):
        part = torch.full_like(sigmas, value)
        for k, node in enumerate(nodes):
            if k != j:
                part = part * (sigmas - node) / (nodes[j] - node)
        total = total + part
    return total


def errors():
    """The rms error at QUIET by solver, for each of BUDGETS."""
    ends = [PROCESS.at("sigma", sigma) for sigma in (NOISY, QUIET)]
    start = MODEL.draw(128, level=ends[0], seed=0)
    truth = exact(start, ends)[-1]
    how = {"grid": "logsnr", "span": (ends[0].t, ends[1].t), "start": start}
    return {
        solver: [
            (flowsolve.sample(MODEL, solver=solver, nfe=n, **how) - truth)
            .square()
            .mean()
            .sqrt()
            .item()
            for n in BUDGETS
        ]
        for solver in SOLVERS
    }


def draw():
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.7), layout="constrained")
    sigmas = torch.linspace(2.2, 0.72, 60, dtype=torch.float64)
    left.plot(
        sigmas,
        predictions(sigmas.tolist()),
        color="0.5",
        lw=2.5,
        label=r"$\hat\varepsilon$ along the path",
    )
    for points, (solver, color) in enumerate(SOLVERS.items(), 1):
        back = torch.linspace(PAST[-points], NEXT, 80, dtype=torch.float64)
        name = f"{solver}: {points} point{'s' * (points > 1)}"
        left.plot(back, polynomial(points, back), color=color, lw=1.4, label=name)
    left.plot(PAST, predictions(PAST), "o", color="0.3", ms=6)
    left.axvspan(PAST[-1], NEXT, color="0.5", alpha=0.15, lw=0)
    left.set(
        xlim=(2.2, 0.72), xlabel=r"noise level $\bar\sigma$", ylabel=r"prediction $\hat\varepsilon$"
    )
    left.set_title("what is integrated over the next step", fontsize=10)
    left.legend(fontsize=8)

    found = errors()
    for order, (solver, color) in enumerate(SOLVERS.items(), 1):
        right.loglog(BUDGETS, found[solver], "o-", color=color, ms=3.5, lw=1.4, label=solver)
        n, error = BUDGETS[-1], found[solver][-1]
        right.plot([40, n], [error * (n / 40) ** order, error], color=color, ls=":", lw=1.4)
        right.annotate(
            f"slope −{order}", (n, error), textcoords="offset points", xytext=(5, -4), fontsize=8
        )
    right.set(xlabel="evaluations", ylabel="rms error", xlim=(3.4, 520))
    right.set_xticks([5, 10, 20, 50, 100, 200], ["5", "10", "20", "50", "100", "200"])
    right.minorticks_off()
    right.set_title("what is left at the end of the run", fontsize=10)
    right.legend(fontsize=8)
    return figure
