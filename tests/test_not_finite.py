"""What is not finite is laid to who it came from: the start, the noise, correct_x0, the network, or
a state that overflowed."""

import pickle

import pytest
import torch
from problems import F64, PROCESSES

import flowsolve
from flowsolve import exact

SOLVERS = ["ddim", "auto", "torchdiffeq:rk4", "dopri5", "adaptive", "scipy:RK45", "scipy:LSODA"]


def gaussian():
    return exact.Gaussian(PROCESSES["vp"], torch.tensor([1.0, -2.0], dtype=F64), 0.3)


def model(net, **arguments):
    return flowsolve.Denoiser(net, PROCESSES["vp"], "x0", (2,), dtype=F64, **arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_start_is_named(solver, value):
    start = torch.zeros(4, 2, dtype=F64)
    start[1, 0] = start[3] = value
    with pytest.raises(ValueError, match=r"^start has NaN or Inf in samples 1, 3; expected finite"):
        flowsolve.sample(gaussian(), solver=solver, start=start)
    with pytest.raises(ValueError, match=r"^x has NaN or Inf in samples 1, 3; expected finite"):
        flowsolve.encode(gaussian(), start, solver=solver)
    # If the network does not see it the run may come to nothing all the same.
    blind = model(lambda x, t: torch.nan_to_num(x) * 0.0)
    try:
        assert flowsolve.sample(blind, solver=solver, start=start).isfinite().all()
    except ValueError as error:
        assert str(error).startswith("start has NaN or Inf")


def late(x0, level):
    return x0 * float("nan") if level.t < 0.5 else x0


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_correction_is_named(solver):
    corrected = model(lambda x, t: 0.1 * x, correct_x0=late)
    with pytest.raises(
        flowsolve.NonFiniteError, match=r"^correct_x0 returned NaN or Inf first at evaluation"
    ) as caught:
        flowsolve.sample(corrected, solver=solver, n=2, seed=0)
    assert caught.value.source == "correct_x0" and caught.value.level.t < 0.5
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.source == "correct_x0"


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_network_is_named_with_a_correction_around_it(solver):
    def net(x, t):
        return torch.where(t.view(-1, 1) < 0.5, torch.nan, 0.1 * x)

    for correct in (None, lambda x0, level: x0.clamp(-1.0, 1.0)):
        with pytest.raises(flowsolve.NonFiniteError, match=r"^the network returned NaN") as caught:
            flowsolve.sample(model(net, correct_x0=correct), solver=solver, n=2, seed=0)
        assert caught.value.source == "the network"


def test_a_draw_is_named():
    def noise(k):
        return torch.full((3, 2), torch.nan if k == 2 else 0.0, dtype=F64)

    with pytest.raises(
        ValueError, match=r"^noise: draw 2 has NaN or Inf in samples 0, 1, 2; expec"
    ):
        flowsolve.sample(gaussian(), solver="ddpm", n=3, noise=noise, nfe=6)


def test_a_network_is_not_blamed_for_what_it_was_given():
    """A state that has overflowed, in float32, gives NaN in almost any network."""
    wild = flowsolve.Denoiser(lambda x, t: 3e38 + 0.0 * x, PROCESSES["vp"], "eps", (2,))
    with pytest.raises(flowsolve.NonFiniteError, match=r"^every evaluation was") as caught:
        flowsolve.sample(wild, solver="ddim", nfe=8, seed=0)
    assert caught.value.level is None


def test_an_error_of_the_network_stays_what_it_is():
    def net(x, t):
        raise KeyError("mine")

    for solver in ("ddim", "dopri5"):
        with pytest.raises(KeyError, match="mine"):
            flowsolve.sample(model(net), solver=solver)
