"""The warning that data are of another scale than "auto" takes them to have."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from problems import F64, PROCESSES

import flowsolve
from flowsolve.about import check_scale


def model(scale: float, process: str = "vp", **given: object) -> flowsolve.Denoiser:
    inner = flowsolve.exact.Mixture(
        PROCESSES[process],
        [0.5, 0.5],
        scale * torch.tensor([[0.5] * 8, [-0.5] * 8], dtype=F64),
        [torch.full((8,), (0.2 * scale) ** 2, dtype=F64)] * 2,
    )

    def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return inner(x, float(t[0])).x0

    how: Any = {"time": "t", "dtype": F64, **given}
    return flowsolve.Denoiser(net, PROCESSES[process], "x0", (8,), **how)


@pytest.mark.parametrize("process", ["vp", "edm", "rectified_flow"])
@pytest.mark.parametrize("scale", [5.0, 0.1])
def test_data_of_another_scale_are_said_to_be(scale: float, process: str) -> None:
    with pytest.warns(UserWarning, match=r"expected Denoiser\(\.\.\., data_scale="):
        flowsolve.sample(model(scale, process), n=16, nfe=8, seed=0)


def test_the_number_it_names_is_the_scale_and_ends_the_warning() -> None:
    with pytest.warns(UserWarning, match=r"data_scale=3\)"):
        flowsolve.sample(model(5.0), n=64, nfe=8, seed=0)  # 5 (0.25 + 0.04)^½ = 2.7
    flowsolve.sample(model(5.0, data_scale=3.0), n=64, nfe=8, seed=0)


@pytest.mark.parametrize(
    "how",
    [{"n": 7}, {"nfe": 1}, {"solver": "ddim"}, {"grid": "karras"}, {"span": (None, 0.5)}],
    ids=["few", "one evaluation", "another solver", "another grid", "not clean"],
)
def test_where_it_says_nothing(how: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flowsolve.sample(model(5.0), **{"n": 16, "nfe": 8, "seed": 0, **how})
        flowsolve.sample(model(1.0), n=16, nfe=8, seed=0)


def test_samples_that_blew_up_are_not_taken_for_a_scale() -> None:
    samples = flowsolve.sample(model(1.0), n=16, nfe=8, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_scale(torch.cat([samples, torch.full((3, 8), 1e5, dtype=F64)]), 8)
    with pytest.warns(UserWarning, match="data_scale=5"):
        check_scale(samples * 10.0, 8)


def test_models_around_a_model_keep_its_scale() -> None:
    inner = model(5.0, data_scale=2.7)
    guided = flowsolve.guided(inner, other=model(5.0), scale=2.0)
    seen = flowsolve.posterior(inner, torch.zeros(1), torch.eye(8, dtype=F64)[:1], noise=0.1)
    for around in (
        guided,
        seen,
        flowsolve.posterior(guided, torch.zeros(1), torch.eye(8, dtype=F64)[:1], noise=0.1),
    ):
        assert around.data_scale == 2.7 and around.about.scale == 2.7
