"""Exact inversion: no error, order two, what travels, what is refused."""

import math
from dataclasses import replace

import pytest
import torch
from problems import F64, MATRIX_PROCESSES, matrix_mixture, rms

import flowsolve
from flowsolve import Latent, exact

RF, COSINE = flowsolve.RectifiedFlow(), flowsolve.VP.cosine()


class Rough(torch.nn.Module):
    """A random network whose answers vary fast with state and time."""

    def __init__(self, dtype, size):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a, self.b = (
            torch.nn.Parameter(torch.randn(size, size, generator=generator).to(dtype))
            for _ in range(2)
        )
        self.eval()

    def forward(self, x, t, y=None):
        told = 0.0 if y is None else y.view(-1, *[1] * (x.ndim - 1))
        h = torch.sin(x.flatten(1) @ self.a + 5.0 * t[:, None].to(x))
        return (torch.cos(2.0 * h @ self.b)).view(x.shape) + told


def rough(process, dtype, shape=(5,), predicts="v"):
    size = torch.Size(shape).numel()
    return flowsolve.Denoiser(Rough(dtype, size), process, predicts, shape)


def states(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def equal(a, b):
    return torch.equal(a.position, b.position) and torch.equal(a.velocity, b.velocity)


@pytest.mark.parametrize("process", [flowsolve.VP(), COSINE, RF, flowsolve.EDM(), flowsolve.VE()])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("nfe", [2, 4, 7, 20, 51])
def test_there_and_back_is_the_same_to_the_bit(process, dtype, nfe):
    model = rough(process, dtype)
    x = states(3, 5, dtype=dtype)
    latent = flowsolve.encode(model, x, exact=True, nfe=nfe)
    data = latent.decode(model)
    assert torch.equal(data.x, x) and data.x.dtype is dtype
    assert equal(data.encode(model), latent)
    noise = process.start.R @ states(3, 5, seed=1, dtype=dtype)
    begun = Latent.of(model, noise, nfe)
    assert torch.equal(begun.x, noise)
    back = begun.decode(model).encode(model)
    assert equal(back, begun) and torch.equal(back.x, noise)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("nfe", [4, 5, 16])
def test_digits_come_back_to_the_bit(dtype, nfe):
    pytest.importorskip("sklearn")
    from flowsolve.models.data import data

    x, labels = data().held_out[:4].to(dtype), data().held_out_labels[:4]
    model = flowsolve.digits(labels, dtype=dtype)
    found = flowsolve.reconstruct(model, x, exact=True, nfe=nfe)
    assert torch.equal(found.x, x) and not found.error.any()
    assert equal(found.latent.decode(model).encode(model), found.latent)


def test_the_evaluations_are_those_that_were_asked_for():
    calls = []

    def net(x, t):
        calls.append(float(t[0]))
        return torch.tanh(x)

    model = flowsolve.Denoiser(net, COSINE, "v", (2,))
    latent = flowsolve.encode(model, states(2, 2), exact=True, nfe=9)
    assert len(calls) == 9 and min(calls) >= COSINE.t_min - 1e-6
    latent.decode(model)
    assert len(calls) == 9 + 8


@pytest.mark.parametrize("upward", [False, True])
def test_the_order_is_two(upward):
    """On rectified flow, whose quietest level is quiet enough not to be felt."""
    from test_likelihood import law

    model = law(RF)
    start = states(64, 2)
    end = flowsolve.sample(model, solver="scipy:DOP853", rtol=1e-11, atol=1e-12, start=start)
    if upward:
        start = flowsolve.encode(model, end, solver="scipy:DOP853", rtol=1e-11, atol=1e-12)

    def error(nfe):
        if upward:
            return rms(flowsolve.encode(model, end, exact=True, nfe=nfe + 1).x - start)
        return rms(Latent.of(model, start, nfe + 1).decode(model).x - end)

    slopes = [math.log2(error(n) / error(2 * n)) for n in (32, 64)]
    assert all(1.75 < slope < 2.4 for slope in slopes)


@pytest.mark.parametrize("process", [RF, COSINE])
def test_it_is_a_quarter_of_heun_s_error_in_the_same_clock(process):
    from test_likelihood import law

    model = law(process)
    start = states(64, 2)
    end = flowsolve.sample(model, solver="scipy:DOP853", rtol=1e-10, atol=1e-11, start=start)
    for nfe in (32, 64):
        exactly = rms(Latent.of(model, start, nfe).decode(model).x - end)
        grid = flowsolve.grids.Shifted(1.0)
        heun = flowsolve.sample(model, solver="flow_heun", nfe=nfe, grid=grid, start=start)
        assert exactly < 0.25 * rms(heun - end)


def test_what_breaks_equality_is_small():
    """In a batch of another size a network rounds elsewhere: digits one by one."""
    pytest.importorskip("sklearn")
    from flowsolve.models.data import data

    x, labels = data().held_out[:8], data().held_out_labels[:8]
    latent = flowsolve.encode(flowsolve.digits(labels), x, exact=True, nfe=20)
    names = ("position", "velocity", "rest_of_data")
    for i in range(8):
        own = {name: getattr(latent, name)[i : i + 1] for name in names}
        back = replace(latent, **own).decode(flowsolve.digits(labels[i : i + 1])).x
        assert float((back - x[i : i + 1]).abs().max()) < 1e-4


def test_rows_of_conditioning():
    y = torch.tensor([0.0, 1.0, -1.0])
    model = rough(COSINE, torch.float32).given(y=y, per_sample=["y"])
    x = states(3, 5, dtype=torch.float32)
    assert torch.equal(flowsolve.encode(model, x, exact=True).decode(model).x, x)
    with pytest.raises(ValueError, match=r"y: 3 rows for the samples 0 to 3"):
        flowsolve.encode(model, states(4, 5), exact=True)


def test_it_can_be_saved(tmp_path):
    model = rough(COSINE, torch.float32)
    x = states(2, 5, dtype=torch.float32)
    latent = flowsolve.encode(model, x, exact=True, nfe=6)
    latent.save(tmp_path / "latent.pt")
    loaded = Latent.load(tmp_path / "latent.pt")
    assert equal(loaded, latent) and torch.equal(loaded.decode(model).x, x)
    with pytest.raises(FileNotFoundError):
        Latent.load(tmp_path / "no.pt")
    content = (tmp_path / "latent.pt").read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"\x80nonsense"):
        (tmp_path / "bad.pt").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"path=.*expected a flowsolve latent of version 1"):
            Latent.load(tmp_path / "bad.pt")


@pytest.mark.parametrize("name", MATRIX_PROCESSES)
def test_matrices_are_refused_with_the_reason(name):
    model = matrix_mixture(name)
    with pytest.raises(ValueError, match="are matrices, and the reversible leapfrog"):
        flowsolve.encode(model, model.draw(2), exact=True)


def test_what_cannot_be_is_refused_by_name():
    model, x = rough(COSINE, F64), states(2, 5)
    for change, message in (
        ({"solver": "ddim"}, "solver='ddim' cannot be given with exact=True"),
        ({"grid": "karras"}, "grid='karras' cannot be given"),
        ({"span": (0.5, None)}, "span=.* cannot be given"),
        ({"differentiable": True}, "differentiable=True cannot be given"),
        ({"eta": 1.0}, "eta=1.0 cannot be given"),
        ({"nfe": 1}, "nfe=1: expected an integer from 2 to 10000"),
        ({"x": states(2, 4)}, r"x has shape \(2, 4\)"),
        ({"x": x / 0.0}, "x has NaN or Inf"),
        ({"x": 1e7 * x}, "x, or what the network makes of it, reaches .* beyond the 1048576"),
    ):
        with pytest.raises(ValueError, match=message):
            flowsolve.encode(model, **{"x": x, "exact": True, **change})
    latent = flowsolve.encode(model, x, exact=True, nfe=4)
    assert latent.encode(model) is latent
    with pytest.raises(ValueError, match=r"process is RectifiedFlow.*the latent is of"):
        latent.decode(rough(RF, F64))
    with pytest.raises(ValueError, match=r"latent has shape \(2, 5\)"):
        latent.decode(rough(COSINE, F64, (4,)))
    with pytest.raises(ValueError, match="says nothing about x0 at pure noise"):
        Latent.of(rough(COSINE, F64, predicts="eps"), x)
    broken = flowsolve.Denoiser(lambda x, t: x * math.nan, COSINE, "v", (5,))
    with pytest.raises(flowsolve.NonFiniteError):
        flowsolve.encode(broken, x, exact=True)
    with pytest.raises(ValueError, match="expected float64 of one shape"):
        replace(latent, velocity=latent.velocity.float())


def test_no_gradients_and_torch_s_modes():
    model, x = rough(COSINE, F64), states(2, 5)
    want = flowsolve.encode(model, x, exact=True, nfe=5)
    for mode in (torch.inference_mode, torch.enable_grad, torch.no_grad):
        with mode():
            assert equal(flowsolve.encode(model, x, exact=True, nfe=5), want)
    assert not want.x.requires_grad


def test_a_mixture_under_exact_inversion():
    model = exact.Gaussian(RF, torch.zeros(3, dtype=F64), torch.tensor([1.0, 0.3, 0.05]))
    x = model.draw(4)
    assert torch.equal(flowsolve.encode(model, x, exact=True, nfe=8).decode(model).x, x)
