"""Sample i's noise is a function of (seed, i)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import FIXED, elementwise

import flowsolve
from flowsolve.noise import normal

MODEL = flowsolve.Denoiser(elementwise, flowsolve.VP(), "eps", (2, 3))


@given(seed=st.integers(0, 2**63), cut=st.integers(1, 6), draw=st.integers(0, 3))
def test_any_split_of_the_batch_is_the_same_noise(seed, cut, draw):
    whole = normal(seed, range(7), draw, (3, 5), torch.float32, None)
    parts = [
        normal(seed, r, draw, (3, 5), torch.float32, None) for r in (range(cut), range(cut, 7))
    ]
    assert torch.equal(whole, torch.cat(parts))


def test_streams_differ_and_are_normal():
    draws = torch.stack(
        [normal(s, range(2), k, (20000,), torch.float64, None) for s in (0, 1) for k in (0, 1)]
    ).flatten(0, 1)
    correlation = torch.corrcoef(draws) - torch.eye(8, dtype=torch.float64)
    assert correlation.abs().max() < 5 / 20000**0.5
    assert draws.mean().abs() < 5 / draws.numel() ** 0.5
    assert (draws.var() - 1).abs() < 5 * (2 / draws.numel()) ** 0.5


def test_float64_sees_the_float32_noise():
    a, b = (normal(3, range(4), 1, (6,), dtype, None) for dtype in (torch.float32, torch.float64))
    assert a.dtype == torch.float32 and b.dtype == torch.float64 and torch.equal(a.double(), b)


@pytest.mark.parametrize("solver", FIXED)
def test_a_run_does_not_depend_on_how_it_is_split(solver):
    arguments = {"solver": solver, "nfe": 9, "seed": 5}
    whole = flowsolve.sample(MODEL, n=7, **arguments)
    assert torch.equal(whole, flowsolve.sample(MODEL, n=7, batch_size=3, **arguments))
    assert torch.equal(whole[4:], flowsolve.sample(MODEL, n=3, first=4, **arguments))


def test_global_generators_are_not_touched():
    import numpy as np

    torch.manual_seed(0)
    before, np_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = (flowsolve.solve(MODEL, solver="ddpm", nfe=3) for _ in range(2))
    assert (
        torch.equal(before, torch.get_rng_state()) and (np_before == np.random.get_state()[1]).all()
    )
    assert not torch.equal(first.x, second.x)
    assert torch.equal(first.x, flowsolve.sample(MODEL, solver="ddpm", nfe=3, seed=first.seed))


def test_own_noise():
    start, z = torch.randn(4, 2, 3), torch.randn(8, 4, 2, 3)
    a = flowsolve.solve(MODEL, solver="ddpm", nfe=8, start=start, noise=z)
    b = flowsolve.solve(MODEL, solver="ddpm", nfe=8, start=start, noise=lambda k: z[k])
    assert torch.equal(a.x, b.x) and a.seed is None
    with pytest.raises(ValueError, match="no draw number 3"):
        flowsolve.solve(MODEL, solver="ddpm", nfe=8, start=start, noise=z[:3])
    with pytest.raises(ValueError, match=r"draw 0 has shape \(4, 6\)"):
        flowsolve.solve(MODEL, solver="ddpm", nfe=8, start=start, noise=z.flatten(2))


@pytest.mark.parametrize(
    ("seed", "error"),
    [(-1, ValueError), (2**64, ValueError), (1.5, TypeError), ("a", TypeError), (True, TypeError)],
)
def test_bad_seeds(seed, error):
    with pytest.raises(error, match="seed="):
        flowsolve.sample(MODEL, seed=seed)
