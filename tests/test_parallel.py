"""Runs in parallel in time: the serial answer to the tolerance, in few rounds, sample by sample."""

import pytest
import torch
from problems import F64, FIXED, MATRIX_PROCESSES, STOCHASTIC, elementwise, mixture

import flowsolve
from flowsolve import Parallel

COSINE = flowsolve.VP.cosine()


def model_of(process=COSINE, predicts="v", dtype=F64, **told):
    model = flowsolve.Denoiser(elementwise, process, predicts, (3,), dtype=dtype)
    return model.given(**told) if told else model


@pytest.mark.sweep(keep=0.2)
@pytest.mark.parametrize("solver", [*FIXED, "auto"])
def test_it_is_the_serial_run_to_the_tolerance(solver):
    """On smooth data; with draws, that are the same ones. Noise in between, with few evaluations,
    is the hardest."""
    model = mixture(COSINE)
    how = {"solver": solver, "nfe": 24, "n": 4, "seed": 0}
    serial = flowsolve.solve(model, **how)
    for tol in (1e-3, 1e-6):
        found = flowsolve.solve(model, parallel=Parallel(tol=tol), **how)
        assert float((found.x - serial.x).abs().max()) < 10 * tol
        assert found.rounds is not None and found.rounds <= 24 and found.nfe >= 24
        assert found.grid == serial.grid and found.seed == serial.seed
    assert serial.rounds is None


@pytest.mark.sweep(keep=0.3)
@pytest.mark.parametrize("process", [flowsolve.VP(), flowsolve.RectifiedFlow(), flowsolve.EDM()])
@pytest.mark.parametrize("predicts", ["x0", "v", "flow"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_on_every_process(process, predicts, dtype):
    model = model_of(process, predicts, dtype)
    how = {"solver": "ddim", "nfe": 30, "n": 3, "seed": 1}
    serial = flowsolve.sample(model, **how)
    found = flowsolve.sample(model, parallel=Parallel(tol=1e-4), **how)
    # Of FLOW coordinates; a clean state is one of them.
    assert float((found - serial).abs().max()) < 1e-3 * float(1 + serial.abs().max())
    assert found.dtype is serial.dtype


def test_digits_in_a_dozen_rounds():
    model = flowsolve.digits(torch.tensor([1, 3, 5, 8]))
    how = {"solver": "ddim", "nfe": 100, "seed": 0}
    serial = flowsolve.sample(model, **how)
    found = flowsolve.solve(model, parallel=Parallel(tol=1e-4), **how)
    assert found.rounds is not None and found.rounds <= 16
    assert float((found.x - serial).abs().max()) < 1e-3


@pytest.mark.sweep(keep=0.4)
@pytest.mark.parametrize("memory", [0, 1, 3])
@pytest.mark.parametrize("window", [None, 1, 7])
def test_there_are_never_more_rounds_than_evaluations(memory, window):
    """Whatever the tolerance, and below rounding as well."""
    for dtype in (torch.float32, F64):
        model = model_of(dtype=dtype)
        how = {"solver": "ab2", "nfe": 20, "n": 2, "seed": 0}
        serial = flowsolve.sample(model, **how)
        found = flowsolve.solve(
            model, parallel=Parallel(tol=1e-30, window=window, memory=memory), **how
        )
        assert found.rounds is not None and found.rounds <= 20
        rounding = 2e-6 if dtype is torch.float32 else 1e-13
        torch.testing.assert_close(found.x, serial, rtol=0, atol=rounding)
    if window == 1:
        assert found.nfe == 20 == found.rounds


def test_a_window_costs_rounds_and_saves_evaluations():
    model = mixture(COSINE)
    found = [
        flowsolve.solve(model, solver="ddim", nfe=60, n=2, seed=0, parallel=Parallel(window=w))
        for w in (None, 8)
    ]
    assert found[1].nfe < found[0].nfe and found[1].rounds > found[0].rounds


@pytest.mark.parametrize("solver", ["ddim", "unipc3", "ddpm"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_neighbours_do_not_change_a_bit(solver, dtype):
    model = flowsolve.Denoiser(elementwise, COSINE, "v", (2, 5), dtype=dtype)
    how = {"solver": solver, "nfe": 24, "seed": 3, "parallel": Parallel(tol=1e-3, window=9)}
    whole = flowsolve.sample(model, n=7, **how)
    for i in range(7):
        assert torch.equal(flowsolve.sample(model, n=1, first=i, **how)[0], whole[i])
    assert torch.equal(flowsolve.sample(model, n=7, batch_size=3, **how), whole)


def test_rows_of_conditioning_go_with_their_samples():
    def net(x, t, y):
        return elementwise(x, t) + y.view(-1, 1)

    y = torch.tensor([0.0, 0.5, -0.5], dtype=F64)
    model = flowsolve.Denoiser(net, COSINE, "v", (3,), dtype=F64)
    told = model.given(y=y, per_sample=["y"])
    how = {"solver": "ab2", "nfe": 12, "seed": 0}
    found = flowsolve.sample(told, parallel=Parallel(tol=1e-8), **how)
    torch.testing.assert_close(found, flowsolve.sample(told, **how), rtol=0, atol=1e-7)
    with pytest.raises(ValueError, match=r"y may have a row .* parallel needs to know"):
        flowsolve.sample(model.given(y=y), n=3, parallel=True, **how)


def test_guided_and_corrected_models():
    good = mixture(COSINE)
    other = flowsolve.exact.Gaussian(COSINE, torch.zeros(2, dtype=F64), 1.0)
    guided = flowsolve.guided(good, other=other, scale=1.5, interval=(0.2, 4.0))
    clipped = flowsolve.Denoiser(
        elementwise, COSINE, "x0", (2,), correct_x0=flowsolve.clip(), dtype=F64
    )
    for model in (guided, clipped):
        how = {"solver": "ddim", "nfe": 15, "n": 3, "seed": 0}
        found = flowsolve.sample(model, parallel=Parallel(tol=1e-7), **how)
        torch.testing.assert_close(found, flowsolve.sample(model, **how), rtol=0, atol=1e-6)


def test_starts_spans_plans_and_noise_of_one_s_own():
    model = model_of()
    start = torch.randn(2, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    plan = flowsolve.plan("ddpm", COSINE, nfe=9, span=(0.9, 0.2))
    noise = torch.randn(9, 2, 3, dtype=F64, generator=torch.Generator().manual_seed(1))
    how = {"solver": plan, "start": start, "noise": noise}
    found = flowsolve.solve(model, parallel=Parallel(tol=1e-9), **how)
    torch.testing.assert_close(found.x, flowsolve.solve(model, **how).x, rtol=0, atol=1e-8)
    assert found.seed is None


@pytest.mark.parametrize("solver", [s for s in STOCHASTIC if s in FIXED][:3])
def test_a_seed_is_a_seed(solver):
    how = {"solver": solver, "nfe": 12, "n": 2, "parallel": True}
    a, b, c = (flowsolve.sample(model_of(), seed=s, **how) for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"solver": "adaptive"}, ValueError, "parallel: this solver's steps depend on the data"),
        ({"solver": "dopri5"}, ValueError, "parallel: this solver's steps depend on the data"),
        ({"keep": "path"}, ValueError, "keep='path' cannot be given with parallel"),
        ({"callback": print}, ValueError, "callback=.* cannot be given with parallel"),
        ({"differentiable": True}, ValueError, "differentiable=True cannot be given with parallel"),
        ({"parallel": "yes"}, TypeError, "parallel='yes': expected"),
        ({"parallel": 3}, TypeError, "parallel=3: expected"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change, error, message):
    with pytest.raises(error, match=message):
        flowsolve.solve(model_of(), **{"nfe": 4, "n": 2, "parallel": True, **change})


def test_numbers_that_cannot_be_are_refused():
    for change, message in (
        ({"tol": 0.0}, "tol=0.0: expected a positive number"),
        ({"window": 0}, "window=0: expected a positive integer"),
        ({"memory": -1}, "memory=-1: expected an integer from 0 to 10"),
    ):
        with pytest.raises(ValueError, match=message):
            Parallel(**change)
    broken = flowsolve.Denoiser(lambda x, t: x * float("nan"), COSINE, "v", (3,))
    with pytest.raises(flowsolve.NonFiniteError):
        flowsolve.sample(broken, nfe=4, n=2, parallel=True)


@pytest.mark.parametrize("name", MATRIX_PROCESSES)
def test_matrices_are_refused_with_the_reason(name):
    with pytest.raises(ValueError, match=r"parallel: A and R of .* are matrices"):
        flowsolve.sample(flowsolve.digits(3, process=name), nfe=4, parallel=True)
