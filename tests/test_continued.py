"""A run that was stopped and gone on with is the whole run, to the bit."""

import copy
import dataclasses
import pickle
from typing import Any

import pytest
import torch
from problems import EXAMPLES as KNOWN
from problems import F64, FIXED, MATRIX_SHAPES, PROCESSES, STOCHASTIC, WORKING, elementwise
from torch import Tensor

import flowsolve

VP = flowsolve.VP()


def network(process, predicts="eps", shape=(2, 3), **options):
    return flowsolve.Denoiser(elementwise, process, predicts, shape, **options)


def same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is not None and b is not None and torch.equal(a, b)


def joined(a: Tensor | None, b: Tensor | None) -> Tensor:
    assert a is not None and b is not None
    return torch.cat([a, b])


def after(step):
    return lambda state: state.step == step


@pytest.mark.sweep(keep=0.2)
@pytest.mark.parametrize("process", ["vp", "discrete", "rectified_flow"])
@pytest.mark.parametrize("solver", FIXED)
def test_the_halves_are_the_whole(solver, process):
    model = network(PROCESSES[process], "velocity" if process == "rectified_flow" else "eps")
    arguments: dict[str, Any] = {"solver": solver, "nfe": 12}
    whole = flowsolve.solve(model, n=3, seed=4, first=2, keep=("path", "x0"), **arguments)
    for step in range(1, len(whole.grid) - 1):
        half = flowsolve.solve(
            model, n=3, seed=4, first=2, keep=("path", "x0"), callback=after(step), **arguments
        )
        assert half.stopped and half.rest is not None
        rest = flowsolve.solve(model, start=half, keep=("path", "x0"))
        assert torch.equal(rest.x, whole.x) and not rest.stopped and rest.rest is None
        assert half.nfe + rest.nfe == whole.nfe
        assert half.grid + rest.grid[1:] == whole.grid and rest.grid[0] == half.grid[-1]
        assert rest.path is not None and same(joined(half.path, rest.path[1:]), whole.path)
        assert same(joined(half.x0_path, rest.x0_path), whole.x0_path)
        if solver in STOCHASTIC:
            assert half.seed == 4


@pytest.mark.sweep(keep=0.2)
@pytest.mark.parametrize(("name", "solver"), WORKING)
def test_where_a_and_r_are_matrices(name, solver):
    model = network(KNOWN[name], "eps", MATRIX_SHAPES[name])
    whole = flowsolve.solve(model, solver=solver, nfe=8, n=3, seed=1)
    for step in range(1, len(whole.grid) - 1, 2):
        half = flowsolve.solve(model, solver=solver, nfe=8, n=3, seed=1, callback=after(step))
        assert torch.equal(flowsolve.sample(model, start=half), whole.x)


@pytest.mark.parametrize("solver", ["dpmpp2m", "unipc3", "ab3", "dpmpp2m_sde", "rk4"])
def test_stopped_often_pickled_and_gone_on_with_twice(solver):
    model = network(VP)
    whole = flowsolve.sample(model, solver=solver, nfe=16, n=2, seed=0)
    part = flowsolve.solve(model, solver=solver, nfe=16, n=2, seed=0, callback=after(1))
    while part.stopped:
        again = pickle.loads(pickle.dumps(part))
        assert again.rest is not None and torch.equal(again.x, part.x) and again.grid == part.grid
        once, twice = (flowsolve.sample(model, start=s) for s in (part, again))
        assert torch.equal(once, whole) and torch.equal(twice, whole)
        part = flowsolve.solve(model, start=part, callback=after(1))
    assert torch.equal(part.x, whole)


def test_other_seeds_and_own_noise_from_the_middle():
    model = network(VP)
    zs = [torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(k)) for k in range(9)]
    whole = flowsolve.sample(model, solver="ddpm", nfe=6, n=2, seed=0, noise=zs)
    half = flowsolve.solve(model, solver="ddpm", nfe=6, n=2, seed=0, noise=zs, callback=after(3))
    assert torch.equal(flowsolve.sample(model, start=half, noise=zs), whole)
    ends = [flowsolve.sample(model, start=half, seed=seed) for seed in (1, 2, 1)]
    assert torch.equal(ends[0], ends[2]) and not torch.equal(ends[0], ends[1])


@pytest.mark.parametrize("name", ["vp", "blurring"])
def test_a_changed_state_is_where_it_goes_on(name):
    """As ``replace`` of a run asked from outside."""
    model = network(KNOWN[name], "eps", MATRIX_SHAPES.get(name, (2, 3)))
    solver = "dpmpp2m" if name == "vp" else "etd2"
    plan = flowsolve.plan(solver, model.process, nfe=7)
    start = torch.randn(2, *model.state_shape, dtype=F64)
    half = flowsolve.solve(model, solver=plan, start=start, callback=after(3))
    other = torch.randn(2, *model.state_shape, dtype=F64)
    run = plan.push(model, start=start)
    while not run.done:
        if run.nfe == 3:
            run.replace(other)
        run.tell(elementwise(run.input, run.time))
    changed = flowsolve.sample(model, start=dataclasses.replace(half, x=other))
    assert torch.equal(changed, run.x)
    unchanged = flowsolve.sample(model, start=half)
    assert torch.equal(unchanged, flowsolve.sample(model, solver=plan, start=start))
    half.x.copy_(other)
    assert torch.equal(flowsolve.sample(model, start=half), run.x)


def test_an_answer_in_reused_memory_is_not_kept():
    memory = torch.empty(2, 2, 3)

    def net(x, t):
        return memory.copy_(elementwise(x, t))

    model = flowsolve.Denoiser(net, VP, "eps", (2, 3))
    whole = flowsolve.sample(model, solver="unipc3", nfe=9, n=2, seed=0)
    half = flowsolve.solve(model, solver="unipc3", nfe=9, n=2, seed=0, callback=after(4))
    memory.fill_(torch.nan)
    assert torch.equal(flowsolve.sample(model, start=half), whole)


def test_gradients_go_through_both_halves():
    model = network(VP, dtype=F64)

    def slope(stop):
        x = torch.ones(1, 2, 3, dtype=F64, requires_grad=True)
        arguments: dict[str, Any] = {"solver": "ab3", "nfe": 6, "differentiable": True}
        if stop:
            half = flowsolve.solve(model, start=x, callback=after(3), **arguments)
            end = flowsolve.sample(model, start=half, differentiable=True)
        else:
            end = flowsolve.sample(model, start=x, **arguments)
        end.sum().backward()
        return x.grad

    assert same(slope(True), slope(False))


def test_what_is_said_again_must_be_what_was_said():
    model = network(VP)
    half = flowsolve.solve(
        model, solver="ddim", eta=0.5, nfe=6, n=2, seed=0, first=3, callback=after(2)
    )
    whole = flowsolve.sample(model, solver="ddim", eta=0.5, nfe=6, n=2, seed=0, first=3)
    plan = flowsolve.plan("ddim", VP, eta=0.5, nfe=6)
    times = [level.t for level in plan.levels]
    again: dict[str, Any]
    wrong: dict[str, Any]
    for again in (
        {"nfe": 6},
        {"solver": "ddim", "eta": 0.5, "nfe": 6},
        {"solver": flowsolve.solvers.DDIM(eta=0.5), "grid": times},
        {"solver": plan, "first": 3},
    ):
        assert torch.equal(flowsolve.sample(model, start=half, **again), whole)
    for wrong, match in [
        ({"nfe": 7}, "nfe=7"),
        ({"solver": "ddim", "nfe": 6}, "solver='ddim', nfe=6"),
        ({"grid": "karras"}, "grid='karras'"),
        ({"span": (0.9, None)}, r"span=\(0.9, None\)"),
        ({"solver": "ddim", "eta": 0.4, "nfe": 6}, "eta=0.4"),
        ({"first": 1}, "first=1: start is of a run with first=3"),
    ]:
        with pytest.raises(ValueError, match=match):
            flowsolve.solve(model, start=half, **wrong)


def test_refusals():
    model = network(VP)
    arguments: dict[str, Any] = {"solver": "dpmpp2m", "nfe": 6, "n": 2, "seed": 0}
    half = flowsolve.solve(model, callback=after(2), **arguments)
    with pytest.raises(ValueError, match=r"start: its run had process=.*EDM"):
        flowsolve.solve(network(flowsolve.EDM()), start=half)
    with pytest.raises(ValueError, match=r"start: its run had predicts=Eps.*V\(\)"):
        flowsolve.solve(network(VP, "v"), start=half)
    with pytest.raises(ValueError, match=r"start: .* went to its end; .*start=solution\.x"):
        flowsolve.solve(model, start=flowsolve.solve(model, **arguments))
    with pytest.raises(ValueError, match=r"start: .* went to its end"):
        flowsolve.solve(model, start=flowsolve.solve(model, callback=after(6), **arguments))
    live = flowsolve.solve(model, solver="torchdiffeq:rk4", nfe=13, n=1, callback=after(1))
    with pytest.raises(ValueError, match=r"start: .* its run has no plan"):
        flowsolve.solve(model, start=live)
    for x in (half.x[:1], half.x.double()):
        with pytest.raises(ValueError, match=r"start\.x has shape"):
            flowsolve.solve(model, start=dataclasses.replace(half, x=x))


def test_solutions_compare_and_travel():
    solution = flowsolve.solve(network(VP), nfe=3, n=2, seed=0, keep=("path", "x0"))
    assert solution == solution and solution != copy.copy(solution)
    assert solution in [solution] and len({solution, solution}) == 1
    again = pickle.loads(pickle.dumps(solution))
    assert torch.equal(again.x, solution.x) and same(again.path, solution.path)
    assert (again.nfe, again.grid, again.seed) == (solution.nfe, solution.grid, solution.seed)
    assert "rest" not in repr(solution)
