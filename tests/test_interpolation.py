"""There and back, and between."""

import math

import pytest
import torch
from problems import F64, MATRIX_PROCESSES, PROCESSES, elementwise, matrix_mixture, mixture

import flowsolve
from flowsolve import exact


def states(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("solver", ["ddim", "heun", "vpc3", "etd3", "auto"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_reconstruct_is_encode_then_solve_and_spends_nfe_twice(solver, dtype):
    calls = []

    def net(x, t):
        calls.append(len(x))
        return elementwise(x, t)

    model = flowsolve.Denoiser(net, flowsolve.VP.cosine(), "v", (3,))
    x = states(4, 3, dtype=dtype)
    found = flowsolve.reconstruct(model, x, solver=solver, nfe=11)
    assert len(calls) == 22
    latent = flowsolve.encode(model, x, solver=solver, nfe=11)
    back = flowsolve.sample(model, solver=solver, nfe=11, start=latent)
    assert torch.equal(found.latent, latent) and torch.equal(found.x, back)
    assert found.x.dtype is dtype
    error = (back.double() - x.double()).square().mean(1)
    torch.testing.assert_close(found.error, error, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("heun", 3), ("etd3", 3)])
def test_the_error_falls_as_the_solver_s_order_says(solver, order):
    """The mean square with twice the order. There and back with -h an even power of h cancels, so
    that Heun's has one order more. Between noisy levels: the last step has an order of its own."""
    model = mixture(flowsolve.VP.cosine())
    noisy, quiet = (model.process.at("sigma", sigma).t for sigma in (20.0, 0.05))
    x = model.draw(64, level=quiet)
    how = {"solver": solver, "grid": "logsnr", "span": (noisy, quiet)}
    errors = [float(flowsolve.reconstruct(model, x, nfe=n, **how).error.mean()) for n in (80, 160)]
    rate = math.log2(errors[0] / errors[1])
    assert abs(rate - 2 * order) < 0.3


@pytest.mark.late
def test_on_digits_ddim_falls_and_auto_needs_an_eighth():
    pytest.importorskip("sklearn")
    from flowsolve.models.data import data

    images, labels = data().held_out[:3], data().held_out_labels[:3]
    model = flowsolve.digits(labels)

    def error(solver, nfe):
        return float(flowsolve.reconstruct(model, images, solver=solver, nfe=nfe).error.mean())

    ddim = {n: error("ddim", n) for n in (10, 20, 40, 80, 160)}
    assert sorted(ddim.values(), reverse=True) == list(ddim.values())
    assert error("auto", 10) < ddim[80] and error("auto", 20) < ddim[160]


def test_slerp_turns_by_the_angle():
    """In the plane: a circle of radius 2, an angle of 2 radians."""
    angle = torch.linspace(0.1, 3.0, 5, dtype=F64)
    a = torch.tensor([[2.0, 0.0]], dtype=F64).expand(5, 2)
    b = 2.0 * torch.stack([angle.cos(), angle.sin()], 1)
    for t in (0.0, 0.25, 0.5, 0.9, 1.0):
        want = 2.0 * torch.stack([(t * angle).cos(), (t * angle).sin()], 1)
        torch.testing.assert_close(flowsolve.slerp(a, b, t), want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
def test_slerp_is_per_sample_and_at_the_ends_what_was_given(shape, dtype):
    a, b = (states(4, *shape, seed=s, dtype=dtype) for s in (0, 1))
    half = flowsolve.slerp(a, b, 0.3)
    assert half.dtype is dtype and half.shape == a.shape
    alone = torch.cat([flowsolve.slerp(a[i : i + 1], b[i : i + 1], 0.3) for i in range(4)])
    assert torch.equal(half, alone)
    rounding = 4 * torch.finfo(dtype).eps
    for t, end in ((0.0, a), (1.0, b)):
        torch.testing.assert_close(flowsolve.slerp(a, b, t), end, rtol=rounding, atol=rounding)


def test_slerp_of_states_that_point_one_way():
    a = states(3, 4)
    for factor in (1.0, 2.0, -1.0, 0.0):
        want = 0.75 * a + 0.25 * factor * a
        torch.testing.assert_close(flowsolve.slerp(a, factor * a, 0.25), want, rtol=1e-12, atol=0)
    near = a + 1e-9 * states(3, 4, seed=1)
    torch.testing.assert_close(flowsolve.slerp(a, near, 0.5), a, rtol=0, atol=1e-8)


def test_slerp_keeps_the_norm_and_a_line_does_not():
    a, b = (states(64, 64, seed=s) for s in (0, 1))
    mean = 0.5 * (a.norm(dim=1) + b.norm(dim=1))
    # Half way between two norms, whose squares differ by a relative 2/sqrt(D/2).
    assert ((flowsolve.slerp(a, b, 0.5).norm(dim=1) / mean) - 1).abs().max() < 0.3
    assert abs(float((flowsolve.slerp(a, b, 0.5).norm(dim=1) / mean).mean()) - 1) < 0.02
    assert abs(float((0.5 * (a + b)).norm(dim=1).mean() / mean.mean()) - 0.5**0.5) < 0.02


def test_slerp_has_gradients():
    a, b = (states(2, 3, seed=s).requires_grad_() for s in (0, 1))
    assert torch.autograd.gradcheck(lambda a, b: flowsolve.slerp(a, b, 0.4), (a, b))


@pytest.mark.parametrize("process", ["vp", "rectified_flow", "edm"])
def test_between_data_of_a_gaussian_is_their_own_circle(process):
    """Up and down, the flow of N(0, c) and each step of a solver multiply by a number, and circles
    know no scale."""
    model = exact.Gaussian(PROCESSES[process], torch.zeros(5), 0.5)
    a, b = (model.draw(3, seed=s) for s in (0, 1))
    points = flowsolve.interpolate(model, a, b, 5, nfe=20)
    back = [flowsolve.reconstruct(model, x, nfe=20).x for x in (a, b)]
    for k in range(5):
        want = flowsolve.slerp(back[0], back[1], k / 4)
        torch.testing.assert_close(points[k], want, rtol=0, atol=1e-11)


def test_the_ends_come_back_and_latents_may_be_given():
    model = mixture(flowsolve.VP.cosine())
    a, b = (model.draw(3, seed=s) for s in (0, 1))
    how = {"solver": "etd3", "nfe": 12}
    points = flowsolve.interpolate(model, a, b, 4, **how)
    assert points.shape == (4, 3, 2)
    for end, x in ((points[0], a), (points[-1], b)):
        back = flowsolve.reconstruct(model, x, **how).x
        torch.testing.assert_close(end, back, rtol=0, atol=1e-10)
    z = [flowsolve.encode(model, x, **how) for x in (a, b)]
    again = flowsolve.interpolate(model, *z, 4, encoded=True, **how)
    torch.testing.assert_close(again, points, rtol=0, atol=1e-12)


def test_a_square_has_its_corners_and_sides():
    model = mixture(flowsolve.RectifiedFlow())
    a, b, c, d = (model.draw(2, seed=s) for s in range(4))
    how = {"solver": "vpc3", "nfe": 12}
    square = flowsolve.interpolate(model, a, b, 3, below=(c, d), **how)
    assert square.shape == (3, 3, 2, 2)
    sides = {
        (a, b): square[0],
        (c, d): square[-1],
        (a, c): square[:, 0],
        (b, d): square[:, -1],
    }
    for (x, y), side in sides.items():
        line = flowsolve.interpolate(model, x, y, 3, **how)
        torch.testing.assert_close(side, line, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", MATRIX_PROCESSES)
def test_where_a_and_r_are_matrices(name):
    model = matrix_mixture(name)
    a, b = (model.draw(2, seed=s) for s in (0, 1))
    points = flowsolve.interpolate(model, a, b, 3, solver="etd3", nfe=40)
    assert points.shape == (3, *a.shape)
    for end, x in ((points[0], a), (points[-1], b)):
        back = flowsolve.reconstruct(model, x, solver="etd3", nfe=40).x
        torch.testing.assert_close(end, back, rtol=0, atol=1e-8)


def test_rows_of_conditioning_are_those_of_the_pairs():
    def net(x, t, y):
        return elementwise(x, t) + y.view(-1, 1)

    y = torch.tensor([0.0, 0.5, -0.5], dtype=F64)
    model = flowsolve.Denoiser(net, flowsolve.VP(), "eps", (2,))
    a, b = states(3, 2), states(3, 2, seed=1)
    told = model.given(y=y, per_sample=["y"])
    whole = flowsolve.interpolate(told, a, b, 4, solver="ddim", nfe=6)
    for i in range(3):
        one = model.given(y=y[i : i + 1], per_sample=["y"])
        part = flowsolve.interpolate(one, a[i : i + 1], b[i : i + 1], 4, solver="ddim", nfe=6)
        assert torch.equal(whole[:, i : i + 1], part)
    with pytest.raises(ValueError, match=r"y may have a row .* interpolate needs to know"):
        flowsolve.interpolate(model.given(y=y), a, b, 4, nfe=6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"b": torch.zeros(3, 2)}, ValueError, r"b=<Tensor .*\(3, 2\)>: expected the shape of a"),
        ({"b": torch.zeros(2, 3)}, ValueError, r"b has shape \(2, 3\)"),
        ({"a": torch.zeros(2, 2) * math.nan}, ValueError, "a has NaN or Inf"),
        ({"below": torch.zeros(2, 2)}, TypeError, "below=.* expected a pair"),
        ({"below": (torch.zeros(2, 2), None)}, TypeError, r"below\[1\] is NoneType"),
        ({"steps": 1}, ValueError, "steps=1: expected an integer from 2"),
        ({"solver": "ddpm"}, ValueError, "encoding needs a deterministic solver"),
        ({"sovler": "ddim"}, (TypeError, ValueError), "sovler"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change, error, message):
    model = flowsolve.Denoiser(elementwise, flowsolve.VP(), "eps", (2,))
    wrong = {"a": torch.zeros(2, 2), "b": torch.ones(2, 2), "steps": 3, "nfe": 4} | change
    with pytest.raises(error, match=message):
        flowsolve.interpolate(model, **wrong)
