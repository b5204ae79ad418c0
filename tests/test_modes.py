"""None of torch's global modes reaches a run's arithmetic, or what is kept for the next run."""

import contextlib
import itertools

import pytest
import torch
from problems import F64, MATRIX_PROCESSES, PROCESSES, elementwise

import flowsolve
from flowsolve import exact


@contextlib.contextmanager
def switched(set_to, value, back):
    set_to(value)
    try:
        yield
    finally:
        set_to(back)


MODES = {
    "default dtype f64": lambda: switched(torch.set_default_dtype, F64, torch.float32),
    "default dtype bf16": lambda: switched(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "device meta": lambda: torch.device("meta"),
    "default device meta": lambda: switched(torch.set_default_device, "meta", None),
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": lambda: switched(torch.use_deterministic_algorithms, True, False),
}
#: A process for every kind of operator, the shape of its data, and solvers: of fixed steps, with
#: noise, of steps that the data choose.
RUNS = {
    "scalar": (PROCESSES["vp"], (3, 5), ("dpmpp2m", "ddpm", "adaptive")),
    "block": (MATRIX_PROCESSES["cld"], (2, 3), ("ab3", "gddim", "bosh3")),
    "spectral": (MATRIX_PROCESSES["blurring"], (2, 2, 3), ("ab3", "gddim", "bosh3")),
}
modes = pytest.mark.parametrize("mode", MODES)
kinds = pytest.mark.parametrize("name", RUNS)
fresh = itertools.count(1)


def start_of(process):
    """Another one for each test: nothing that earlier runs have kept is of use."""
    return process.t_max * (0.9 - 1e-4 * next(fresh))


@pytest.mark.sweep(keep=60)
@modes
@pytest.mark.parametrize(
    ("name", "solver"), [(name, solver) for name, (*_, all_) in RUNS.items() for solver in all_]
)
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=["f32", "f64"])
def test_a_run_is_the_same_and_so_is_the_next(name, solver, dtype, mode):
    process, shape, _ = RUNS[name]
    fixed = solver not in ("bosh3", "adaptive")
    options = {"nfe": 6} if fixed else {"rtol": 1e-2, "atol": 1e-2, "nfe": 2000}
    times = (start_of(process), 0.5 * process.t_max)
    model = flowsolve.Denoiser(elementwise, process, "x0", shape, dtype=dtype)

    def run():
        return flowsolve.sample(model, solver=solver, n=2, seed=3, span=times, **options)

    with MODES[mode]():
        inside = run()
    after = run()
    assert not after.is_inference() and after.device.type == inside.device.type == "cpu"
    assert torch.equal(inside, after)


@modes
@kinds
def test_a_run_after_it_can_be_differentiated(name, mode):
    process, shape, _ = RUNS[name]
    model = flowsolve.Denoiser(elementwise, process, "x0", shape, dtype=F64)
    x = torch.randn(2, *model.state_shape, dtype=F64)
    arguments = {"solver": "ab2", "nfe": 4, "span": (start_of(process), None)}
    with MODES[mode]():
        flowsolve.sample(model, start=x, **arguments)
    x.requires_grad_()
    flowsolve.solve(model, start=x, differentiable=True, **arguments).x.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@modes
@kinds
def test_exact_denoisers_are_the_same(name, mode):
    process, shape, _ = RUNS[name]
    entries = torch.arange(2.0 * torch.Size(shape).numel()).view(2, *shape).sin().tolist()

    def results():
        mixture = exact.Mixture(process, [1, 2], entries, 0.3)
        models = (
            mixture,
            exact.Gaussian(process, entries[0], 0.2),
            exact.Empirical(process, entries),
        )
        level = process.level(0.6 * process.t_max)
        for model in models:
            x = model.draw(3, level=level, seed=1)
            yield from (x, *model(x, level), model.log_density(x, level), model.draw(2))
        yield models[1].flow(x, level, 0.3 * process.t_max)

    with MODES[mode]():
        inside = [*results()]
    for a, b in zip(inside, results(), strict=True):
        assert a.device.type == "cpu" and a.dtype == F64 and torch.equal(a, b)


def test_an_exact_denoiser_of_inference_mode_has_gradients_later():
    with torch.inference_mode():
        means = torch.tensor([[1.0, 2.0]], dtype=F64)
        models = (
            exact.Mixture(PROCESSES["vp"], [1.0], means),
            exact.Dirac(PROCESSES["vp"], means[0]),
        )
    for model in models:
        x = torch.randn(3, 2, dtype=F64, requires_grad=True)
        flowsolve.solve(model, nfe=3, start=x, differentiable=True).x.sum().backward()
        model.log_density(x, 0.5).sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, F64])
def test_autocast_is_for_the_network_alone(dtype):
    """A network of products under autocast, and the same one that rounds by itself."""
    process, shape, _ = RUNS["spectral"]
    matrix = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))

    def cast(x, t):
        assert torch.is_autocast_enabled("cpu")
        return torch.tanh(x @ matrix.to(x)).to(x)

    def rounded(x, t):
        if dtype is F64:  # which autocast leaves alone
            return torch.tanh(x @ matrix.to(x)).to(x)
        return torch.tanh(x.bfloat16() @ matrix.bfloat16()).to(x)

    ours, same = (flowsolve.Denoiser(n, process, "x0", shape, dtype=dtype) for n in (cast, rounded))
    with torch.autocast("cpu", torch.bfloat16):
        got = flowsolve.sample(ours, solver="ab3", nfe=6, n=2, seed=0)
    assert torch.equal(got, flowsolve.sample(same, solver="ab3", nfe=6, n=2, seed=0))


def test_seeds_of_many_samples_are_where_the_noise_is():
    """Whatever torch's default device: all the seeds are made one tensor."""
    model = flowsolve.Denoiser(lambda x, t: 0.1 * x, flowsolve.VP(), "eps", (3,))
    seeds = list(range(600))
    expected = flowsolve.sample(model, solver="ddpm", nfe=2, seed=seeds)
    with switched(torch.set_default_device, "meta", None):
        assert torch.equal(flowsolve.sample(model, solver="ddpm", nfe=2, seed=seeds), expected)
