"""What a network predicts, what it is told, and how it is conditioned."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import F64, PROCESSES, elementwise

import flowsolve
from flowsolve.denoiser import PREDICTIONS

processes = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


def targets(x0, eps, level, sigma_data):
    """What each kind of network is trained to return, from its definition."""
    a, r = level.A.value, level.R.value
    x, sigma = a * x0 + r * eps, r / a
    return {
        "eps": eps,
        "x0": x0,
        "v": a * eps - r * x0,
        "velocity": eps - x0,
        "score": -eps / r,
        # 2206.00364, table 1, on x̄ = x/A
        "F": (x0 - sigma_data**2 / (sigma**2 + sigma_data**2) * x / a) * math.sqrt(sigma**2 + sigma_data**2) / (sigma * sigma_data),
    }


@processes
@settings(max_examples=20)
@given(u=st.floats(0.02, 0.95), sigma_data=st.floats(0.2, 2.0))
def test_every_prediction_is_taken_apart_exactly(process, u, sigma_data):
    level = process.level(process.t_min + (process.t_max - process.t_min) * u)
    x0, eps = torch.randn(2, 3, dtype=F64), torch.randn(2, 3, dtype=F64)
    x = level.A @ x0 + level.R @ eps
    for predicts, target in targets(x0, eps, level, sigma_data).items():
        model = flowsolve.Denoiser(lambda x, t, o=target: o, process, predicts, (3,), sigma_data=sigma_data, dtype=F64)
        prediction = model(x, level)
        room = 1e-12 * (1 + level.sigma + 1 / level.sigma) * (1 + 1 / level.A.value)
        torch.testing.assert_close(prediction.x0, x0, rtol=0, atol=room)
        torch.testing.assert_close(prediction.eps, eps, rtol=0, atol=room)
    assert set(PREDICTIONS) == set(targets(x0, eps, level, sigma_data))


def test_edm_scales_the_input():
    seen = []
    model = flowsolve.Denoiser(lambda x, t: seen.append((x, t)) or x, PROCESSES["edm"], "F", (3,), dtype=F64)
    x = torch.randn(2, 3, dtype=F64)
    model(x, 5.0)
    torch.testing.assert_close(seen[0][0], x / math.sqrt(25 + 0.25))
    torch.testing.assert_close(seen[0][1], torch.full((2,), 0.25 * math.log(5.0), dtype=F64))


@pytest.mark.parametrize(
    ("process", "time", "expected"),
    [
        ("vp", None, 0.3),
        ("discrete", None, 300.0),
        ("ve", None, 0.01 * 5000**0.3),
        ("edm", None, 0.25 * math.log(0.3)),
        ("rectified_flow", None, 0.3),
        ("rectified_flow", "sigma", 0.3 / 0.7),
        ("rectified_flow", "logsnr", -2 * math.log(0.3 / 0.7)),
        ("vp", lambda level: 999 * level.t, 999 * 0.3),
    ],
)
def test_what_the_network_is_told(process, time, expected):
    seen = []
    model = flowsolve.Denoiser(lambda x, t: seen.append(t) or x, PROCESSES[process], "eps", (3,), time=time)
    model(torch.randn(2, 3), 300.0 if process == "discrete" else 0.3)
    assert seen[0].shape == (2,) and float(seen[0][0]) == pytest.approx(expected, rel=1e-6)


def test_conditioning_is_split_with_the_batch():
    def net(x, t, y, scale):
        assert len(y) == len(x)
        return scale * x * y.view(-1, 1)

    labels = torch.arange(7.0)
    model = flowsolve.Denoiser(net, PROCESSES["vp"], "eps", (3,)).given(scale=0.1).given(y=labels)
    whole = flowsolve.sample(model, n=7, seed=0, nfe=5)
    assert torch.equal(whole, flowsolve.sample(model, n=7, seed=0, nfe=5, batch_size=2))
    assert not torch.equal(whole, flowsolve.sample(model.given(y=labels.flip(0)), n=7, seed=0, nfe=5))


def test_corrections_of_x0():
    model = flowsolve.Denoiser(lambda x, t: 3 * x, PROCESSES["vp"], "x0", (50,), correct_x0=flowsolve.clip(-1, 1))
    x, level = torch.randn(4, 50), PROCESSES["vp"].level(0.5)
    x0, eps = model(x, level)
    assert torch.equal(x0, (3 * x).clamp(-1, 1))
    torch.testing.assert_close(level.A @ x0 + level.R @ eps, x)
    for solver in ("ddim", "heun", "ab3"):
        assert flowsolve.sample(model, solver=solver, nfe=9, n=3, seed=0).abs().max() <= 1 + 1e-6
    thresholded = flowsolve.dynamic_threshold(0.9)(5 * x, level)
    assert thresholded.abs().max() <= 1 and (thresholded.abs() == 1).float().mean() > 0.05
    small = 0.1 * torch.tanh(x)
    assert torch.equal(flowsolve.dynamic_threshold()(small, level), small)
    for make in (lambda: flowsolve.clip(1, -1), lambda: flowsolve.dynamic_threshold(0.0)):
        with pytest.raises(ValueError, match="expected"):
            make()


def test_thresholds_run_on_plain_networks():
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (3,), correct_x0=flowsolve.dynamic_threshold())
    assert flowsolve.sample(model, nfe=5, n=2, seed=0).abs().max() <= 1 + 1e-5
