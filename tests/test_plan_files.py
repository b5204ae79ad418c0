"""Plans as things of their own: printed, compared, saved and loaded, sampled with."""

from __future__ import annotations

import json
import os
import re
import weakref
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from problems import F64, FIXED, PROCESSES, elementwise, mixture

import flowsolve
from flowsolve.coordinates import DATA, FLOW, NOISE
from flowsolve.operators import Scalar
from flowsolve.plans import Arrive, Combine, Evaluate, Plan, Program
from flowsolve.plans.equality import canonical
from flowsolve.processes import Level
from flowsolve.solvers import DDIM

VP = PROCESSES["vp"]
FOUR = ["vp", "edm", "rectified_flow", "cosine"]


def network(process):
    return flowsolve.Denoiser(elementwise, process, "velocity", (3,))


@pytest.mark.sweep(keep=0.2)
@pytest.mark.parametrize("name", FOUR)
@pytest.mark.parametrize("solver", FIXED)
def test_saved_loaded_and_sampled_with(solver, name, tmp_path):
    process = PROCESSES[name]
    plan = flowsolve.plan(solver, process, nfe=11)
    plan.save(tmp_path / "plan.json")
    loaded = Plan.load(tmp_path / "plan.json")
    assert loaded == plan and hash(loaded) == hash(plan)
    assert (loaded.program.instructions, loaded.levels) == (
        plan.program.instructions,
        plan.levels,
    ), "to the bit"
    assert plan == plan and plan != flowsolve.plan(solver, process, nfe=7)
    named, planned, again = (
        flowsolve.solve(network(process), n=3, seed=0, keep=("path", "x0"), **arguments)
        for arguments in ({"solver": solver, "nfe": 11}, {"solver": plan}, {"solver": loaded})
    )
    for other in (planned, again):
        assert (
            torch.equal(named.x, other.x)
            and torch.equal(named.path, other.path)
            and torch.equal(named.x0_path, other.x0_path)
        )
        assert (named.nfe, named.grid, named.seed, named.stopped) == (
            other.nfe,
            other.grid,
            other.seed,
            other.stopped,
        )


# What is equal.


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("nfe", [1, 2, 20])
def test_ddim_is_one_plan_in_all_coordinates(name, nfe):
    plans = [
        flowsolve.plan(DDIM(coordinates=c), PROCESSES[name], nfe=nfe) for c in (NOISE, DATA, FLOW)
    ]
    plans.append(flowsolve.plan("flow_euler", PROCESSES[name], nfe=nfe))
    assert all(a == b and hash(a) == hash(b) for a in plans for b in plans)


@pytest.mark.parametrize("name", ["edm", "rectified_flow"])
def test_rounding_stays_far_below_the_tolerance(name):
    """The two processes on which it is largest."""
    rows = []
    for c in (NOISE, DATA, FLOW):
        plan = flowsolve.plan(DDIM(coordinates=c), PROCESSES[name], nfe=1000)
        rows.append([row for _, row in canonical(plan.program)])
    assert len(rows[0]) == 1001
    for other in rows[1:]:
        assert (
            max(np.abs(a - b).max() / np.abs(a).max() for a, b in zip(rows[0], other, strict=True))
            < 1e-13
        )


def test_two_ways_to_the_same_weights_are_equal():
    """On EDM t is σ̄: DEIS's quadrature in t and the closed form of Adams-Bashforth in σ̄."""
    edm = PROCESSES["edm"]
    assert flowsolve.plan("deis2", edm, nfe=15) == flowsolve.plan("ab2", edm, nfe=15)
    assert flowsolve.plan("deis2", VP, nfe=15) != flowsolve.plan("ab2", VP, nfe=15)
    assert flowsolve.plan("ddim", VP, nfe=15, eta=1.0) == flowsolve.plan("ddpm", VP, nfe=15)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("ab3", "ab2"),
        ("heun", "midpoint"),
        ("ddpm", "ddim"),
        ("ddpm", "ddpm_large"),
        ("etd2", "ab2"),
    ],
)
def test_different_methods_are_not_equal(a, b):
    assert flowsolve.plan(a, VP, nfe=10) != flowsolve.plan(b, VP, nfe=10)


def test_different_grids_and_processes_are_not_equal():
    plan = flowsolve.plan("ddim", VP, nfe=10)
    assert plan != flowsolve.plan("ddim", VP, nfe=10, grid="karras")
    assert plan != flowsolve.plan("ddim", VP, nfe=10, span=(0.9, None))
    assert plan != flowsolve.plan("ddim", flowsolve.VP(beta_max=19.99), nfe=10)
    assert plan != flowsolve.plan("ddim", PROCESSES["cosine"], nfe=10)
    assert plan != "ddim" and plan is not None


def changed(plan, k, instruction):
    before, after = plan.program.instructions[:k], plan.program.instructions[k + 1 :]
    middle = () if instruction is None else (instruction,)
    return Plan(Program(plan.program.start, (*before, *middle, *after)))


@pytest.mark.parametrize("solver", ["ab3", "heun", "ddpm"])
def test_every_number_counts_and_rounding_does_not(solver):
    plan = flowsolve.plan(solver, VP, nfe=6)
    for k, i in enumerate(plan.program):
        if isinstance(i, Combine):
            for v, c in i.terms.items():
                assert changed(plan, k, i._replace(terms={**i.terms, v: c * (1 + 1e-4)})) != plan
                assert changed(plan, k, i._replace(terms={**i.terms, v: c * (1 + 1e-13)})) == plan
        if isinstance(i, Evaluate):
            for part in ("t", "A", "R"):
                for factor, equal in ((1 + 1e-6, False), (1 + 1e-14, True)):
                    level = replace(i.level, **{part: getattr(i.level, part) * factor})
                    assert (changed(plan, k, i._replace(level=level)) == plan) is equal, (
                        part,
                        factor,
                    )


def test_bookkeeping_does_not_count():
    plan = flowsolve.plan("ab3", VP, nfe=6)
    arrivals = [k for k, i in enumerate(plan.program) if isinstance(i, Arrive)]
    for k in arrivals[:-1]:
        assert changed(plan, k, None) == plan
    assert changed(plan, arrivals[-1], None) != plan
    # The same sum by way of another value.
    k, i = next((k, i) for k, i in enumerate(plan.program) if isinstance(i, Combine))
    (u, a), (v, b) = i.terms.items()
    detour = (Combine(99, {u: a * 2.0}), Combine(i.out, {v: b, 99: Scalar(0.5)}))
    before, after = plan.program.instructions[:k], plan.program.instructions[k + 1 :]
    assert Plan(Program(plan.program.start, (*before, *detour, *after))) == plan


def test_plans_can_be_kept_in_caches():
    plan, twin, other = (
        flowsolve.plan(DDIM(coordinates=c), VP, nfe=n)
        for c, n in ((NOISE, 9), (DATA, 9), (NOISE, 8))
    )
    assert len({plan, twin, other}) == 2
    cache = weakref.WeakKeyDictionary({plan: 1})
    assert cache[twin] == 1 and other not in cache


# What is printed.

NUMBER = r"-?(?:[\d.]+(?:e[-+]\d+)?|inf)"
LINE = re.compile(rf"\s*(\d+)?\s+([xpz]\d+)\s+((?:{NUMBER}\s+){{4}})?(\S.*)")


def by_hand(text, model, start, noise):
    """What a person does with the table: line by line, with the numbers that are printed. (result,
    evaluations)"""
    values: dict[str, torch.Tensor] = {}
    lines = re.sub(r"\n {30,}(?=\S)", " ", text).splitlines()  # a long sum goes on in the next line
    body = lines[next(k for k, line in enumerate(lines) if line.startswith("step")) + 1 :]
    draws, asked, last = iter(noise), 0, ""
    for line in body:
        found = LINE.fullmatch(line)
        assert found, line
        _, last, level, what = found.groups()
        if what == "the start":
            values[last] = start
        elif what == "noise":
            values[last] = next(draws)
        elif last.startswith("p") and what != "as above":
            t, a, r, _ = map(float, level.split())
            at, asked = Level(t, Scalar(a), Scalar(r)), asked + 1
            functions = {
                "eps": lambda x, at=at: model(x, at).eps,
                "x0": lambda x, at=at: model(x, at).x0,
            }
            values[last] = eval(what, {**values, **functions})
        elif what != "as above":
            values[last] = eval(what, dict(values))
    return values[last], asked


@pytest.mark.sweep(keep=0.2)
@pytest.mark.parametrize("name", FOUR)
@pytest.mark.parametrize("solver", FIXED)
def test_a_plan_can_be_run_by_hand_from_what_is_printed(solver, name):
    plan = flowsolve.plan(solver, PROCESSES[name], nfe=8)
    text = str(plan)
    assert all(len(line) <= 140 for line in text.splitlines())
    model = mixture(PROCESSES[name])
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, 2, dtype=F64, generator=generator) * PROCESSES[name].start.R.value
    noise = torch.randn(plan.draws, 4, 2, dtype=F64, generator=generator)
    x, asked = by_hand(text, model, start, noise)
    assert asked == plan.nfe == int(re.search(r"evaluations (\d+)", text).group(1))
    assert plan.draws == int(re.search(r"draws of noise (\d+)", text).group(1))
    torch.testing.assert_close(
        x, flowsolve.sample(model, solver=plan, start=start, noise=noise), rtol=0, atol=5e-3
    )


def test_the_table_is_this():
    plan = flowsolve.plan("heun", PROCESSES["rectified_flow"], grid=[0.5, 0.25, 0.0])
    assert str(plan).splitlines()[2:] == [
        "step         t     A     R     sigma",
        "      x1   0.5   0.5   0.5         1  the start",
        "      p1   0.5   0.5   0.5         1  eps(x1)",
        "      x2                              1.5*x1 - 0.5*p1",
        "      p2  0.25  0.75  0.25  0.333333  eps(x2)",
        "   1  x3  0.25  0.75  0.25  0.333333  1.5*x1 - 0.25*p1 - 0.25*p2",
        "      p3  0.25  0.75  0.25  0.333333  x0(x3)",
        "   2  p3     0     1     0         0  as above",
    ]
    assert repr(plan) == "<Plan: 3 evaluations, 0 draws of noise, 2 steps from t=0.5 to t=0>"


# Files.


def test_a_file_is_plain_json_even_where_time_is_infinite(tmp_path):
    plan = flowsolve.plan("ddpm", PROCESSES["ve"], nfe=5)
    assert plan.levels[-1].t == -np.inf
    plan.save(tmp_path / "ve.json")

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    whole = json.loads((tmp_path / "ve.json").read_text(), parse_constant=refuse)
    assert (whole["format"], whole["version"]) == ("flowsolve plan", 1)
    assert (
        Plan.load(tmp_path / "ve.json") == plan
        and Plan.load(str(tmp_path / "ve.json")).levels == plan.levels
    )
    assert not list(tmp_path.glob(".*")), "no temporary file is left"


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "plan.json"
    flowsolve.plan("ddpm", VP, nfe=3).save(path)
    return path


def refused(path, text, message=""):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    pattern = (
        re.escape(str(path))
        + f": .*{message}.*; expected a flowsolve plan of version 1, as Plan.save writes it"
    )
    with pytest.raises(ValueError, match=pattern):
        Plan.load(path)


def test_cut_files_are_refused(saved):
    data = saved.read_bytes()
    for end in range(0, len(data.rstrip()), 7):
        refused(saved, data[:end])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\x80\x81", "can't decode"),
        ("[" * 100_000, ""),
        ("[]", 'no "format": "flowsolve plan"'),
        ('{"format": "flowsolve grid", "version": 1}', 'no "format": "flowsolve plan"'),
        ('{"format": "flowsolve plan", "version": 2}', "version 2"),
        ('{"format": "flowsolve plan"}', "version None"),
        ('{"format": "flowsolve plan", "version": 1}', "no program"),
        ('{"format": "flowsolve plan", "version": 1, "program": [1, 2]}', "no program"),
    ],
)
def test_other_files_are_refused(saved, text, message):
    refused(saved, text, message)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r'"t": [^,]+', '"t": "now"', "'now' is not a finite number"),
        (r'"A": [^,]+', '"A": NaN', "nan is not a finite number"),
        (r'"R": [^}]+', '"R": Infinity', "inf is not a finite number"),
        (r'"R": [^}]+', '"R": 1e999', "inf is not a finite number"),
        (r'"R": [^}]+', f'"R": 1{"0" * 400}', "too large"),
        (r'"A": [^,]+', '"A": true', "True is not a finite number"),
        (r'"A": [^,]+, ', "", "is not a level"),
        (r'"x1": [^,]+', '"x1": "inf"', "'inf' is not a finite number"),
        (r'"x1": [^,]+', '"x1": [1.0]', "is not a finite number"),
        (r'"sum": {[^}]+}', '"sum": {}', "no instruction"),
        ('"noise": "z1"', '"noise": "p1"', "'p1' is made twice"),
        ('"evaluate": "x1"', '"evaluate": "x2"', "'x2' is used before it is made"),
        ('"evaluate": "x1"', '"evaluate": ["x1"]', "no instruction"),
        ('"coordinates": "noise"', '"coordinates": "nose"', "Did you mean 'noise'"),
        ('"start": "x1"', '"begin": "x1"', "starts with"),
    ],
)
def test_damaged_files_are_refused(saved, old, new, message):
    text, n = re.subn(old, new, saved.read_text(), count=1)
    assert n == 1
    refused(saved, text, message)


def test_programs_without_an_end_or_a_beginning_are_refused(saved):
    whole = json.loads(saved.read_text())
    refused(saved, json.dumps({**whole, "program": whole["program"][:-1]}), "ends nowhere")
    refused(saved, json.dumps({**whole, "program": whole["program"][1:]}), "starts with")
    refused(saved, json.dumps({**whole, "program": whole["program"][:1]}), "no program")


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Plan.load(tmp_path / "none.json")
    with pytest.raises(FileNotFoundError):
        flowsolve.plan("ddim", VP, nfe=2).save(tmp_path / "none" / "plan.json")


def test_a_file_is_replaced_whole_or_not_at_all(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="the disk is full"):
            flowsolve.plan("ddim", VP, nfe=2).save(saved)
    assert saved.read_bytes() == before and [f.name for f in saved.parent.iterdir()] == [saved.name]
    flowsolve.plan("ddim", VP, nfe=2).save(saved)
    assert Plan.load(saved).nfe == 2


def test_what_cannot_be_written_is_refused(tmp_path):
    skewed = replace(NOISE, name="skewed")
    with pytest.raises(
        ValueError, match="no name for the coordinates SKEWED; it has noise, data, flow"
    ):
        flowsolve.plan(DDIM(coordinates=skewed), VP, nfe=2).save(tmp_path / "plan.json")
    assert not list(tmp_path.iterdir())


# Laying out, and sampling with a plan.


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"solver": "ddmi"}, ValueError, r"solver='ddmi' is not known\. Did you mean 'ddim'\?"),
        ({"etta": 0.5}, TypeError, r"option='etta' is not known\. Did you mean 'eta'"),
        ({"nfe": 0}, ValueError, "nfe=0: expected a positive integer"),
        ({"nfe": 2.5}, TypeError, "nfe=2.5"),
        ({"grid": "karas"}, ValueError, r"grid='karas' is not known\. Did you mean 'karras'"),
        (
            {"grid": [1.0, 0.5, 0.2, 0.0], "nfe": 2},
            ValueError,
            "a grid of 3 steps costs 3 evaluations .*, but nfe=2",
        ),
        ({"grid": [1.0, 0.0], "span": (0.5, None)}, ValueError, "either grid=.* or span"),
        ({"span": 0.5}, TypeError, "span=0.5: expected a pair"),
        ({"process": "vp"}, TypeError, "process='vp': expected a process"),
        ({"solver": "dopri5"}, ValueError, "solver='dopri5' has no plan: .* Did you mean 'rk4'"),
        ({"solver": "dopri5", "grid": "karras"}, ValueError, "solver='dopri5' has no plan"),
        ({"solver": "torchdiffeq:heun2"}, ValueError, "has no plan: .* Did you mean 'heun'"),
        ({"solver": "torchdiffeq:euler"}, ValueError, "has no plan: .* Did you mean 'ddim'"),
        ({"solver": "scipy:RK23"}, ValueError, "has no plan: .* Did you mean 'kutta3'"),
    ],
)
def test_laying_out_is_checked_like_a_run(arguments, error, message):
    with pytest.raises(error, match=message):
        flowsolve.plan(**{"solver": "ddim", "process": VP, **arguments})


def test_a_plan_of_a_solver_object_a_grid_and_a_span():
    grid = flowsolve.grids.Karras(rho=5.0)
    plan = flowsolve.plan(DDIM(), VP, nfe=6, grid=grid, span=(0.8, 0.1), eta=0.5)
    assert (plan.nfe, plan.draws, len(plan.levels)) == (6, 6, 7)
    assert (plan.levels[0], plan.levels[-1]) == (VP.level(0.8), VP.level(0.1))
    model = network(VP)
    a = flowsolve.sample(model, solver="ddim", eta=0.5, nfe=6, grid=grid, span=(0.8, 0.1), seed=1)
    assert torch.equal(a, flowsolve.sample(model, solver=plan, seed=1))
    assert flowsolve.plan("ab3", VP).nfe == flowsolve.sampling.DEFAULT_NFE
    assert flowsolve.plan("DPM++ 2M Karras", VP, nfe=6) == flowsolve.plan(
        "dpmpp2m", VP, nfe=6, grid="karras"
    ), "the name brings its grid"
    with pytest.raises(TypeError, match="expected a name such as 'ddim'"):
        flowsolve.plan(plan, VP)


@pytest.mark.parametrize(
    "given",
    [
        {"nfe": 8},
        {"grid": "karras"},
        {"grid": [1.0, 0.0]},
        {"span": (None, 0.1)},
        {"eta": 0.5},
        {"eta": None},
    ],
)
def test_a_plan_brings_its_own_layout(given):
    plan = flowsolve.plan("ddim", VP, nfe=8)
    (name,) = given
    with pytest.raises(
        ValueError, match=rf"{name}=.* cannot be given beside a plan, which has its own {name}"
    ):
        flowsolve.solve(network(VP), solver=plan, **given)
    flowsolve.solve(network(VP), solver=plan, nfe=None, grid=None, span=(None, None))


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "heun"])
def test_start_noise_batches_and_callbacks_are_as_usual(solver):
    model, plan = network(VP), flowsolve.plan(solver, VP, nfe=9)
    start, z = torch.randn(5, 3), torch.randn(plan.draws, 5, 3)
    runs = [
        {"start": start, "noise": z},
        {"start": start, "seed": 3},
        {"n": 5, "seed": 3, "first": 2},
        {"n": 5, "seed": 3, "callback": lambda state: state.step == 2, "keep": "path"},
    ]
    for arguments in runs:
        a, b = (
            flowsolve.solve(model, **how, **arguments)
            for how in ({"solver": solver, "nfe": 9}, {"solver": plan})
        )
        assert torch.equal(a.x, b.x) and (a.stopped, a.seed, a.nfe, a.grid) == (
            b.stopped,
            b.seed,
            b.nfe,
            b.grid,
        )
    assert b.stopped and len(b.path) == 3
    whole, parts = (
        flowsolve.sample(model, solver=plan, n=5, seed=3, batch_size=size) for size in (None, 2)
    )
    assert torch.equal(whole, parts)
    assert torch.equal(whole, flowsolve.sample(model, solver=solver, nfe=9, n=5, seed=3))


def test_gradients_flow_through_a_plan():
    z = torch.randn(2, 3, requires_grad=True)
    flowsolve.sample(
        network(VP), solver=flowsolve.plan("ab2", VP, nfe=4), start=z, differentiable=True
    ).sum().backward()
    assert z.grad.abs().sum() > 0


def test_a_plan_for_another_process_is_refused():
    plan = flowsolve.plan("heun", VP, nfe=8)
    for process, message in (
        (flowsolve.VP(beta_max=19.0), r"It has level t=1 \(A=.*\); the model's VP has level t=1"),
        (
            PROCESSES["edm"],
            r"It has level t=1 \(A=0.00657159, R=0.999978\); the model's EDM has level t=1 "
            r"\(A=1, R=1\)",
        ),
        (
            PROCESSES["cosine"],
            r"It has level t=1 .*; the model's Cosine has level t=1 \(A=0, R=1\)",
        ),
    ):
        with pytest.raises(
            ValueError, match=r"solver: this plan was made for another process\. " + message
        ):
            flowsolve.solve(network(process), solver=plan)
    table = flowsolve.plan("ddim", PROCESSES["discrete"], nfe=8)
    with pytest.raises(ValueError, match=r"level t=\d{3} .*; the model's VP has no such time"):
        flowsolve.solve(network(VP), solver=table)


@dataclass(frozen=True)
class Bent(flowsolve.VP):
    """VP, with the noise changed by a factor below a time."""

    below: float = 1.0
    factor: float = 1.0

    def signal_and_noise(self, t):
        a, r = super().signal_and_noise(t)
        return a, r * (self.factor if t < self.below else 1.0)


def test_the_first_level_that_differs_is_named_and_rounding_is_allowed():
    plan = flowsolve.plan("heun", VP, nfe=9)
    asked = [i.level.t for i in plan.program if isinstance(i, Evaluate)]
    first = max(t for t in asked if t < 0.3)
    with pytest.raises(
        ValueError,
        match=rf"It has level t={first:.6g} .*; the model's Bent has level t={first:.6g} ",
    ):
        flowsolve.solve(network(Bent(below=0.3, factor=1.0 + 1e-6)), solver=plan)
    flowsolve.solve(network(Bent(below=0.3, factor=1.0 + 1e-12)), solver=plan)


def test_a_plan_does_not_run_upward():
    with pytest.raises(
        ValueError, match="solver: a plan runs from noise to data, and encoding from data to noise"
    ):
        flowsolve.encode(network(VP), torch.zeros(2, 3), solver=flowsolve.plan("ddim", VP, nfe=8))
