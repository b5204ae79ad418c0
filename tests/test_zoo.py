"""What holds for every solver of the zoo; a new row is tested on arrival."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from problems import ALL, F64, FIXED, PROCESSES, SOLVERS, Tanh, elementwise, mixture

import flowsolve
from flowsolve import exact

ADAPTIVE = [name for name in ALL if name not in FIXED]
LIVE_BUDGET = [name for name in ADAPTIVE if SOLVERS[name].evaluations]


class Counting(torch.nn.Module):
    """A network that counts its calls itself."""

    def __init__(self):
        super().__init__()
        self.calls, self.seen = 0, []
        self.eval()

    def forward(self, x, t):
        self.calls += 1
        self.seen.append((float(t[0]), x.clone()))
        return elementwise(x, t)


@pytest.mark.sweep(keep=0.15)
@pytest.mark.parametrize("process", ["vp", "discrete", "rectified_flow", "edm"])
@pytest.mark.parametrize("solver", [*FIXED, *LIVE_BUDGET])
def test_budget_is_kept_and_used(solver, process):
    net = Counting()
    # In float32 two states a step apart can be equal to the bit.
    model = flowsolve.Denoiser(
        net,
        PROCESSES[process],
        "velocity" if process == "rectified_flow" else "eps",
        (2,),
        dtype=F64,
    )
    for nfe in (
        (*range(1, 26), 40, 41, 59, 60)
        if process in ("vp", "rectified_flow")
        else (1, 2, 3, 4, 5, 6, 7, 8, 20, 59)
    ):
        net.calls, net.seen = 0, []
        solution = flowsolve.solve(model, solver=solver, nfe=nfe, n=1, seed=0)
        assert net.calls == solution.nfe <= nfe
        # Our own solvers use all of it; a bridge can leave less than a step of its method.
        assert (
            solution.nfe == nfe
            if solver in FIXED
            else solution.nfe > nfe - SOLVERS[solver].evaluations
        )
        assert solution.grid[-1].clean
        assert all(level.R.value > 0 for level in solution.grid[:-1]) and all(
            math.isfinite(t) for t, _ in net.seen
        )
        if solver in FIXED:
            keys = [(t, x.numpy().tobytes()) for t, x in net.seen]
            assert len(set(keys)) == len(keys), "asked twice at one point"


@pytest.mark.sweep(keep=0.16)
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("solver", FIXED)
def test_finite_and_exact_between_singular_ends(solver, process):
    """From the noisiest level, pure noise included, to clean data: for one point the answer is that
    point."""
    point = torch.tensor([0.3, -1.2], dtype=F64)
    model = exact.Dirac(PROCESSES[process], point)
    for nfe in (1, 2, 5, 10):
        x = flowsolve.sample(model, solver=solver, nfe=nfe, n=3, seed=1)
        torch.testing.assert_close(x, point.expand(3, 2), rtol=0, atol=1e-9)


@pytest.mark.sweep(keep=0.3)
@pytest.mark.filterwarnings(
    "ignore:Functional iteration did not converge"
)  # torchdiffeq's own word on implicit_adams
@pytest.mark.parametrize("solver", ALL)
def test_deterministic_under_a_seed_and_in_threads(solver):
    model = mixture(PROCESSES["vp"])
    arguments = {
        "solver": solver,
        "n": 4,
        **({"nfe": 12} if solver in FIXED else {"span": (0.3, None), "rtol": 1e-3, "atol": 1e-3}),
    }

    def run(seed):
        return flowsolve.solve(model, seed=seed, **arguments)

    once = [run(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(run, range(4)))
    for a, b in zip(once, again, strict=True):
        assert torch.equal(a.x, b.x) and a.nfe == b.nfe
    assert not torch.equal(once[0].x, once[1].x)


@pytest.mark.parametrize("solver", FIXED)
def test_float32_follows_float64(solver):
    """Same noise, same numbers: they differ by rounding, amplified by the model's stiffness but not
    by more than 1e3."""
    net = elementwise
    for process in ("vp", "rectified_flow"):
        predicts = "velocity" if process == "rectified_flow" else "eps"
        a, b = (
            flowsolve.sample(
                flowsolve.Denoiser(net, PROCESSES[process], predicts, (5,), dtype=dtype),
                solver=solver,
                nfe=20,
                n=3,
                seed=2,
            )
            for dtype in (torch.float32, F64)
        )
        assert a.dtype == torch.float32 and b.dtype == F64
        torch.testing.assert_close(
            a.double(),
            b,
            rtol=0,
            atol=1e3 * torch.finfo(torch.float32).eps * float(b.abs().max() + 1),
        )


@pytest.mark.sweep(keep=0.3)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("solver", FIXED)
def test_half_precision_networks_keep_a_float32_state(solver, dtype):
    seen = set()

    class Half(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(1, dtype=dtype))
            self.eval()

        def forward(self, x, t):
            seen.add((x.dtype, t.dtype))
            return x * self.w * 0.5

    model = flowsolve.Denoiser(Half(), PROCESSES["discrete"], "eps", (4,))
    solution = flowsolve.solve(model, solver=solver, nfe=9, n=2, seed=0, keep=("path", "x0"))
    assert solution.x.dtype == solution.path.dtype == solution.x0_path.dtype == torch.float32
    assert seen == {(dtype, torch.float32)}


@pytest.mark.parametrize("solver", FIXED)
def test_a_network_may_reuse_or_keep_its_buffers(solver):
    """Returning its input, or the same output buffer every time, changes nothing."""
    buffer = torch.empty(3, 4)
    inputs = []

    def reusing(x, t):
        return torch.mul(torch.sin(3 * x), 0.5, out=buffer)

    def safe(x, t):
        return reusing(x, t).clone()

    def keeping(x, t):
        inputs.append((x, x.clone()))
        return x

    a, b, _ = (
        flowsolve.sample(
            flowsolve.Denoiser(net, PROCESSES["vp"], "eps", (4,)),
            solver=solver,
            nfe=11,
            n=3,
            seed=0,
        )
        for net in (reusing, safe, keeping)
    )
    assert torch.equal(a, b)
    assert inputs and all(torch.equal(x, copy) for x, copy in inputs)


@pytest.mark.parametrize("solver", FIXED)
def test_gradients(solver):
    net = torch.nn.Linear(2, 2, bias=False).double()
    torch.nn.init.constant_(net.weight, 0.5)
    model = flowsolve.Denoiser(Tanh(net), PROCESSES["vp"], "eps", (2,))
    z = torch.randn(50, 2, 2, dtype=F64)

    def loss(start):
        return (
            flowsolve.solve(model, solver=solver, nfe=6, start=start, noise=z, differentiable=True)
            .x.square()
            .sum()
        )

    start = torch.randn(2, 2, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (start,))
    net.zero_grad()
    loss(start).backward()
    assert net.weight.grad is not None and (net.weight.grad.abs() > 0).all()
    assert not flowsolve.solve(model, solver=solver, nfe=6, start=start, noise=z).x.requires_grad


@pytest.mark.parametrize(
    "device",
    [
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
        )
    ],
)
@pytest.mark.parametrize("solver", FIXED)
def test_other_devices_agree_with_the_cpu(solver, device):
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (3, 4))
    a, b = (
        flowsolve.sample(model, solver=solver, nfe=15, n=4, seed=0, device=d)
        for d in ("cpu", device)
    )
    assert b.device.type == device
    torch.testing.assert_close(a, b.cpu(), rtol=0, atol=1e-4)


def test_table():
    table = flowsolve.solver_table()
    text = str(table)
    assert len(text.splitlines()) == len(table) + 1
    names = [name for row in table for name in (row.name, *row.aliases)]
    assert len(set(names)) == len(names)
    assert all(row.source and row.name in text for row in table)


def test_name_with_options_is_the_object():
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (3,))
    arguments = {"nfe": 7, "n": 2, "seed": 0}
    by_name = flowsolve.sample(model, solver="ddim", eta=0.5, **arguments)
    assert torch.equal(
        by_name, flowsolve.sample(model, solver=flowsolve.solvers.DDIM(eta=0.5), **arguments)
    )
    assert torch.equal(
        flowsolve.sample(model, solver="euler", **arguments),
        flowsolve.sample(model, solver="ddim", **arguments),
    )
