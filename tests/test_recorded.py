"""Runs that are recorded once and played for other samples. Where there is no CUDA device a tape
stands in for a CUDA graph: as in one, what the host knew is fixed, and tensors stay where they
are."""

from __future__ import annotations

import pytest
import torch
from problems import FIXED, MATRIX_PROCESSES, PROCESSES, mixture
from torch.utils._python_dispatch import TorchDispatchMode

import flowsolve
from flowsolve.checks import check_layout
from flowsolve.recorded import Captured

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Tape(TorchDispatchMode):
    """Every operation of some work, with the tensors it was on. To play it is to do them again,
    each result going where it was."""

    def __init__(self, work):
        super().__init__()
        self.operations = []
        work()
        with self:
            self.out = work()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("the host waits for the device")
        out = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, out))
        return out

    def replay(self):
        for function, args, kwargs, out in self.operations:
            again = function(*args, **kwargs)
            for old, new in zip(listed(out), listed(again), strict=True):
                if old.data_ptr() != new.data_ptr():  # a view, and work in place, are there already
                    old.copy_(new)
        return self.out


def listed(out):
    return [each for each in (out if isinstance(out, (list, tuple)) else [out]) if each is not None]


def recorded(model, n, solver, nfe=6, record=Tape, **options):
    how = {"solver": solver, "nfe": nfe, **options}
    plan = check_layout(model.process, solver, nfe, None, (None, None), options).plan
    return Captured(model, plan, n, how=how, record=record), how


@pytest.mark.sweep(keep=12)
@pytest.mark.parametrize("process", ["vp", "edm", "rectified_flow", "discrete"])
@pytest.mark.parametrize("solver", FIXED)
def test_a_recorded_run_draws_what_a_run_draws(solver, process):
    """Of other samples and another seed than it was recorded with."""
    model = mixture(PROCESSES[process])
    draw, how = recorded(model, 5, solver)
    assert draw.reason is None
    for seed, first in ((3, 0), (3, 40), (2**64 - 1, 2**62), (0, 0)):
        x = flowsolve.sample(model, n=5, seed=seed, first=first, **how)
        # The words are the same; a sum may be rounded otherwise where it is done in place.
        assert torch.allclose(draw(seed=seed, first=first), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("solver", ["gddim", "ab2"])
@pytest.mark.parametrize("process", sorted(MATRIX_PROCESSES))
def test_where_a_and_r_are_matrices(process, solver):
    process = MATRIX_PROCESSES[process]
    shape = (1, 2, 3)
    model = flowsolve.exact.Gaussian(process, torch.zeros(shape), 0.3)
    draw, how = recorded(model, 3, solver)
    assert draw.reason is None
    x = flowsolve.sample(model, n=3, seed=7, first=2, **how)
    assert torch.allclose(draw(seed=7, first=2), x, atol=1e-10)


def test_a_seed_for_each_sample():
    model = mixture(PROCESSES["vp"])
    draw, how = recorded(model, 3, "ddpm")
    seeds = [5, 2**64 - 1, 0]
    assert torch.equal(draw(seed=seeds), flowsolve.sample(model, seed=seeds, **how))
    with pytest.raises(ValueError, match="seed has 2 numbers; expected one for each of 3"):
        draw(seed=[1, 2])
    with pytest.raises(ValueError, match="seed=-1"):
        draw(seed=-1)


def test_digits_are_told_their_labels():
    labels = torch.arange(12) % 10
    model = flowsolve.digits(labels)
    draw, how = recorded(model, 4, "ddpm", nfe=3)
    assert draw.reason is None
    for first in (0, 8, 4):
        x = flowsolve.sample(model, n=4, first=first, seed=1, **how)
        assert torch.allclose(draw(seed=1, first=first), x, atol=1e-5)
    with pytest.raises(ValueError, match="12 rows for the samples 10 to 13"):
        draw(first=10)


def test_guidance_is_recorded_too():
    model = flowsolve.guided(flowsolve.digits(label=3), {"label": 10}, scale=2.0)
    draw, how = recorded(model, 2, "unipc3", nfe=4)
    assert draw.reason is None
    x = flowsolve.sample(model, n=2, seed=1, **how)
    assert torch.allclose(draw(seed=1), x, atol=1e-5)


def test_the_record_is_the_model_s_own():
    """What is drawn before does not change when more is drawn."""
    draw, _ = recorded(mixture(PROCESSES["vp"]), 2, "ddim")
    x = draw(seed=0)
    before = x.clone()
    draw(seed=1)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: (lambda x, t: x * float(t[0]), "ddim"), "waits for the device"),
        (lambda: (lambda x, t: x, "adaptive"), "steps depend on the data"),
    ],
)
def test_what_cannot_be_recorded_runs_all_the_same(make, reason):
    net, solver = make()
    model = flowsolve.Denoiser(net, flowsolve.VP(), "x0", (2,))
    draw, how = recorded(model, 2, solver, nfe=None)
    assert draw.reason is not None and reason in draw.reason
    assert torch.equal(draw(seed=4, first=3), flowsolve.sample(model, n=2, seed=4, first=3, **how))


def test_rows_that_are_no_tensors():
    def net(x, t, *, prompt):
        return x * len(prompt[0])

    model = flowsolve.Denoiser(net, flowsolve.VP(), "x0", (2,))
    model = model.given(prompt=["a", "bc"], per_sample=["prompt"])
    draw, _ = recorded(model, 1, "ddim", nfe=2)
    assert draw.reason == "the rows of prompt are in a list, no tensor"
    assert not torch.equal(draw(seed=0), draw(seed=0, first=1))


def test_nan_is_told():
    scale = torch.ones(())
    model = flowsolve.Denoiser(lambda x, t: x * scale, flowsolve.VP(), "x0", (2,))
    draw, _ = recorded(model, 2, "ddim", nfe=2)
    draw(seed=0)
    scale.fill_(float("nan"))
    with pytest.raises(flowsolve.NonFiniteError):
        draw(seed=0)


def test_without_a_cuda_device_the_reason_is_said():
    model = mixture(PROCESSES["vp"])
    draw = flowsolve.capture(model, n=3, solver="ddim", nfe=4, device="cpu")
    assert draw.reason == "a CUDA graph needs a CUDA device; the model is on cpu"
    x = flowsolve.sample(model, n=3, seed=1, solver="ddim", nfe=4)
    assert torch.equal(draw(seed=1), x)
    for wrong, says in (
        ({"solver": "ddmi"}, "Did you mean 'ddim'"),
        ({"n": 0}, "n=0"),
        ({"device": "gpu"}, "device='gpu'"),
    ):
        with pytest.raises(ValueError, match=says):
            flowsolve.capture(model, **wrong)


@needs_cuda
@pytest.mark.parametrize("solver", ["ddim", "ddpm", "unipc3", "auto", "restart"])
def test_a_cuda_graph_draws_what_a_run_draws(solver):
    labels = (torch.arange(12) % 10).cuda()
    model = flowsolve.digits(labels, device="cuda")
    how = {"solver": solver, "nfe": 9}
    draw = flowsolve.capture(model, n=4, **how)
    assert draw.reason is None
    for seed, first in ((0, 0), (5, 8), (2**64 - 1, 4)):
        x = flowsolve.sample(model, n=4, seed=seed, first=first, **how)
        assert torch.allclose(draw(seed=seed, first=first), x, atol=1e-5)


@needs_cuda
def test_a_network_that_waits_for_the_device_is_not_recorded():
    model = flowsolve.Denoiser(lambda x, t: x * float(t[0]), flowsolve.VP(), "x0", (2,))
    draw = flowsolve.capture(model, n=2, solver="ddim", nfe=3, device="cuda")
    assert draw.reason
    x = flowsolve.sample(model, n=2, seed=0, solver="ddim", nfe=3, device="cuda")
    assert torch.equal(draw(seed=0), x)
