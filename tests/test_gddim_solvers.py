"""The whole zoo on processes whose A and R are matrices: it works there, or says why not."""

import math
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from problems import (
    ALL,
    F64,
    FIXED,
    MATRIX_PROCESSES,
    MATRIX_SHAPES,
    SOLVERS,
    WORKING,
    elementwise,
    matrix_data,
    matrix_mixture,
    refusal,
)
from scipy.fft import dctn, idctn

import flowsolve
from flowsolve import exact
from flowsolve.processes import Blurring

matrices = pytest.mark.parametrize("name", MATRIX_PROCESSES)
#: What a refusal has to say: that matrices are the reason, and what to do.
REASON = re.compile(r"(matri(x|ces)|A \+ R must have an inverse).*use ")


def working(test):
    """On every process that the row works on; in a sample, some of the rows on one of them."""
    pairs = pytest.mark.parametrize(("name", "solver"), WORKING)
    return pytest.mark.sweep(keep=0.25)(pairs(test))


def network(name, net=elementwise, predicts="eps", **options):
    return flowsolve.Denoiser(net, MATRIX_PROCESSES[name], predicts, MATRIX_SHAPES[name], **options)


# What is refused.


@matrices
@pytest.mark.parametrize("solver", ALL)
def test_refused_with_the_reason_or_not_at_all(solver, name):
    arguments, reason = {"solver": solver, "n": 2, "seed": 0, "nfe": 8}, refusal(name, solver)
    if reason is None:
        if solver in FIXED:  # the bridges: tests/test_gddim_orders.py
            assert flowsolve.sample(network(name), **arguments).isfinite().all()
        return
    assert REASON.search(reason)
    for call in (flowsolve.sample, flowsolve.solve):
        with pytest.raises(ValueError, match=re.escape(reason)):
            call(network(name), **arguments)
    with pytest.raises(
        ValueError, match=re.escape(reason) if SOLVERS[solver].fixed else "has no plan"
    ):
        flowsolve.plan(solver, MATRIX_PROCESSES[name], nfe=8)


@matrices
@pytest.mark.parametrize("grid", flowsolve.grids.GRIDS)
def test_grids_in_sigma_are_refused(grid, name):
    if flowsolve.grids.GRIDS[grid].in_sigma:
        with pytest.raises(
            ValueError, match=r"is no number where A and R are matrices.*use 'quadratic'"
        ):
            flowsolve.sample(network(name), nfe=5, grid=grid)
    else:
        solution = flowsolve.solve(network(name), solver="ab2", nfe=9, grid=grid, n=2, seed=0)
        assert solution.nfe == 9 and solution.x.isfinite().all() and solution.grid[-1].clean


# What works.


@working
def test_budget_is_kept_and_used(name, solver):
    seen = []
    model = network(
        name, lambda x, t: seen.append((float(t[0]), x.clone())) or elementwise(x, t), dtype=F64
    )
    for nfe in (1, 2, 3, 4, 5, 6, 7, 10, 41):
        seen.clear()
        solution = flowsolve.solve(model, solver=solver, nfe=nfe, n=1, seed=0)
        assert len(seen) == solution.nfe == nfe and solution.x.isfinite().all()
        assert (
            solution.grid[-1].clean
            and solution.x.shape == (1, *MATRIX_SHAPES[name])
            and solution.x.dtype == F64
        )
        assert all(math.isfinite(t) and x.isfinite().all() for t, x in seen)
        keys = [(t, x.numpy().tobytes()) for t, x in seen]
        assert len(set(keys)) == len(keys), "asked twice at one point"


@working
def test_one_point_is_the_answer(name, solver):
    """From the noisiest level to clean data: to rounding amplified by Ψ, 1e5 on CLD and 8e4 on
    blurring, or less."""
    point = torch.randn(MATRIX_SHAPES[name], dtype=F64, generator=torch.Generator().manual_seed(2))
    model = exact.Dirac(MATRIX_PROCESSES[name], point)
    for nfe in (1, 2, 5, 10):
        x = flowsolve.sample(model, solver=solver, nfe=nfe, n=3, seed=1)
        torch.testing.assert_close(x, point.expand_as(x), rtol=0, atol=1e-8)


@working
def test_seeds_and_threads(name, solver):
    model, arguments = network(name), {"solver": solver, "nfe": 9, "n": 3}
    once = [flowsolve.sample(model, seed=seed, **arguments) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        again = list(
            pool.map(lambda seed: flowsolve.sample(model, seed=seed, **arguments), range(4))
        )
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True)) and not torch.equal(
        once[0], once[1]
    )


@working
def test_batch_split_changes_nothing(name, solver):
    arguments = {"solver": solver, "nfe": 7, "n": 5, "seed": 3}
    whole = flowsolve.sample(network(name), **arguments)
    assert all(
        torch.equal(whole, flowsolve.sample(network(name), batch_size=size, **arguments))
        for size in (1, 2)
    )


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 32, 32), (7, 5)])
def test_batches_of_pictures(shape):
    model = flowsolve.Denoiser(elementwise, Blurring(shape[-2:]), "eps", shape)
    for solver in ("ddim", "etd3", "gddim", "heun"):
        arguments = {"solver": solver, "nfe": 5, "n": 7, "seed": 0}
        whole = flowsolve.sample(model, **arguments)
        for size in (1, 3):
            assert torch.equal(whole, flowsolve.sample(model, batch_size=size, **arguments))


@working
def test_a_float32_network_has_a_float64_state(name, solver):
    """Its answers are rounded, to 6e-8; a run amplifies that by the model's stiffness but not by
    more than 1e3, as on numbers."""
    a, b = (
        flowsolve.solve(matrix_data(name, d), solver=solver, nfe=20, n=3, seed=2)
        for d in (torch.float32, F64)
    )
    assert a.x.dtype == b.x.dtype == F64
    torch.testing.assert_close(
        a.x, b.x, rtol=0, atol=1e3 * torch.finfo(torch.float32).eps * float(b.x.abs().max() + 1)
    )
    for dtype, time in (
        (torch.float32, torch.float32),
        (F64, F64),
        (torch.bfloat16, torch.float32),
    ):
        seen, model = set(), matrix_data(name, dtype)
        spy = replace(
            model,
            net=lambda x, t, seen=seen, model=model: (
                seen.add((x.dtype, t.dtype)) or model.net(x, t)
            ),
        )
        assert flowsolve.sample(spy, solver=solver, nfe=5, n=2, seed=0).dtype == F64 and seen == {
            (dtype, time)
        }


@working
def test_what_a_network_predicts_makes_no_difference(name, solver):
    """ε of the whole state, or the data alone: the same samples, up to rounding times Ψ and
    stiffness, 1e5 and 1e3."""
    a, b = (
        flowsolve.sample(m, solver=solver, nfe=9, n=4, seed=0)
        for m in (matrix_mixture(name), matrix_data(name))
    )
    torch.testing.assert_close(
        a, b, rtol=0, atol=1e8 * torch.finfo(F64).eps * float(1 + a.abs().max())
    )


@working
def test_gradients(name, solver):
    model = matrix_data(name)
    z = torch.randn(
        30, 1, *model.state_shape, dtype=F64, generator=torch.Generator().manual_seed(0)
    )

    def end(start):
        # Not from all noise: a difference of two runs would lose its digits to Ψ.
        return flowsolve.solve(
            model, solver=solver, nfe=4, span=(0.5, None), start=start, noise=z, differentiable=True
        ).x

    assert torch.autograd.gradcheck(end, (z[0].clone().requires_grad_(True),))


@pytest.mark.parametrize(
    "device",
    [
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
        )
    ],
)
@working
def test_other_devices_agree_with_the_cpu(name, solver, device):
    a, b = (
        flowsolve.sample(network(name), solver=solver, nfe=12, n=3, seed=0, device=d)
        for d in ("cpu", device)
    )
    assert b.device.type == device and b.dtype == F64
    torch.testing.assert_close(a, b.cpu(), rtol=0, atol=1e-6 * float(1 + a.abs().max()))


@matrices
def test_auto(name):
    arguments = {"nfe": 6, "n": 2, "seed": 0}
    assert torch.equal(
        flowsolve.sample(network(name), **arguments),
        flowsolve.sample(network(name), solver="unipc3", **arguments),
    )


@matrices
def test_what_is_watched_is_what_is_computed(name):
    """Looking at states, which on blurring diffusion are computed as spectra, changes no bit; x̂0
    kept is that of the states kept."""
    for model in (matrix_data(name, torch.float32), matrix_mixture(name)):
        arguments, seen = {"solver": "etd3", "nfe": 6, "n": 3, "seed": 0}, []
        plain = flowsolve.sample(model, **arguments)
        run = flowsolve.solve(
            model,
            keep=("path", "x0"),
            callback=lambda state, seen=seen: seen.append(state.x) or False,
            **arguments,
        )
        assert torch.equal(run.x, plain) and torch.equal(run.path[1:], torch.stack(seen))
        for x, level, x0 in zip(run.path, run.grid, run.x0_path, strict=False):
            torch.testing.assert_close(
                model(x, level).x0, x0, rtol=0, atol=3e-6 * float(1 + x0.abs().max())
            )


@pytest.mark.parametrize("shape", [(1, 8, 8), (7, 5)])
def test_ddim_on_blurring_is_its_formula(shape):
    """A step written out on spectra, with scipy's transform and a network that is told nothing of
    the process."""
    process = Blurring(shape[-2:])
    model = flowsolve.Denoiser(lambda x, t: 0.5 * torch.tanh(x), process, "x0", shape)
    run = flowsolve.solve(model, solver="ddim", nfe=12, n=2, seed=0, keep="path")
    y = dctn(run.path[0].numpy(), axes=(-2, -1), norm="ortho")
    for s, t in zip(run.grid[:-2], run.grid[1:-1], strict=True):
        x0 = dctn(0.5 * np.tanh(idctn(y, axes=(-2, -1), norm="ortho")), axes=(-2, -1), norm="ortho")
        y = t.A.value * x0 + t.R.value / s.R.value * (y - s.A.value * x0)
    np.testing.assert_allclose(
        run.path[-2].numpy(), idctn(y, axes=(-2, -1), norm="ortho"), rtol=0, atol=1e-12
    )
