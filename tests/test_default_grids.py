"""The default grids of tables: runs start at the last entry, and no method is worse there than the
plain one with the same budget, ddim, or ddpm for those that draw.

A run without draws is judged by its distance to the end of the ODE from the same start, one with
draws by the standard deviation that it ends with. Rows are covered on arrival: what cannot keep to
the rule is named in ``WORSE``, with its reason.
"""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from problems import F64, SOLVERS, STOCHASTIC
from torch import Tensor

import flowsolve
from flowsolve import exact, tables
from flowsolve.grids import Trailing, default_grid
from flowsolve.processes import Level

TABLES = {
    "linear": flowsolve.VP.discrete(tables.linear()),
    "scaled_linear": flowsolve.VP.discrete(tables.scaled_linear()),
    "cosine": flowsolve.VP.discrete(tables.cosine()),
    "zero_snr": flowsolve.VP.discrete(tables.zero_terminal_snr(tables.scaled_linear())),
}
#: Rows that take steps of a grid, torchdiffeq's among them.
ROWS = [name for name, solver in SOLVERS.items() if solver.evaluations is not None]
#: Weights, means and variances of the data: N(μ, 1), N(μ, 0.01), a mixture.
LAWS = {
    "wide": ([1.0], [[1.0, -2.0]], [1.0]),
    "narrow": ([1.0], [[1.0, -2.0]], [0.01]),
    "mixture": ([0.3, 0.3, 0.4], [[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]], [0.02, 0.05, 0.1]),
}
N = 64

_STARTER = "its first steps are Runge-Kutta's, and those that are left are fewer"
_CUBIC = "a polynomial of x̂0 in λ, too long steps apart for its order"
_DRAWS = "more noise is added in a step than the step takes away, to first order"
#: What is worse, and why: (row, evaluations).
WORSE = {
    ("plms", 5): _STARTER,
    ("plms", 10): _STARTER,
    ("pndm", 20): _STARTER,
    ("rk4", 20): "five steps",
    ("torchdiffeq:rk4", 20): "five steps, the first in σ̄ from 157",
    ("torchdiffeq:heun2", 20): "ten steps, the first in σ̄ from 157",
    ("unipc3", 10): _CUBIC,
    ("etd3", 10): _CUBIC,
    ("etd4", 10): _CUBIC,
    ("etd4", 20): _CUBIC,
    ("dpmpp3m_sde", 10): _CUBIC,
    ("dpmpp3m_sde", 20): _CUBIC,
    ("sa", 10): _CUBIC,
    ("sa", 20): _CUBIC,
    ("dpm2_a", 20): "ten steps, 2 and 3 percent worse on the linear table",
    ("pc", 20): "every other evaluation is the corrector's",
    ("pc", 50): "every other evaluation is the corrector's",
    **{("ddpm_large", nfe): "its noise is the larger of the two variances" for nfe in (5, 10)},
    **{("euler_maruyama", nfe): _DRAWS for nfe in (5, 10, 20, 50)},
    **{("lcm", nfe): "it is for networks that know the ODE's end" for nfe in (5, 10, 20, 50)},
}
CASES = [
    (table, name, nfe)
    for table in TABLES
    for name in ROWS
    for nfe in (5, 10, 20, 50)
    if nfe >= 20 or SOLVERS[name].evaluations == 1
]


def x0(law: str, x: Tensor, level: Level) -> Tensor:
    """E[x0 | x] at a level."""
    weights, means, variances = (torch.tensor(part, dtype=F64) for part in LAWS[law])
    a, r = level.A.value, level.R.value
    c, from_mean = a * a * variances + r * r, x[:, None] - a * means
    log_p = weights.log() - c.log() - from_mean.square().sum(-1) / (2.0 * c)
    given = means + (a * variances / c)[:, None] * from_mean
    return (log_p.softmax(-1)[..., None] * given).sum(1)


def model(process) -> flowsolve.Denoiser:
    """The laws, side by side in one batch."""

    def net(x, t):
        level = process.level(min(float(t[0]), process.t_max))
        return torch.cat([x0(law, part, level) for law, part in zip(LAWS, x.split(N), strict=True)])

    return flowsolve.Denoiser(net, process, "x0", (2,), time="t", dtype=F64)


@cache
def problem(table: str) -> tuple[flowsolve.Denoiser, Tensor, Tensor]:
    """The laws, starts at the last entry, and where the ODE ends from there: on the rectified flow
    through the same levels, by DOP853."""
    start, flow = TABLES[table].start, flowsolve.RectifiedFlow()
    z = torch.randn(N, 2, dtype=F64, generator=torch.Generator().manual_seed(0)).repeat(3, 1)
    a, r = start.A.value, start.R.value
    run = flowsolve.solve(
        model(flow),
        solver="scipy:DOP853",
        rtol=1e-10,
        atol=1e-12,
        grid=[r / (a + r), 1e-7],
        start=z / (a + r),
    )
    return model(TABLES[table]), z, run.x


@cache
def distances(table: str, name: str, nfe: int) -> list[float]:
    """The root mean square distances to the ODE's ends, a number a law."""
    law, start, end = problem(table)
    run = flowsolve.solve(law, solver=name, nfe=nfe, start=start)
    assert run.grid[0] == TABLES[table].start and run.nfe <= nfe
    return [float(part.square().mean().sqrt()) for part in (run.x - end).split(N)]


@cache
def spreads(table: str, name: str, nfe: int) -> list[float]:
    """The relative errors of the standard deviation for data of variance 1 and 0.01, exactly: the
    denoiser is linear, and so is the run in its start and its draws."""
    process, errors = TABLES[table], []
    plan = flowsolve.plan(name, process, nfe=nfe)
    assert plan.levels[0] == process.start
    unit = torch.eye(1 + plan.draws, dtype=F64)[..., None]
    for c in (1.0, 0.01):
        gaussian = exact.Gaussian(process, [0.0], c)
        noise = unit[:, 1:].transpose(0, 1)
        columns = flowsolve.sample(gaussian, solver=plan, start=unit[:, 0], noise=noise)
        errors.append(abs(math.sqrt(float(columns.square().sum()) / c) - 1.0))
    return errors


def errors(table: str, name: str, nfe: int) -> tuple[list[float], list[float]]:
    """Of a row, and of the plain one of its kind."""
    if name in STOCHASTIC:
        return spreads(table, name, nfe), spreads(table, "ddpm", nfe)
    return distances(table, name, nfe), distances(table, "ddim", nfe)


@pytest.mark.sweep(keep=40)
@pytest.mark.parametrize(
    ("table", "name", "nfe"), [case for case in CASES if case[1:] not in WORSE]
)
def test_never_worse_than_the_plain_method(table, name, nfe):
    own, plain = errors(table, name, nfe)
    for a, b in zip(own, plain, strict=True):
        assert a <= b * (1.0 + 1e-9) + 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(("name", "nfe"), WORSE)
def test_an_exception_is_one(name, nfe):
    pairs = [errors(table, name, nfe) for table in TABLES]
    ratios = [a / b for own, plain in pairs for a, b in zip(own, plain, strict=True)]
    assert 1.0 < max(ratios) < 10.0


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("nfe", [1, 2, 7, 50, 400])
def test_the_budget_is_spent_from_the_last_entry(table, nfe):
    process = TABLES[table]
    levels = flowsolve.plan("ddim", process, nfe=nfe).levels
    times = [level.t for level in levels]
    assert len(levels) == nfe + 1 and times[0] == 999.0 and times[-1] == -1.0
    assert all(time == round(time) for time in times)


def test_the_rule():
    """A half more of the power for each further evaluation a step; encoding and plans have it,
    too. Processes without a table name one grid for all."""
    process = TABLES["linear"]
    for name, power in (("ddim", 2.0), ("vpc3", 2.0), ("heun", 2.5), ("kutta3", 3.0), ("rk4", 3.5)):
        grid = Trailing(power)
        assert default_grid(process, SOLVERS[name].evaluations) == grid
        plan = flowsolve.plan(name, process, nfe=20)
        assert plan.levels == flowsolve.plan(name, process, nfe=20, grid=grid).levels
    gaussian = exact.Gaussian(process, [1.0, -2.0], 0.3)
    x = gaussian.draw(3, seed=0)
    for name, power in (("ddim", 2.0), ("heun", 2.5)):
        run = {"solver": name, "nfe": 20}
        latents = [flowsolve.encode(gaussian, x, grid=g, **run) for g in (None, Trailing(power))]
        assert torch.equal(*latents)
    assert process.grid == process.grid_for(1)
    for other in (flowsolve.VP(), flowsolve.EDM(), flowsolve.CLD()):
        assert default_grid(other, 4) == default_grid(other)


@pytest.mark.parametrize("solver", ["ddim", "ab3", "heun", "rk4", "dpm3", "edm"])
@pytest.mark.parametrize("grid", [None, "linspace", "logsnr"])
def test_a_huge_noise_level_is_treated_as_pure_noise_is(solver, grid):
    """The cosine table ends at σ̄ = 20291, where a step in σ̄ would lose everything; with the last
    entry taken for pure noise, a run ends within a few percent of the same place."""
    process = TABLES["cosine"]
    flat = flowsolve.VP.discrete([*process.betas[:-1], 1.0])
    assert process.start.drowned and flat.start.pure_noise
    assert not TABLES["linear"].start.drowned
    plans = [flowsolve.plan(solver, p, nfe=21, grid=grid) for p in (process, flat)]
    assert [level.t for level in plans[0].levels] == [level.t for level in plans[1].levels]
    start = torch.randn(200, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    a, b = (
        flowsolve.sample(exact.Gaussian(p, [1.0, -2.0], 0.3), solver=plan, start=start, seed=0)
        for p, plan in zip((process, flat), plans, strict=True)
    )
    assert (a - b).abs().max() < 0.02


@pytest.mark.parametrize("grid", ["karras", "logsnr", "sigma"])
def test_grids_in_sigma_begin_at_80_below_a_huge_level(grid):
    process = TABLES["cosine"]
    levels = flowsolve.plan("ddim", process, nfe=30, grid=grid).levels
    assert levels[0] == process.start and levels[1].sigma <= 80.0
    others = flowsolve.plan("ddim", flowsolve.VP.cosine(), nfe=30, grid=grid).levels
    if grid == "logsnr":  # between the same ends, but for the table's quietest entry
        assert levels[2].sigma == pytest.approx(others[2].sigma, rel=0.5)
    hundred = flowsolve.VP.discrete(tables.cosine(100))  # diffusion policies'
    assert flowsolve.plan("ddim", hundred, nfe=30, grid=grid).levels[1].sigma <= 80.0
    linear = flowsolve.plan("ddim", TABLES["linear"], nfe=30, grid=grid).levels
    assert linear[1].sigma > 80.0  # as it always was, from 157
