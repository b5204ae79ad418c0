"""Which grid for runs on a table that ask for none: the powers of ``trailing`` that the default is
made of were read off this.

An error without draws is the root mean square distance to the end of the ODE from the same start,
with draws that of the standard deviation, relative to the data's; each over the error of ddim, or
ddpm, on its own default grid with as many evaluations. Chosen on three laws whose denoisers are
known without error, checked on others of other kinds and scales. Nothing here is a time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import torch
from inside import training_digits
from report import Report
from torch import Tensor
from workers import gather, workers

import flowsolve
from flowsolve import exact, tables
from flowsolve.processes import Process

TABLES = {
    "linear": tables.linear(),
    "scaled_linear": tables.scaled_linear(),
    "cosine": tables.cosine(),
    "zero_snr": tables.zero_terminal_snr(tables.scaled_linear()),
}
#: Weights, means and variances.
LAWS: dict[str, tuple[list[float], list[list[float]], list[float]]] = {
    "N(mu, 1)": ([1.0], [[1.0, -2.0]], [1.0]),
    "N(mu, 0.01)": ([1.0], [[1.0, -2.0]], [0.01]),
    "mixture": ([0.3, 0.3, 0.4], [[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]], [0.02, 0.05, 0.1]),
    "N(mu, 9)": ([1.0], [[-2.0, 3.0]], [9.0]),
    "N(mu, 0.0001)": ([1.0], [[0.5, 0.0]], [1e-4]),
    "bright": ([1.0], [[4.0, -4.0]], [0.25]),
    "wide mixture": ([0.5, 0.2, 0.3], [[-3.0, 0.0], [2.0, 2.5], [0.0, -1.0]], [0.5, 0.3, 0.05]),
    "small mixture": (
        [0.2, 0.5, 0.3],
        [[-0.3, 0.1], [0.2, 0.4], [0.1, -0.4]],
        [3e-3, 1e-2, 2e-3],
    ),
}
CHOSEN_ON = ("N(mu, 1)", "N(mu, 0.01)", "mixture")
#: 600 digits, each smoothed by a Gaussian of width 0.1, in 64 dimensions; these rows alone.
DIGITS = "digits"
ON_DIGITS = ("ddim", "ab3", "dpmpp2m", "etd3", "unipc2", "unipc3", "vpc3", "heun", "kutta3")
GRIDS: tuple[str | None, ...] = (
    None,
    "trailing",
    "trailing(power=2)",
    "trailing(power=2.5)",
    "trailing(power=3)",
    "trailing(power=3.5)",
    "linspace",
    "logsnr",
)
BUDGETS = (5, 10, 20, 50)
ROWS = [row for row in flowsolve.solver_table() if row.solver.fixed]


@cache
def model(law: str, process: Process) -> exact.Mixture:
    if law == DIGITS:
        return exact.Mixture(process, torch.ones(600), training_digits()[:600], 0.01)
    return exact.Mixture(process, *LAWS[law])


@cache
def ends(law: str, table: str, n: int) -> tuple[Tensor, Tensor]:
    """Starts at the last entry, and where the ODE ends from there: on the rectified flow through
    the same levels."""
    process, flow = flowsolve.VP.discrete(TABLES[table]), flowsolve.RectifiedFlow()
    start, shape = process.start, model(law, process).shape or ()
    z = torch.randn(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a, r = start.A.value, start.R.value
    run = flowsolve.solve(
        model(law, flow),
        solver="scipy:DOP853",
        rtol=1e-9,
        atol=1e-11,
        grid=[r / (a + r), 1e-6],
        start=z / (a + r),
    )
    return z, run.x


def distance(law: str, table: str, plan: flowsolve.Plan, n: int) -> float:
    start, end = ends(law, table, n)
    process = flowsolve.VP.discrete(TABLES[table])
    x = flowsolve.sample(model(law, process), solver=plan, start=start)
    return (x - end).square().mean().sqrt().item()


def spread(law: str, table: str, plan: flowsolve.Plan, n: int) -> float:
    """The relative error of the standard deviation: exact for a Gaussian, whose denoiser is linear,
    so that a batch of unit vectors gives the whole map; from many samples for a mixture."""
    process = flowsolve.VP.discrete(TABLES[table])
    weights, means, variances = LAWS[law]
    if len(weights) == 1:
        unit = torch.eye(1 + plan.draws, dtype=torch.float64)[..., None]
        x = flowsolve.sample(
            exact.Gaussian(process, [0.0], variances[0]),
            solver=plan,
            start=unit[:, 0],
            noise=unit[:, 1:].transpose(0, 1),
        )
        return abs(math.sqrt(x.square().sum().item() / variances[0]) - 1.0)
    x = flowsolve.sample(model(law, process), solver=plan, n=64 * n, seed=0)
    w, mu, c = (torch.tensor(part, dtype=torch.float64) for part in (weights, means, variances))
    mean = (w[:, None] * mu).sum(0)
    var = (w[:, None] * (c[:, None] + (mu - mean).square())).sum(0)
    return (x.double().var(0) / var).sqrt().sub(1.0).abs().mean().item()


Key = tuple[str, str, int, str]


def measure(table: str, full: bool) -> dict[Key, dict[str, float]]:
    """{(row, grid, evaluations): {law: error}} on one table."""
    process, n = flowsolve.VP.discrete(TABLES[table]), 48 if full else 4
    rows = ROWS if full else [row for row in ROWS if row.name in ("ddim", "unipc2", "ddpm")]
    errors: dict[Key, dict[str, float]] = defaultdict(dict)
    for row in rows:
        draws = row.family == "stochastic"
        for grid in GRIDS if full and not draws else GRIDS[:2]:
            for nfe in BUDGETS if full else BUDGETS[:1]:
                if row.solver.evaluations != 1 and nfe < 20 and full:
                    continue
                plan = flowsolve.plan(row.name, process, nfe=nfe, grid=grid)
                assert plan.nfe <= nfe
                laws = [*(CHOSEN_ON if draws else LAWS)]
                if full and row.name in ON_DIGITS and grid in GRIDS[:2]:
                    laws.append(DIGITS)
                for law in laws:
                    error = (spread if draws else distance)(law, table, plan, n)
                    errors[row.name, str(grid), nfe, table][law] = error
    return errors


def geometric(values: Iterable[float]) -> float:
    logs = [math.log(max(v, 1e-12)) for v in values]
    return math.exp(sum(logs) / len(logs))


def summary(errors: dict[Key, dict[str, float]], laws: Iterable[str]) -> dict[str, Any]:
    """For each row and grid, by evaluations: the geometric mean of its errors over those of the
    plain row on its default grid, and the largest."""
    plain = {row.name: "ddpm" if row.family == "stochastic" else "ddim" for row in ROWS}

    def ratios(row: str, grid: str, nfe: int) -> Iterator[float]:
        for (r, g, m, table), by in errors.items():
            if (r, g, m) == (row, grid, nfe):
                base = errors[plain[row], "None", nfe, table]
                yield from (by[law] / base[law] for law in laws if law in by)

    result: dict[str, Any] = defaultdict(dict)
    for row, grid, nfe in dict.fromkeys(key[:3] for key in errors):
        found = list(ratios(row, grid, nfe))
        if found:
            where = "default" if grid == "None" else grid
            result[row].setdefault(where, {})[nfe] = [geometric(found), max(found)]
    return result


def by_kind(chosen: dict[str, Any]) -> dict[str, Any]:
    """The same over all rows without draws of so many evaluations a step: mean, and how many
    (row, evaluations) are worse than ddim somewhere."""
    rows = {row.name: row for row in ROWS if row.family != "stochastic"}
    kinds: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for name, grids in chosen.items():
        if name in rows and name != "ddim":
            for grid, budgets in grids.items():
                kinds[str(rows[name].solver.evaluations)][grid] += budgets.values()
    return {
        kind: {
            grid: [geometric(v[0] for v in values), sum(v[1] > 1.0 + 1e-9 for v in values)]
            for grid, values in grids.items()
        }
        for kind, grids in kinds.items()
    }


def test_default_grids_of_tables(full: bool, report: Report) -> None:
    """The default grids of tables against ddim and ddpm, row by row."""
    with workers(report) as submit:
        jobs = [submit(measure, table, full) for table in [*TABLES][:: 1 if full else 3]]
        errors: dict[Key, dict[str, float]] = {}
        for part in gather(report, "tables", jobs):
            errors |= part
    chosen = summary(errors, CHOSEN_ON)
    checked = summary(errors, [law for law in (*LAWS, DIGITS) if law not in CHOSEN_ON])
    whole = {"by_kind": by_kind(chosen), "chosen_on": chosen, "checked_on": checked}
    assert all(
        math.isfinite(v[0]) for rows in chosen.values() for g in rows.values() for v in g.values()
    )
    report.save("default_grids.json", whole, digits=3)
    if not full:
        return
    worst = max(v[0] for rows in (chosen, checked) for v in rows["unipc2"]["default"].values())
    report.row("unipc2 / ddim on tables, worst budget", worst, 1.0)
    assert worst <= 1.0
