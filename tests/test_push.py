"""Runs whose loop is the caller's are solve's runs, to the bit."""

import dataclasses
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from problems import EXAMPLES as KNOWN
from problems import F64, FIXED, MATRIX_SHAPES, PROCESSES, WORKING, elementwise
from torch import Tensor

import flowsolve
from flowsolve import Plan
from flowsolve.plans import Draw, Evaluate

VP = flowsolve.VP()


def network(process, predicts="eps", shape=(2, 3), net=elementwise, **options):
    return flowsolve.Denoiser(net, process, predicts, shape, **options)


def start_of(model, n=3, dtype=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *model.state_shape, generator=generator, dtype=dtype or F64).to(
        dtype or model.state_dtype
    )


def asked(plan):
    return [i.level for i in plan.program if isinstance(i, Evaluate)]


def pushed(plan, model, x, **arguments):
    """The end of a run that is asked from outside, and the run."""
    run = plan.push(model, start=x, **arguments)
    while not run.done:
        run.tell(model.net(run.input, run.time, **model.conditioning))
    return run.x, run


@pytest.mark.sweep(keep=0.2)
@pytest.mark.parametrize("process", ["vp", "discrete", "rectified_flow", "edm"])
@pytest.mark.parametrize("solver", FIXED)
def test_push_is_solve_to_the_bit(solver, process):
    predicts = "velocity" if process == "rectified_flow" else "F" if process == "edm" else "eps"
    model = network(PROCESSES[process], predicts)
    x = start_of(model)
    for nfe in (1, 2, 7, 12):
        plan = flowsolve.plan(solver, model.process, nfe=nfe)
        whole = flowsolve.solve(model, solver=solver, nfe=nfe, start=x, seed=4, first=5)
        end, run = pushed(plan, model, x, seed=4, first=5)
        assert torch.equal(end, whole.x) and run.nfe == whole.nfe
        assert run.seed == (4 if plan.draws else None)
        assert run.level == whole.grid[-1]


@pytest.mark.sweep(keep=0.2)
@pytest.mark.parametrize(("name", "solver"), WORKING)
def test_push_on_matrices(name, solver):
    process = KNOWN[name]
    model = network(process, "x0", MATRIX_SHAPES[name], net=lambda x, t: process.data(x) * 0.5)
    x = start_of(model)
    plan = flowsolve.plan(solver, process, nfe=6)
    end, _ = pushed(plan, model, x, seed=1)
    whole = flowsolve.solve(model, solver=solver, nfe=6, start=x, seed=1)
    assert end.shape == (3, *model.data_shape) and torch.equal(end, whole.x)
    # The data's shape comes from the states.
    run = plan.push("x0", process, start=x, seed=1)
    while not run.done:
        run.tell(model.net(run.input, run.time))
    assert torch.equal(run.x, whole.x)


@pytest.mark.parametrize("dtype", [torch.float32, F64, torch.bfloat16])
def test_dtypes_and_corrections(dtype):
    for correct_x0 in (None, flowsolve.clip()):
        for name in ("vp", "edm"):
            model = network(PROCESSES[name], "eps", dtype=dtype, correct_x0=correct_x0)
            x = start_of(model)
            plan = flowsolve.plan("unipc2", model.process, nfe=6)
            end, _ = pushed(plan, model, x)
            assert torch.equal(end, flowsolve.sample(model, solver=plan, start=x))
            assert plan.push(model, start=x).input.dtype == dtype


def test_what_is_to_be_asked_is_known_before():
    model = network(VP)
    plan = flowsolve.plan("heun", VP, nfe=6)
    run = plan.push(model, start=start_of(model))
    for k, level in enumerate(asked(plan)):
        assert (run.level, run.nfe, run.done) == (level, k, False)
        assert run.time.tolist() == [pytest.approx(level.t)] * 3
        assert f"evaluation {k} of 6" in repr(run)
        assert run.tell(elementwise(run.input, run.time)) is run.x
    x = run.x
    assert run.done and run.level.clean and "done" in repr(run)
    for what in (lambda: run.tell(x), lambda: run.replace(x), lambda: run.time, lambda: run.input):
        with pytest.raises(ValueError, match="the run is at its end, after 6 evaluations"):
            what()


def test_names_stand_for_networks_without_one():
    x = start_of(network(VP))
    plan = flowsolve.plan("dpmpp2m", VP, nfe=5)
    end, _ = pushed(plan, network(VP, "v"), x)
    for predicts in ("v", flowsolve.parametrizations.V()):
        run = plan.push(predicts, VP, start=x)
        while not run.done:
            run.tell(elementwise(run.x, run.time))
        assert torch.equal(run.x, end)


def test_outputs_as_networks_give_them():
    @dataclasses.dataclass
    class Output:
        sample: Tensor

    model = network(VP)
    x = start_of(model)
    plan = flowsolve.plan("ab2", VP, nfe=4)
    end, _ = pushed(plan, model, x)
    for wrap in (lambda out: (out,), Output):
        run = plan.push(model, start=x)
        while not run.done:
            run.tell(wrap(elementwise(run.x, run.time)))
        assert torch.equal(run.x, end)
        wrapped = network(VP, net=lambda x, t, wrap=wrap: wrap(elementwise(x, t)))
        assert torch.equal(flowsolve.sample(wrapped, solver=plan, start=x), end)
    run = plan.push(model, start=x)
    for wrong, error in ((None, TypeError), ((x, x), TypeError), (x[:1], ValueError)):
        with pytest.raises(error, match="the network returned"):
            run.tell(wrong)
    assert run.nfe == 0


@pytest.mark.parametrize("name", ["vp", "blurring"])
def test_what_is_lent_may_be_written_to(name):
    """The state, what the network is given, and the caller's start."""
    process = KNOWN[name]
    model = network(process, "eps", MATRIX_SHAPES.get(name, (2, 3)))
    x = start_of(model)
    kept, plan = x.clone(), flowsolve.plan("ddim", process, nfe=4)
    end = flowsolve.sample(model, solver=plan, start=x)
    run = plan.push(model, start=x)
    while not run.done:
        out = elementwise(run.x, run.time)
        run.input.zero_()
        run.x.zero_()
        run.tell(out)
        out.zero_()
    assert torch.equal(x, kept) and torch.equal(run.x, end)


@pytest.mark.parametrize("name", ["vp", "blurring"])
@pytest.mark.parametrize("solver", ["ddim", "dpmpp2m", "ab3"])
def test_replace_puts_another_state_in_its_place(solver, name):
    """A state that is put in its own place changes nothing; replacing the start is starting there;
    known parts are put back at every evaluation (inpainting)."""
    process = KNOWN[name]
    if name == "blurring" and solver == "ab3":
        solver = "etd3"
    model = network(process, "x0", MATRIX_SHAPES.get(name, (2, 3)), dtype=F64)
    x, other = start_of(model), start_of(model, seed=1)
    plan = flowsolve.plan(solver, process, nfe=5)
    end = flowsolve.sample(model, solver=plan, start=x)
    run = plan.push(model, start=other)
    run.replace(x)
    while not run.done:
        run.replace(run.x)
        run.tell(elementwise(run.input, run.time))
    torch.testing.assert_close(run.x, end, rtol=0, atol=1e-12)
    run = plan.push(model, start=x)
    for wrong in (x[:1], x.to("meta")):
        with pytest.raises(ValueError, match=r"x has shape .* expected the state's"):
            run.replace(wrong)
    for other in ([x], None, x.int(), x.to(torch.complex64)):
        with pytest.raises(TypeError, match=r"x is .*; expected a floating-point tensor"):
            run.replace(other)  # type: ignore[arg-type]
    z, data = start_of(model, seed=2), torch.ones(3, *model.data_shape, dtype=F64)
    known = torch.zeros(model.state_shape, dtype=torch.bool)
    known[..., 0] = True
    seen = []
    while not run.done:
        level = run.level
        run.replace(torch.where(known, level.A @ data + level.R @ z, run.x))
        seen.append(run.x)
        run.tell(elementwise(run.input, run.time))
        level = run.level
    assert all((a[..., 0] != b[..., 0]).all() for a, b in pairwise(seen))


def test_replacing_in_ddim_is_another_run_from_there():
    """DDIM has no past, so the end is that of a run from the new state."""
    model = network(VP)
    times = [0.9, 0.5, 0.2, 0.0]
    plan, new = flowsolve.plan("ddim", VP, grid=times), start_of(model, seed=3)
    run = plan.push(model, start=start_of(model))
    run.tell(elementwise(run.x, run.time))
    run.replace(new)
    while not run.done:
        run.tell(elementwise(run.x, run.time))
    assert torch.equal(run.x, flowsolve.sample(model, solver="ddim", grid=times[1:], start=new))


def test_own_noise_and_seeds():
    model = network(VP)
    x = start_of(model)
    plan = flowsolve.plan("ddpm", VP, nfe=4)
    zs = [start_of(model, seed=k) for k in range(plan.draws)]
    end, run = pushed(plan, model, x, noise=zs)
    assert run.seed is None
    assert torch.equal(end, flowsolve.sample(model, solver=plan, start=x, noise=zs))
    end, run = pushed(plan, model, x)
    assert torch.equal(end, flowsolve.sample(model, solver=plan, start=x, seed=run.seed))
    with pytest.raises(ValueError, match="noise has no draw"):
        pushed(plan, model, x, noise=[])


def test_learned_variances():
    def net(x, t):
        out = elementwise(x, t)
        return torch.cat([out, torch.sin(out)], 1)

    model = network(VP, net=net, variance="learned_range")
    x = start_of(model)
    for solver in ("ddpm", "dpmpp2m"):
        plan = flowsolve.plan(solver, VP, nfe=6)
        whole = flowsolve.sample(model, solver=plan, start=x, seed=1)
        assert torch.equal(pushed(plan, model, x, seed=1)[0], whole)
        half = flowsolve.solve(model, solver=plan, start=x, seed=1, callback=lambda s: s.step == 2)
        assert torch.equal(flowsolve.sample(model, start=half), whole)
    assert not torch.equal(whole, flowsolve.sample(network(VP), solver="ddpm", start=x, seed=1))


def test_refusals():
    model, plan = network(VP), flowsolve.plan("ddim", VP, nfe=4)
    x = start_of(model)
    with pytest.raises(ValueError, match="made for another process"):
        plan.push(network(flowsolve.EDM()), start=x)
    with pytest.raises(ValueError, match="start has shape"):
        plan.push(model, start=x[0])
    for wrong in (None, 5, lambda x, t: x):
        with pytest.raises(TypeError, match=r"model=.*: expected a flowsolve\.Denoiser"):
            plan.push(wrong, VP, start=x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="process=None"):
        plan.push("eps", start=x)
    with pytest.raises(ValueError, match=r"process=.* beside a Denoiser"):
        plan.push(model, VP, start=x)
    with pytest.raises(ValueError, match=r"predicts='epz'.*'eps'"):
        plan.push("epz", VP, start=x)
    with pytest.raises(TypeError, match="start is"):
        plan.push("eps", VP, start=[1.0])  # type: ignore[arg-type]


def test_what_is_not_finite_is_not_given_back():
    model, plan = network(VP), flowsolve.plan("dpmpp2m", VP, nfe=6)
    x = start_of(model)
    for broken in range(6):
        run = plan.push(model, start=x)
        while run.nfe < 5:
            run.tell(torch.full_like(x, torch.nan) if run.nfe == broken else run.input)
        with pytest.raises(flowsolve.NonFiniteError, match=f"evaluation {broken + 1}") as caught:
            run.tell(torch.full_like(x, torch.nan) if broken == 5 else run.input)
        assert caught.value.samples == [0, 1, 2] and caught.value.level == asked(plan)[broken]
    run = plan.push(model, start=x)
    with pytest.raises(flowsolve.NonFiniteError, match="the state overflowed"):
        while not run.done:
            run.replace(torch.full_like(x, torch.inf))
            run.tell(torch.ones_like(x))


def test_threads_share_a_plan():
    model, plan = network(VP), flowsolve.plan("dpmpp2m_sde", VP, nfe=12)
    starts = [start_of(model, seed=k) for k in range(8)]

    def run(k):
        return pushed(plan, model, starts[k], seed=k)[0]

    serial = [run(k) for k in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert all(map(torch.equal, serial, pool.map(run, range(8))))


@pytest.mark.sweep(keep=0.2)
@pytest.mark.parametrize("process", ["vp", "rectified_flow"])
@pytest.mark.parametrize("solver", FIXED)
def test_rest_asks_where_the_plan_would(solver, process):
    """From each evaluation on: so many, on the same levels; the run is finite, and for data of one
    point exact."""
    process = PROCESSES[process]
    point = torch.tensor([0.3, -1.2], dtype=F64)
    model = flowsolve.exact.Dirac(process, point)
    plan = flowsolve.plan(solver, process, nfe=11)
    for k in range(plan.nfe):
        rest = plan.rest(k)
        assert asked(rest) == asked(plan)[k:] and rest.levels[-1].clean
        begin = rest.levels[0]
        x = begin.A @ point.expand(3, 2) + begin.R @ start_of(model)
        end = flowsolve.sample(model, solver=rest, start=x, seed=0)
        torch.testing.assert_close(end, point.expand(3, 2), rtol=0, atol=1e-9)
    assert plan.rest(0) == plan


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "heun", "rk4", "dpmpp2s", "edm", "unipc2"])
def test_rest_at_the_beginning_of_a_step(solver):
    """It is the plan of the grid that is left, but for the budget's own fillers."""
    times = [0.9, 0.7, 0.4, 0.2, 0.05, 0.0]
    if solver == "edm":
        times = times[:-1]
    plan = flowsolve.plan(solver, VP, grid=times)
    each = flowsolve.plan(solver, VP, grid=times[:2]).nfe
    for j in range(len(times) - 1):
        if solver == "edm":  # its γ goes by the number of steps
            assert plan.rest(each * j).levels == plan.levels[j:]
        else:
            assert plan.rest(each * j) == flowsolve.plan(solver, VP, grid=times[j:])


def test_rest_of_numbers_alone(tmp_path):
    """A plan that was loaded or unpickled has its rest where that goes on with nothing but the
    state."""
    for solver in ("ddim", "ddpm", "heun"):
        plan = flowsolve.plan(solver, VP, grid=[0.9, 0.7, 0.4, 0.2, 0.0])
        plan.save(tmp_path / "plan.json")
        each = 2 if solver == "heun" else 1
        for bare in (Plan.load(tmp_path / "plan.json"), pickle.loads(pickle.dumps(plan))):
            for k in range(0, 4 * each, each):
                rest = bare.rest(k)
                assert rest == plan.rest(k)
                draws = [i.number for i in rest.program if isinstance(i, Draw)]
                assert draws == list(range(rest.draws))
    bare = pickle.loads(pickle.dumps(flowsolve.plan("ab2", VP, nfe=6)))
    assert bare.rest(0) == bare
    with pytest.raises(ValueError, match=r"k=3.*make it again with flowsolve\.plan"):
        bare.rest(3)
    with pytest.raises(ValueError, match="k=1"):  # in the middle of a step
        pickle.loads(pickle.dumps(flowsolve.plan("heun", VP, nfe=6))).rest(1)
    for k in (-1, 6):
        with pytest.raises(ValueError, match=rf"k={k}: expected an integer"):
            bare.rest(k)
    with pytest.raises(ValueError, match=r"path=.*: a folder"):
        Plan.load(tmp_path)


def test_img2img():
    """From noised data: the rest of DPM++ 2M brings back a Gaussian's data, the better the less
    noise there was."""
    model = flowsolve.exact.Gaussian(VP, torch.zeros(3), 0.3)
    plan, x0 = flowsolve.plan("dpmpp2m", VP, nfe=20, grid="logsnr"), model.draw(64, seed=0)
    far = []
    for k in (4, 10, 16):
        rest = plan.rest(k)
        level = rest.levels[0]
        x = level.A @ x0 + level.R @ start_of(model, n=64)
        end = flowsolve.solve(model, solver=rest, start=x)
        assert end.nfe == 20 - k
        far.append(float((end.x - x0).square().mean().sqrt()))
    assert far[0] > far[1] > far[2] and math.isfinite(far[0])
