"""What exact denoisers are given and cannot be: refused by name."""

import math

import numpy as np
import pytest
import torch
from problems import F64, MATRIX_PROCESSES, PROCESSES

import flowsolve
from flowsolve import exact

VP, CLD = PROCESSES["vp"], MATRIX_PROCESSES["cld"]
ONE = exact.Gaussian(VP, [0.3, -0.2], 0.5)
POINT = exact.Dirac(VP, [0.3, -0.2])
X = torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: exact.Gaussian("vp", [0.0]), TypeError, "process='vp': expected a process"),
        (lambda: exact.Gaussian(VP, None), TypeError, "mean=None: expected finite numbers"),
        (lambda: exact.Gaussian(VP, "ab"), TypeError, "mean='ab'"),
        (lambda: exact.Gaussian(VP, [1.0, "a"]), TypeError, r"mean=\[1.0, 'a'\]"),
        (lambda: exact.Gaussian(VP, [[1.0], [1.0, 2.0]]), TypeError, "mean="),
        (lambda: exact.Gaussian(VP, 1.0), ValueError, "mean=.*expected one sample"),
        (lambda: exact.Gaussian(VP, [math.nan]), ValueError, r"mean=\[nan\]: expected finite"),
        (lambda: exact.Gaussian(VP, [1.0], math.inf), ValueError, "covariance=inf"),
        (lambda: exact.Gaussian(VP, [1e200]), ValueError, "mean="),
        (lambda: exact.Gaussian(VP, [1j]), TypeError, "mean="),
        (lambda: exact.Gaussian(VP, torch.ones(2, dtype=torch.complex64)), TypeError, "mean=<T"),
        (lambda: exact.Gaussian(VP, torch.ones(2, device="meta")), TypeError, "mean=<Tensor"),
        (lambda: exact.Gaussian(VP, [0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]), ValueError, "symmetric"),
        (lambda: exact.Dirac(VP, [math.inf]), ValueError, "x0="),
        (lambda: exact.Empirical(VP, 5), ValueError, "data=5.*expected samples"),
        (lambda: exact.Empirical(VP, []), ValueError, "data="),
        (lambda: exact.Empirical(VP, [[True]]), TypeError, "data="),
        (lambda: exact.Mixture(VP, [math.nan, 1.0], [[0.0], [1.0]]), ValueError, "weights="),
        (lambda: exact.Mixture(VP, [0.0, 1.0], [[0.0], [1.0]]), ValueError, "weights=.*positive"),
        (lambda: exact.Mixture(VP, [1.0], [[0.0]], ["a"]), TypeError, r"covariances\[0\]='a'"),
        (lambda: exact.Mixture(VP, [1.0], [[0.0]], covariance=0.1), TypeError, "Did you mean"),
        (lambda: ONE.draw(0), ValueError, "n=0: expected a positive integer"),
        (lambda: ONE.draw(2.5), TypeError, "n=2.5"),
        (lambda: ONE.draw(2, seed=-1), ValueError, "seed=-1"),
        (lambda: ONE.draw(2, level="a"), TypeError, "level='a'"),
        (lambda: ONE.draw(2, level=CLD.start), ValueError, "level=.*expected a level of VP"),
        (lambda: ONE.draw(2, level=3.0), ValueError, "t=3.0"),
        (lambda: ONE(torch.zeros(3, 4), 0.5), ValueError, r"x=<Tensor .*\(n, 2\)"),
        (lambda: ONE([[0.0, 1.0]], 0.5), TypeError, r"x=\[\[0.0, 1.0\]\]"),
        (lambda: ONE.score(X, VP.clean), ValueError, "level=.*expected one with noise"),
        (lambda: ONE.score(X.int(), 0.5), TypeError, "x=<Tensor torch.int32"),
        (lambda: ONE.score(X * math.nan, 0.5), ValueError, "x=<Tensor"),
        (lambda: POINT.log_density(X, 0.0), ValueError, "level=.*expected one with noise"),
        (lambda: ONE.log_density(X, 5), ValueError, "t=5"),
        (lambda: POINT.flow(X, 0.0, 0.5), ValueError, "s=.*expected a level with noise"),
        (lambda: ONE.flow(X, 0.5, "a"), TypeError, "t='a'"),
        (lambda: ONE.flow(X[:, :1], 0.5, 0.1), ValueError, "x=<Tensor"),
        (
            lambda: exact.Gaussian(CLD, [0.0]).flow(torch.zeros(3, 2), 0.5, -math.inf),
            ValueError,
            "t=.*expected a level with noise",
        ),
    ],
)
def test_misuse(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_numbers_of_any_library():
    want = exact.Mixture(VP, [1.0, 2.0], [[0.5, 1.0], [2.0, 3.0]], [0.5, 0.25])
    for make in (np.array, torch.tensor, lambda v: np.array(v, dtype=np.float32), tuple):
        got = exact.Mixture(
            VP,
            make([1, 2]),
            make([[0.5, 1], [2, 3]]),
            [make(0.5) if make is not tuple else 0.5, 0.25],
        )
        assert torch.equal(got.law.means, want.law.means) and got.law.means.dtype == F64
        assert torch.equal(got.draw(np.int64(3)), want.draw(3))


def test_a_law_s_numbers_are_its_own():
    data = np.array([[1.0, 2.0], [3.0, 4.0]])
    model = exact.Empirical(VP, data)
    before = model.draw(4)
    data[:] = 0.0
    assert torch.equal(model.draw(4), before)


def test_of_points_on_clean_data():
    """What has a limit there has it: means of the data, and draws."""
    assert torch.equal(POINT.draw(2, level=VP.clean), POINT.draw(2))
    assert torch.allclose(ONE.flow(X + 1.0, VP.clean, VP.clean), X.to(F64) + 1.0)
    ve = flowsolve.VE()
    assert torch.equal(exact.Dirac(ve, [1.0]).draw(2, level=-math.inf), torch.ones(2, 1, dtype=F64))
