"""What ``predicts`` may be: names, names with options, objects, targets of numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from problems import F64, MATRIX_PROCESSES, PROCESSES, elementwise

import flowsolve
from flowsolve import Parametrization
from flowsolve.parametrizations import SCM, Eps, F, find_parametrization
from flowsolve.processes import Levels

VP = PROCESSES["vp"]


def test_names_have_options():
    assert find_parametrization("F(sigma_data=0.7)") == F(0.7)
    assert find_parametrization(" scm( sigma_data = 2 )") == SCM(2.0)
    assert find_parametrization("eps()") == Eps()
    model = flowsolve.Denoiser(elementwise, flowsolve.EDM(), "F(sigma_data=0.7)", (3,))
    same = flowsolve.Denoiser(elementwise, flowsolve.EDM(), F(0.7), (3,))
    ours, theirs = (flowsolve.sample(m, nfe=4, n=2, seed=0) for m in (model, same))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("predicts", "error", "message"),
    [
        ("esp", ValueError, "predicts='esp' is not known. Did you mean 'eps'"),
        ("F(0.5)", ValueError, r"predicts='F\(0.5\)': expected options by name.*F\(sigma_data=1\)"),
        ("F(sigma=1)", TypeError, "option='sigma' is not known. Did you mean 'sigma_data'"),
        ("F(sigma_data=-1)", ValueError, "sigma_data=-1: expected a positive number"),
        ("F(sigma_data=print(1))", ValueError, "expected options by name"),
        ("eps(a=1)", TypeError, "an option of the prediction 'eps'"),
        ("F" + "(" * 300, ValueError, "predicts="),
        (5, TypeError, "predicts=5"),
        (None, TypeError, "predicts=None"),
    ],
)
def test_misuse_of_names(predicts, error, message):
    with pytest.raises(error, match=message):
        find_parametrization(predicts)


@pytest.mark.parametrize("value", [-1.0, 0, "a", None, float("inf"), float("nan"), True, [0.5]])
def test_sigma_data_is_a_positive_number(value):
    for kind in (F, *[SCM] * (value is not None), flowsolve.TrigFlow):
        with pytest.raises((TypeError, ValueError), match="sigma_data="):
            kind(sigma_data=value)
    assert F(np.float32(0.5)) == F(torch.tensor(0.5)) == F(0.5)


@dataclass(frozen=True)
class InNumbers(Parametrization):
    """x0/2 + ε, as numbers."""

    def target(self, process, level) -> Any:
        return 0.5, np.float64(1.0)


@dataclass(frozen=True)
class InOperators(Parametrization):
    def target(self, process, level) -> Any:
        return level.A.eye() * 0.5, level.A.eye()


def test_targets_of_numbers():
    for process, shape in ((VP, (3,)), (MATRIX_PROCESSES["blurring"], (2, 3))):
        level = process.level(0.5)
        ours, same = (kind().coefficients(process, level) for kind in (InNumbers, InOperators))
        assert ours == same
        model = flowsolve.Denoiser(elementwise, process, InNumbers(), shape)
        assert flowsolve.sample(model, nfe=3).isfinite().all()
    levels = Levels(map(VP.level, (0.3, 0.6)))
    model = flowsolve.Denoiser(elementwise, VP, InNumbers(), (3,), dtype=F64)
    x = torch.randn(2, 3, dtype=F64)
    both = model(x, levels).x0
    for i, level in enumerate(levels.each):
        torch.testing.assert_close(both[i : i + 1], model(x[i : i + 1], level).x0)


@pytest.mark.parametrize("wrong", [5, None, (1.0,), ("a", 1.0), (1.0, 2.0, 3.0), (1j, 1.0)])
def test_targets_that_are_none(wrong):
    class Wrong(Parametrization):
        def target(self, process, level) -> Any:
            return wrong

    with pytest.raises(TypeError, match=r"predicts='Wrong': target=.*expected two operators"):
        Wrong().coefficients(VP, VP.level(0.5))


def test_a_target_that_tells_nothing():
    class Nothing(Parametrization):
        def target(self, process, level) -> Any:
            return level.A, level.R

    for process in (VP, MATRIX_PROCESSES["cld"]):
        with pytest.raises(ValueError, match=r"predicts='Nothing': from .* cannot be told"):
            Nothing().coefficients(process, process.level(0.5))
