"""What a network predicts, what it is told, and how it is conditioned."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import F64, MATRIX_PROCESSES, PROCESSES, elementwise

import flowsolve
from flowsolve import Parametrization, exact
from flowsolve.parametrizations import SCM, F, Velocity

processes = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


def with_option(predicts, sigma_data):
    return F(sigma_data) if predicts == "F" else predicts


def targets(x0, eps, level, sigma_data):
    """What each kind of network is trained to return, from its definition."""
    a, r = level.A.value, level.R.value
    x, sigma = a * x0 + r * eps, r / a
    return {
        "eps": eps,
        "x0": x0,
        "v": a * eps - r * x0,
        "flow": eps - x0,
        "score": -eps / r,
        # 2206.00364, table 1, on x̄ = x/A
        "F": (x0 - sigma_data**2 / (sigma**2 + sigma_data**2) * x / a)
        * math.sqrt(sigma**2 + sigma_data**2)
        / (sigma * sigma_data),
    }


@processes
@settings(max_examples=20)
@given(u=st.floats(0.02, 0.95), sigma_data=st.floats(0.2, 2.0))
def test_every_prediction_is_taken_apart_exactly(process, u, sigma_data):
    level = process.level(process.t_min + (process.t_max - process.t_min) * u)
    x0, eps = torch.randn(2, 3, dtype=F64), torch.randn(2, 3, dtype=F64)
    x = level.A @ x0 + level.R @ eps
    for predicts, target in targets(x0, eps, level, sigma_data).items():
        model = flowsolve.Denoiser(
            lambda x, t, o=target: o, process, with_option(predicts, sigma_data), (3,), dtype=F64
        )
        prediction = model(x, level)
        room = 1e-12 * (1 + level.sigma + 1 / level.sigma) * (1 + 1 / level.A.value)
        torch.testing.assert_close(prediction.x0, x0, rtol=0, atol=room)
        torch.testing.assert_close(prediction.eps, eps, rtol=0, atol=room)


@processes
@pytest.mark.parametrize("predicts", Parametrization.known)
def test_coefficients_undo_the_target(process, predicts):
    """Of every prediction that is known: from its target, as far as levels go, to the two."""
    kind = Parametrization.known[predicts]()
    if process.entries and isinstance(kind, Velocity):
        with pytest.raises(ValueError, match=f"predicts='{predicts}' is dx/dt, which"):
            kind.target(process, process.level(5.0))
        return
    for t in (process.t_min, 0.5 * (process.t_min + process.t_max), process.t_max):
        level = process.level(t)
        if level.clean or (level.pure_noise and kind.target(process, level)[0].zero):
            continue
        x0, eps = torch.randn(2, 3, dtype=F64), torch.randn(2, 3, dtype=F64)
        (a, b), x = kind.target(process, level), level.A @ x0 + level.R @ eps
        target, linear = a @ x0 + b @ eps, kind.coefficients(process, level)
        for estimate, (on_x, on_out) in ((x0, linear.x0), (eps, linear.eps)):
            size = max(1.0, abs(on_x.value), abs(on_out.value) * float(target.abs().max()))
            got = on_x @ x + on_out @ target
            torch.testing.assert_close(got, estimate, rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
def test_scm_is_the_paper_s(sigma_data):
    """x = cos t x0 + sin t z with z = σ_d ε, network F(x/σ_d, t), dx/dt = cos t z − sin t x0, which
    is σ_d F (arXiv 2410.11081, eq. 4); σ_d is the process's unless it is given."""
    process, seen = flowsolve.TrigFlow(sigma_data), []
    x0, eps = torch.randn(2, 3, dtype=F64), torch.randn(2, 3, dtype=F64)
    for t in (0.01, 0.8, process.t_max):
        x = math.cos(t) * x0 + math.sin(t) * sigma_data * eps
        out = math.cos(t) * eps - math.sin(t) * x0 / sigma_data
        for predicts in ("scm", SCM(sigma_data)):
            model = flowsolve.Denoiser(
                lambda x, t, o=out: seen.append(x) or o, process, predicts, (3,), dtype=F64
            )
            prediction = model(x, t)
            torch.testing.assert_close(prediction.x0, x0, rtol=0, atol=1e-13)
            torch.testing.assert_close(prediction.eps, eps, rtol=0, atol=1e-13)
            torch.testing.assert_close(seen[-1], x / sigma_data, rtol=1e-15, atol=0)


def test_a_prediction_of_ones_own():
    """A subclass is all there is to it: no name, no list, an input scale, matrices that commute or
    not; what it says at pure noise follows from its target."""

    class Twice(Parametrization):
        def target(self, process, level):
            one = level.A.eye()
            return one * 2.0, one

        def input_scale(self, process, level):
            return level.A.eye() * 0.5

    assert Twice.__name__ not in Parametrization.known
    for process, shape in (
        (PROCESSES["cosine"], (3,)),
        (MATRIX_PROCESSES["cld"], (2,)),
        (MATRIX_PROCESSES["blurring"], (2, 3)),
    ):
        law = exact.Gaussian(process, torch.zeros(shape), 0.5)

        def net(x, t, law=law):
            x0, eps = law(2.0 * x, float(t[0]))
            return 2.0 * x0 + eps

        model = flowsolve.Denoiser(net, process, Twice(), shape, time="t", dtype=F64)
        a, b = (flowsolve.sample(m, solver="etd3", nfe=9, n=4, seed=0) for m in (model, law))
        torch.testing.assert_close(a, b, rtol=0, atol=1e-8)
    with pytest.raises(TypeError, match="expected a name such as 'eps' or a"):
        flowsolve.Denoiser(elementwise, PROCESSES["vp"], Twice, (3,))


def test_edm_scales_the_input():
    seen = []
    model = flowsolve.Denoiser(
        lambda x, t: seen.append((x, t)) or x, PROCESSES["edm"], "F", (3,), dtype=F64
    )
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
    model = flowsolve.Denoiser(
        lambda x, t: seen.append(t) or x, PROCESSES[process], "eps", (3,), time=time
    )
    model(torch.randn(2, 3), 300.0 if process == "discrete" else 0.3)
    assert seen[0].shape == (2,) and float(seen[0][0]) == pytest.approx(expected, rel=1e-6)


def test_conditioning_is_split_with_the_batch():
    def net(x, t, y, scale):
        assert len(y) == len(x)
        return scale * x * y.view(-1, 1)

    labels = torch.arange(7.0)
    model = flowsolve.Denoiser(net, PROCESSES["vp"], "eps", (3,)).given(scale=0.1)
    model = model.given(y=labels, per_sample=["y"])
    whole = flowsolve.sample(model, n=7, seed=0, nfe=5)
    assert torch.equal(whole, flowsolve.sample(model, n=7, seed=0, nfe=5, batch_size=2))
    assert not torch.equal(
        whole, flowsolve.sample(model.given(y=labels.flip(0)), n=7, seed=0, nfe=5)
    )


def test_corrections_of_x0():
    model = flowsolve.Denoiser(
        lambda x, t: 3 * x, PROCESSES["vp"], "x0", (50,), correct_x0=flowsolve.clip(-1, 1)
    )
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
    model = flowsolve.Denoiser(
        elementwise, PROCESSES["vp"], "eps", (3,), correct_x0=flowsolve.dynamic_threshold()
    )
    assert flowsolve.sample(model, nfe=5, n=2, seed=0).abs().max() <= 1 + 1e-5
