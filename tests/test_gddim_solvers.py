"""The whole zoo on processes whose A and R are matrices: it works there, or says why not.

Orders are measured as in tests/test_orders.py, on equal steps in t, from noise to the times where the data begin to show.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from problems import (
    ALL,
    DETERMINISTIC,
    F64,
    FIXED,
    MATRIX_PROCESSES,
    MATRIX_SHAPES,
    MATRIX_SPANS,
    STOCHASTIC,
    elementwise,
    marginal_covariance,
    matrix_data,
    matrix_mixture,
    matrix_run,
    rms,
    run_covariance,
)
from scipy.fft import dctn, idctn

import flowsolve
from flowsolve import exact
from flowsolve.coordinates import DATA
from flowsolve.processes import CLD, TIME, Blurring
from flowsolve.solvers import DDIM, Ancestral, Multistep, ReverseSDE

matrices = pytest.mark.parametrize("name", MATRIX_PROCESSES)

#: What is refused, and a part of the reason that is given.
VELOCITY = dict.fromkeys(
    ("flow_euler", "flow_heun", "flow_midpoint", "vpc2", "vpc3"), "VELOCITY coordinates, where A [+] R must have an inverse"
)
SIGMA = ("er_sde1", "er_sde2", "er_sde3", "edm", "restart", "adaptive")
ANYWHERE = dict.fromkeys(SIGMA, "made of noise levels σ̄ = R/A that are numbers") | {
    "ddpm_large": "there is a posterior, eta=1, but no fraction of its noise",
    "dpm2_a": "noise goes with polynomials of x̂0; use an inner solver in DATA",
}
REFUSED = {"cld": VELOCITY | ANYWHERE, "blurring": ANYWHERE}

WORKING = [(name, solver) for name in MATRIX_PROCESSES for solver in FIXED if solver not in REFUSED[name]]
working = pytest.mark.parametrize(("name", "solver"), WORKING)
noisy = pytest.mark.parametrize(("name", "solver"), [(name, solver) for name, solver in WORKING if solver in STOCHASTIC])
SOLVERS = {row.name: row.solver for row in flowsolve.solvers()}


def network(name, net=elementwise, predicts="eps", **options):
    return flowsolve.Denoiser(net, MATRIX_PROCESSES[name], predicts, MATRIX_SHAPES[name], **options)


# What is refused.


@matrices
@pytest.mark.parametrize("solver", ALL)
def test_refused_with_the_reason_or_not_at_all(solver, name):
    arguments = {"solver": solver, "n": 2, "seed": 0, "nfe": 400 if ":" in solver else 8}
    if solver not in REFUSED[name]:
        if solver in FIXED:
            assert flowsolve.sample(network(name), **arguments).isfinite().all()
        return
    for call in (flowsolve.sample, flowsolve.solve):
        with pytest.raises(ValueError, match=REFUSED[name][solver]):
            call(network(name), **arguments)
    with pytest.raises(ValueError, match=REFUSED[name][solver] if SOLVERS[solver].fixed else "has no plan"):
        flowsolve.plan(solver, MATRIX_PROCESSES[name], nfe=8)


@matrices
@pytest.mark.parametrize("grid", flowsolve.grids.GRIDS)
def test_grids_in_sigma_are_refused(grid, name):
    if grid in ("karras", "logsnr", "exponential", "sigma", "shifted", "logistic"):
        with pytest.raises(ValueError, match=r"is no number where A and R are matrices.*use 'quadratic'"):
            flowsolve.sample(network(name), nfe=5, grid=grid)
    else:
        solution = flowsolve.solve(network(name), solver="ab2", nfe=9, grid=grid, n=2, seed=0)
        assert solution.nfe == 9 and solution.x.isfinite().all() and solution.grid[-1].clean


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CLD(beta=-1.0), "beta=-1.0: expected a number >= 0"),
        (lambda: CLD(inverse_mass=0.0), "inverse_mass=0: expected a positive number"),
        (lambda: CLD(gamma=math.nan), "gamma=nan: expected a number >= 0"),
        (lambda: CLD(c0=math.inf), "c0=inf"),
        (lambda: CLD(beta=True), "beta=True"),
        (lambda: CLD(gamma=0.0, c0=0.0), "gamma=0 and c0=0: expected one of them positive"),
        (lambda: Blurring(0), r"size=0: expected the height and width"),
        (lambda: Blurring((4, -1)), r"size=\(4, -1\)"),
        (lambda: Blurring((4, 4, 3)), r"size=\(4, 4, 3\)"),
        (lambda: Blurring(8.0), r"size=8.0"),
        (lambda: Blurring(True), "size=True"),
        (lambda: Blurring(4, sigma_max=-1.0), "sigma_max=-1.0"),
        (lambda: Blurring(4, sigma_max=math.nan), "sigma_max=nan"),
        (lambda: Blurring(4, t_max=1.5), "t_max=1.5"),
        (lambda: CLD().level(1.5), "t=1.5"),
        (lambda: CLD().level(-0.5), "t=-0.5: expected 0 <= t <= 1, or -inf for clean data"),
        (lambda: Blurring(4).level(0.999), "t=0.999"),
        (lambda: CLD().level(math.nan), "t=nan"),
        (lambda: CLD().at("sigma", 1.0), "have no sigma"),
        (lambda: Blurring(4).at("lambda", 1.0), "have no sigma"),
        (lambda: CLD().rates(CLD().level(0.0)), "dR/dt is infinite"),
        *(
            (lambda p=p: flowsolve.Denoiser(elementwise, CLD(), p, (2,)), f"predicts='{p}'.*matrices")
            for p in ("v", "velocity", "score", "F")
        ),
        (lambda: flowsolve.Denoiser(elementwise, Blurring(4), "eps", (3, 4, 5)), r"shape=\(3, 4, 5\).*expected \(channels, 4, 4\)"),
        (lambda: flowsolve.Denoiser(elementwise, Blurring(4), "eps", (4,)), r"shape=\(4,\)"),
        (lambda: flowsolve.sample(network("cld"), start=torch.zeros(3, 2)), r"start has shape \(3, 2\); expected \(n, 4\)"),
        (
            lambda: flowsolve.sample(network("cld", lambda x, t: x[:, :2])),
            r"shape \(1, 2\) for a state of shape \(1, 4\).*shape of the data",
        ),
        (lambda: flowsolve.encode(network("cld"), torch.zeros(3, 4)), r"x has shape \(3, 4\); expected \(n, 2\)"),
        (lambda: flowsolve.sample(network("cld"), solver="ddim", eta=0.5), "eta=0.5.*use solver='gddim' with lam"),
        (lambda: flowsolve.sample(network("cld"), solver="gddim", lam=lambda sigma: 1.0), "a function of σ̄ needs levels that have one"),
        (lambda: flowsolve.sample(network("cld"), solver="gddim", lam=-1.0), "lam=-1.0"),
        (lambda: flowsolve.sample(network("cld"), solver="dpmpp2s_a", eta=0.5), "eta=0.5.*use ReverseSDE"),
        (lambda: flowsolve.sample(network("cld"), solver=ReverseSDE(Multistep(3))), "polynomials of x̂0; use an inner solver in DATA"),
        (lambda: flowsolve.sample(network("cld"), solver="DPM++ 2M Karras"), "grid=.*Karras"),
        (lambda: flowsolve.encode(network("cld"), torch.zeros(3, 2), solver="gddim"), "on the way down only"),
    ],
)
def test_misuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# What works.


@working
def test_budget_is_kept_and_used(name, solver):
    seen = []
    model = network(name, lambda x, t: seen.append((float(t[0]), x.clone())) or elementwise(x, t), dtype=F64)
    for nfe in (1, 2, 3, 4, 5, 6, 7, 10, 41):
        seen.clear()
        solution = flowsolve.solve(model, solver=solver, nfe=nfe, n=1, seed=0)
        assert len(seen) == solution.nfe == nfe and solution.x.isfinite().all()
        assert solution.grid[-1].clean and solution.x.shape == (1, *MATRIX_SHAPES[name]) and solution.x.dtype == F64
        assert all(math.isfinite(t) and x.isfinite().all() for t, x in seen)
        keys = [(t, x.numpy().tobytes()) for t, x in seen]
        assert len(set(keys)) == len(keys), "asked twice at one point"


@working
def test_one_point_is_the_answer(name, solver):
    """From the noisiest level to clean data: to rounding amplified by Ψ, 1e5 on CLD and 8e4 on blurring, or less."""
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
        again = list(pool.map(lambda seed: flowsolve.sample(model, seed=seed, **arguments), range(4)))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True)) and not torch.equal(once[0], once[1])


@working
def test_batch_split_changes_nothing(name, solver):
    arguments = {"solver": solver, "nfe": 7, "n": 5, "seed": 3}
    whole = flowsolve.sample(network(name), **arguments)
    assert all(torch.equal(whole, flowsolve.sample(network(name), batch_size=size, **arguments)) for size in (1, 2))


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
    """Its answers are rounded, to 6e-8; a run amplifies that by the model's stiffness but not by more than 1e3, as on numbers."""
    a, b = (flowsolve.solve(matrix_data(name, d), solver=solver, nfe=20, n=3, seed=2) for d in (torch.float32, F64))
    assert a.x.dtype == b.x.dtype == F64
    torch.testing.assert_close(a.x, b.x, rtol=0, atol=1e3 * torch.finfo(torch.float32).eps * float(b.x.abs().max() + 1))
    for dtype, time in ((torch.float32, torch.float32), (F64, F64), (torch.bfloat16, torch.float32)):
        seen, model = set(), matrix_data(name, dtype)
        spy = replace(model, net=lambda x, t, seen=seen, model=model: seen.add((x.dtype, t.dtype)) or model.net(x, t))
        assert flowsolve.sample(spy, solver=solver, nfe=5, n=2, seed=0).dtype == F64 and seen == {(dtype, time)}


@working
def test_what_a_network_predicts_makes_no_difference(name, solver):
    """ε of the whole state, or the data alone: the same samples, up to rounding times Ψ and stiffness, 1e5 and 1e3."""
    a, b = (flowsolve.sample(m, solver=solver, nfe=9, n=4, seed=0) for m in (matrix_mixture(name), matrix_data(name)))
    torch.testing.assert_close(a, b, rtol=0, atol=1e8 * torch.finfo(F64).eps * float(1 + a.abs().max()))


@working
def test_gradients(name, solver):
    model = matrix_data(name)
    z = torch.randn(30, 1, *model.state_shape, dtype=F64, generator=torch.Generator().manual_seed(0))

    def end(start):
        # Not from all noise: a difference of two runs would lose its digits to Ψ.
        return flowsolve.solve(model, solver=solver, nfe=4, span=(0.5, None), start=start, noise=z, differentiable=True).x

    assert torch.autograd.gradcheck(end, (z[0].clone().requires_grad_(True),))


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))])
@working
def test_other_devices_agree_with_the_cpu(name, solver, device):
    a, b = (flowsolve.sample(network(name), solver=solver, nfe=12, n=3, seed=0, device=d) for d in ("cpu", device))
    assert b.device.type == device and b.dtype == F64
    torch.testing.assert_close(a, b.cpu(), rtol=0, atol=1e-6 * float(1 + a.abs().max()))


@matrices
def test_auto(name):
    arguments = {"nfe": 6, "n": 2, "seed": 0}
    assert torch.equal(flowsolve.sample(network(name), **arguments), flowsolve.sample(network(name), solver="unipc3", **arguments))


@matrices
def test_what_is_watched_is_what_is_computed(name):
    """Looking at states, which on blurring diffusion are computed as spectra, changes no bit; x̂0 kept is that of the states kept."""
    for model in (matrix_data(name, torch.float32), matrix_mixture(name)):
        arguments, seen = {"solver": "etd3", "nfe": 6, "n": 3, "seed": 0}, []
        plain = flowsolve.sample(model, **arguments)
        run = flowsolve.solve(model, keep=("path", "x0"), callback=lambda state, seen=seen: seen.append(state.x) or False, **arguments)
        assert torch.equal(run.x, plain) and torch.equal(run.path[1:], torch.stack(seen))
        for x, level, x0 in zip(run.path, run.grid, run.x0_path, strict=False):
            torch.testing.assert_close(model(x, level).x0, x0, rtol=0, atol=3e-6 * float(1 + x0.abs().max()))


@pytest.mark.parametrize("shape", [(1, 8, 8), (7, 5)])
def test_ddim_on_blurring_is_its_formula(shape):
    """A step written out on spectra, with scipy's transform and a network that is told nothing of the process."""
    process = Blurring(shape[-2:])
    model = flowsolve.Denoiser(lambda x, t: 0.5 * torch.tanh(x), process, "x0", shape)
    run = flowsolve.solve(model, solver="ddim", nfe=12, n=2, seed=0, keep="path")
    y = dctn(run.path[0].numpy(), axes=(-2, -1), norm="ortho")
    for s, t in zip(run.grid[:-2], run.grid[1:-1], strict=True):
        x0 = dctn(0.5 * np.tanh(idctn(y, axes=(-2, -1), norm="ortho")), axes=(-2, -1), norm="ortho")
        y = t.A.value * x0 + t.R.value / s.R.value * (y - s.A.value * x0)
    np.testing.assert_allclose(run.path[-2].numpy(), idctn(y, axes=(-2, -1), norm="ortho"), rtol=0, atol=1e-12)


# Orders of convergence.

BUDGETS = (80, 160)
#: These come to their order later.
LATE = {"gradient_estimation": (160, 320), "unipc3": (160, 320)}


def started(solver):
    """Options that have a Runge-Kutta method of one order less make the start, where a multistep method would warm up."""
    rule = SOLVERS[solver]
    return {"start_steps": rule.points - 1} if isinstance(rule, Multistep) and rule.starter and rule.start_steps is None else {}


@cache
def errors(name, nfe, with_start):
    """Of every row, the error at the end: one after another, since they share the levels of their quadrature."""
    model, start, end = matrix_run(name, *MATRIX_SPANS[name])
    run = {"nfe": nfe, "grid": "uniform", "span": MATRIX_SPANS[name], "start": start}
    rows = [s for n, s in WORKING if n == name and s in DETERMINISTIC and nfe in LATE.get(s, BUDGETS) and (not with_start or started(s))]
    return {s: rms(flowsolve.solve(model, solver=s, **run, **(started(s) if with_start else {})).x - end) for s in rows}


def slope(name, solver, with_start=False):
    coarse, fine = (errors(name, nfe, with_start)[solver] for nfe in LATE.get(solver, BUDGETS))
    return math.log2(coarse / fine)


def limit(solver):
    """The order that the first step leaves: Euler's has a local error of order two, corrected or Heun's three."""
    rule = SOLVERS[solver]
    if not isinstance(rule, Multistep) or solver == "pndm":
        return rule.order
    return min(rule.order, 2 + (rule.corrector or solver == "plms"))


@working
def test_order(name, solver):
    if solver not in DETERMINISTIC:
        return
    order = SOLVERS[solver].order if name == "cld" and solver != "plms" else limit(solver)
    assert slope(name, solver) > order - (0.25 if name == "cld" else 0.3)


@pytest.mark.parametrize(("name", "solver"), [(name, solver) for name, solver in WORKING if started(solver)])
def test_order_after_a_runge_kutta_start(name, solver):
    order = SOLVERS[solver].order
    assert slope(name, solver, True) > order - (0.25 if name == "cld" else 0.3)


# Noise.


@noisy
def test_weak_order(name, solver):
    """The covariance after a run on Gaussian data, through the run's linear map: no sampling, no statistical error."""
    process, shape = MATRIX_PROCESSES[name], (1,) if name == "cld" else MATRIX_SHAPES[name]
    slow = solver in ("pc", "euler_maruyama")  # the noise of the one shrinks with short steps only, the other is crude
    if slow:
        process = CLD() if name == "cld" else Blurring(1)
        shape = (1,) if name == "cld" else (1, 1)
    found = []
    for n in (200, 400) if slow else (24, 48):
        got = run_covariance(process, shape, 0.25, solver, np.linspace(*MATRIX_SPANS[name], n + 1).tolist())
        exactly = marginal_covariance(process, shape, 0.25, MATRIX_SPANS[name][1])
        found.append(float((got - exactly).abs().max() / exactly.abs().max()))
    assert math.log2(found[0] / found[1]) > 0.8 and found[1] < (0.2 if solver == "euler_maruyama" else 0.03)


@pytest.mark.parametrize("lam", [0.5, 1.0, 1.7])
@matrices
def test_weak_order_of_gddim(name, lam):
    """One, as with λ = 1; λ above it errs more and comes to its order later."""
    process, shape, found = MATRIX_PROCESSES[name], (1,) if name == "cld" else MATRIX_SHAPES[name], []
    for n in (96, 192):
        got = run_covariance(process, shape, 0.25, "gddim", np.linspace(*MATRIX_SPANS[name], n + 1).tolist(), lam=lam)
        exactly = marginal_covariance(process, shape, 0.25, MATRIX_SPANS[name][1])
        found.append(float((got - exactly).abs().max() / exactly.abs().max()))
    assert math.log2(found[0] / found[1]) == pytest.approx(1.0, abs=0.2)


@noisy
def test_law_for_one_point_is_exact(name, solver):
    """x̂0 is right whenever it is asked, so its polynomials are, and so is every step's law; but for Euler's, who holds more."""
    if solver == "euler_maruyama":
        return
    process, shape = MATRIX_PROCESSES[name], MATRIX_SHAPES[name]
    times = [process.t_max, 0.7, 0.4, 0.2, 0.05]
    got, exactly = run_covariance(process, shape, 0.0, solver, times), marginal_covariance(process, shape, 0.0, times[-1])
    torch.testing.assert_close(got, exactly, rtol=0, atol=1e-9 * float(exactly.abs().max()))


@matrices
@pytest.mark.parametrize(
    ("solver", "options", "partner"),
    [
        ("gddim", {"lam": 0.0}, "ddim"),
        ("ddpm", {"eta": 0.0}, "ddim"),
        ("sa", {"lam": 0.0}, Multistep(3, DATA, TIME, corrector=True)),
        ("dpmpp2m_sde", {"lam": 0.0}, "etd2"),
        ("dpmpp3m_sde", {"lam": 0.0}, Multistep(3, DATA, TIME)),
        ("dpmpp2s_a", {"eta": 0.0}, "dpmpp2s"),
        ("dpmpp_sde", {"lam": 0.0}, "dpmpp2s"),
        ("pc", {"snr": 0.0}, "ddim"),
        (Ancestral(DDIM()), {}, "ddpm"),
        ("gddim", {}, "ddpm"),
    ],
)
def test_partners(name, solver, options, partner):
    """Without noise a solver is its inner one; gDDIM with λ = 1 is DDPM."""
    for nfe in (5, 8):
        process = MATRIX_PROCESSES[name]
        assert flowsolve.plan(solver, process, nfe=nfe, **options) == flowsolve.plan(partner, process, nfe=nfe)
        assert flowsolve.plan(solver, process, nfe=nfe) != flowsolve.plan("ddim", process, nfe=nfe)


# Bridges, and the way up.


@matrices
@pytest.mark.parametrize("solver", [name for name in ALL if ":" in name])
def test_bridges_end_where_our_solvers_do(name, solver):
    """Fixed steps within their order's error at 400 evaluations, adaptive ones within a thousand times their tolerance."""
    model, start, end = matrix_run(name, *MATRIX_SPANS[name])
    arguments = {"span": MATRIX_SPANS[name], "start": start}
    ours = flowsolve.solve(model, solver="etd4", nfe=160, grid="uniform", **arguments).x
    assert rms(ours - end) < 1e-4
    rule = SOLVERS[solver]
    options = {"nfe": 400, "grid": "uniform"} if rule.evaluations else {"rtol": 1e-6, "atol": 1e-7, "nfe": 5000}
    if "adams" in solver:  # of order twelve: the explicit one is stable on a CLD with very short steps only
        options |= {"substeps": 2000 if (name, rule.method) == ("cld", "explicit_adams") else 200}
    solution = flowsolve.solve(model, solver=solver, **options, **arguments)
    room = {1: 0.1, 2: 2e-3, 3: 1e-4, 4: 1e-4}[rule.order] if rule.evaluations else 1e-3
    assert rms(solution.x - ours) < room and rms(solution.x - end) < room


@matrices
def test_bridges_from_the_noisiest_level_to_clean_data(name):
    model = matrix_mixture(name)
    arguments = {"n": 3, "seed": 0}
    end = flowsolve.sample(model, solver="scipy:DOP853", rtol=1e-9, atol=1e-11, **arguments)
    assert end.shape == (3, *MATRIX_SHAPES[name])
    for solver, options in (("dopri5", {"rtol": 1e-7, "atol": 1e-9}), ("etd3", {"nfe": 300})):
        assert rms(flowsolve.sample(model, solver=solver, **options, **arguments) - end) < 0.02


@matrices
@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("heun", 2), ("dpmpp2s", 2), ("unipc2", 3), ("res3s", 3), ("rk4", 4)])
def test_encode_and_decode(name, solver, order):
    """Up and down again: what is lost falls with the step at the solver's order or better, and little is lost of a whole run."""
    model, lost = matrix_mixture(name), []
    x = model.draw(8)
    for nfe in (192, 384):
        arguments = {"solver": solver, "nfe": nfe, "grid": "uniform", "span": MATRIX_SPANS[name]}
        z = flowsolve.encode(model, x, **arguments)
        assert z.shape == (8, *model.state_shape)
        lost.append(rms(model.process.data(flowsolve.solve(model, start=z, **arguments).x) - x))
    assert math.log2(lost[0] / lost[1]) > order - 0.35
    z = flowsolve.encode(model, x, solver=solver, nfe=96)
    assert rms(flowsolve.sample(model, solver=solver, nfe=96, start=z) - x) < 0.1
