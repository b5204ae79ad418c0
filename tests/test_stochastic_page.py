"""The tables of docs/stochastic.md: what its solvers' errors are, and how far two runs are apart on
one path of noise."""

import math

import pytest
from tables import rows_of
from test_stochastic import PROCESSES, variance_error

import flowsolve

ERRORS = rows_of("stochastic.md", "| solver | 32 evaluations |")
APART = rows_of("stochastic.md", "| | 20, 40 |")
#: The columns of the second table; all but the first take seconds a cell.
PAIRS = [(20, 40), *(pytest.param(n, 2 * n, marks=pytest.mark.slow) for n in (40, 80, 160))]


def written(error: float) -> str:
    return f"{error:.1e}".replace("e-0", "e-")


@pytest.mark.parametrize("row", ERRORS)
def test_errors_with_32_evaluations(row: str) -> None:
    processes = ("vp",) if "(VP)" in row else ("vp", "edm", "rectified_flow")
    for name in row.split("`")[1::2]:
        for process in processes:
            error = variance_error(PROCESSES[process], name, 32)
            assert written(error) == ERRORS[row][0], (name, process)


@pytest.mark.slow
@pytest.mark.parametrize("row", ERRORS)
def test_errors_with_256_and_their_slope(row: str) -> None:
    for name in row.split("`")[1::2]:
        half, whole = (variance_error(PROCESSES["vp"], name, nfe) for nfe in (128, 256))
        assert written(whole) == ERRORS[row][1]
        assert f"{math.log2(half / whole):.2f}" == ERRORS[row][2].split(",")[0]


@pytest.mark.late
@pytest.mark.parametrize(("few", "many"), PAIRS)
@pytest.mark.parametrize("row", APART)
def test_runs_on_one_path_come_together(row: str, few: int, many: int) -> None:
    model = flowsolve.exact.Gaussian(flowsolve.VP(), [1.0, -2.0], 0.3)
    options = {"noise": "brownian"} if "one path" in row else {}
    a, b = (
        flowsolve.sample(
            model, solver=row.split("`")[1], nfe=nfe, grid="logsnr", n=500, seed=0, **options
        )
        for nfe in (few, many)
    )
    cell = APART[row][int(math.log2(few / 20))]
    places = len(cell.split(".")[1])
    assert float((a - b).square().mean().sqrt()) == pytest.approx(float(cell), abs=0.6 / 10**places)
