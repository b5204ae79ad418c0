"""Plans fitted to a model: what a plan is in the chart, the derivatives, what a fit reaches, and
what is refused."""

from __future__ import annotations

import math
import os
import pickle
import signal
import threading

import numpy as np
import pytest
import torch
from problems import DETERMINISTIC, F64, PROCESSES, mixture

import flowsolve
from flowsolve import exact
from flowsolve.plans import Evaluate
from flowsolve.solvers.auto import center_of
from flowsolve.tuning.fitting import Free, _columns
from flowsolve.tuning.problem import Problem, Starts, square, summary
from flowsolve.tuning.rows import Rows, scale
from flowsolve.tuning.search import RULES, entries, laid

VP, FLOW, EDM = flowsolve.VP(), flowsolve.RectifiedFlow(), flowsolve.EDM()
TABLE = flowsolve.VP.discrete(flowsolve.tables.linear())
#: A search of a second.
QUICK = dict(effort="search", n=16, reference=24)


def problem(model, *, batch_size=64):
    return Problem(model, model.process.start, model.process.clean, batch_size, lambda n: None)


def starts(model, n, seed=0):
    process = model.process
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, *model.state_shape, dtype=F64, generator=generator)
    x = process.prior(process.start) @ noise
    truth = flowsolve.solve(model, solver="etd4", grid="logsnr", nfe=400, start=x).x
    return x, Starts(torch.arange(n), x / scale(process.start), truth)


def rmse(x, truth):
    return float((x - truth).square().mean().sqrt())


# What a plan is


@pytest.mark.sweep(keep=32)
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_every_deterministic_plan_is_levels_and_weights(name, process):
    plan = flowsolve.plan(name, PROCESSES[process], nfe=9)
    rows = Rows.of(plan)
    assert rows is not None and rows.n == plan.nfe
    assert rows.plan() == plan
    model = mixture(PROCESSES[process])
    x, begun = starts(model, 3)
    there = flowsolve.solve(model, solver=plan, start=x).x
    here = problem(model).run(rows, begun.y, begun.samples)
    # Sums of p beside pure noise leave nine digits.
    assert torch.allclose(here * scale(plan.levels[-1]), there, rtol=1e-7, atol=1e-7)


def test_a_plan_that_draws_noise_is_none_of_them():
    assert Rows.of(flowsolve.plan("ddpm", VP, nfe=5)) is None


# The derivatives


@pytest.mark.parametrize("process", [VP, FLOW, EDM], ids=["vp", "flow", "edm"])
def test_derivatives_are_those_of_central_differences(process):
    model = mixture(process)
    where, (_, some) = problem(model), starts(model, 4)
    rows = Rows.of(flowsolve.plan("vpc2", process, nfe=6))
    free = Free.of(rows, on_entries=False)
    end, columns = _columns(where, rows, free, some)
    assert torch.allclose(end, where.run(rows, some.y, some.samples))

    def moved(k, h):
        weights, levels = rows.weights.copy(), list(rows.levels)
        if k < len(free.levels):
            i = free.levels[k]
            levels[i] = process.at("sigma", math.exp(-levels[i].lam + h))
        else:
            weights[free.weights[k - len(free.levels)]] += h
        return where.run(Rows(tuple(levels), rows.end, weights), some.y, some.samples)

    assert len(columns) == len(free.levels) + len(free.weights)
    for k, column in enumerate(columns):
        if k == len(free.levels) - 1:
            continue  # the last level is the quietest there is: the difference is on its one side
        h = 1e-4
        central = (moved(k, h) - moved(k, -h)) / (2 * h)
        # One-sided, with steps of 1e-6 and 1e-5: their error is the step times a curvature.
        assert torch.allclose(column, central, rtol=2e-3, atol=2e-4), k


# What a fit reaches


def test_where_the_answer_is_linear_the_fit_is_exact():
    """Of Gaussian data every state is a multiple of the start, and three evaluations have more
    numbers to choose than are needed to bring each entry's multiple to its place."""
    sizes = torch.tensor([0.2, 0.5, 0.9], dtype=F64)
    model = exact.Mixture(VP, [1.0], torch.zeros(1, 3, dtype=F64), [sizes.square()])
    tuned = flowsolve.tune(model, 3, seed=1, reference=400)
    assert tuned.auto_error.rmse > 1e-2
    assert tuned.error.rmse < 1e-5  # what the reference is good for


@pytest.mark.parametrize("process", [VP, FLOW, EDM], ids=["vp", "flow", "edm"])
def test_on_fresh_starts_it_is_far_better_than_auto(process):
    model = mixture(process)
    tuned = flowsolve.tune(model, 5, n=96)
    x, fresh = starts(model, 256, seed=5)
    found = {
        name: rmse(flowsolve.solve(model, solver=solver, start=x, **how).x, fresh.truth)
        for name, solver, how in (("tuned", tuned, {}), ("auto", "auto", {"nfe": 5}))
    }
    assert found["tuned"] < 0.5 * found["auto"]
    # What it says of itself is what fresh starts say, to what 24 of them can tell.
    assert found["tuned"] / 3 < tuned.error.rmse < 3 * found["tuned"]
    assert tuned.nfe == 5 and "fitted" in tuned.name and tuned.held_back == 24


def test_a_search_is_no_worse_than_auto_and_cheap():
    model = mixture(FLOW)
    tuned = flowsolve.tune(model, 6, **QUICK)
    assert tuned.error.both <= tuned.auto_error.both
    assert "fitted" not in tuned.name
    assert tuned.evaluations < 600 * 6


def test_of_one_point_every_rule_is_exact():
    model = exact.Mixture(VP, [1.0], torch.full((1, 2), 0.3, dtype=F64), 0.0)
    tuned = flowsolve.tune(model, 4, **QUICK)
    assert max(tuned.error.rmse, tuned.auto_error.rmse) < 1e-10


# How it is asked


class Counting(torch.nn.Module):
    """A network that knows the largest batch it saw, in a dtype of its own."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(4, 4, generator=generator).to(dtype) / 3)
        self.largest, self.times = 0, set()
        self.eval()

    def forward(self, x, t, label=None):
        assert x.dtype == self.weight.dtype
        self.largest = max(self.largest, len(x))
        self.times |= set(t.tolist())
        shift = 0.0 if label is None else label[:, None].to(x) * 0.3
        return torch.tanh(x @ self.weight + shift)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_of_every_precision(dtype):
    model = flowsolve.Denoiser(Counting(dtype), VP, "x0", (4,))
    tuned = flowsolve.tune(model, 4, n=32, reference=24)
    assert tuned.error.both <= tuned.auto_error.both
    x = flowsolve.sample(model, solver=tuned, n=8, seed=3)
    assert x.isfinite().all()
    if dtype == torch.float32:
        assert tuned.error.both < 0.5 * tuned.auto_error.both


def test_the_batch_is_bounded_and_the_plan_does_not_depend_on_it():
    plans = []
    for batch_size in (5, 16):
        net = Counting(torch.float64)
        model = flowsolve.Denoiser(net, VP, "x0", (4,))
        tuned = flowsolve.tune(model, 3, n=32, reference=24, batch_size=batch_size)
        assert net.largest <= batch_size
        plans.append(tuned)
    assert plans[0].error.rmse == pytest.approx(plans[1].error.rmse, rel=1e-3)


def test_every_sample_keeps_what_it_is_told():
    label = torch.arange(24) % 3
    model = flowsolve.Denoiser(
        Counting(), VP, "x0", (4,), conditioning={"label": label}, per_sample=("label",)
    )
    tuned = flowsolve.tune(model, 4, reference=24, batch_size=7)
    assert tuned.held_back == 6
    x, truth = (
        flowsolve.sample(model, solver=solver, nfe=nfe, seed=0)
        for solver, nfe in ((tuned, None), ("etd4", 300))
    )
    # The starts of the fit are those of the same seed.
    assert rmse(x, truth) < 0.5 * rmse(flowsolve.sample(model, nfe=4, seed=0), truth)


def test_a_network_of_whole_numbers_is_asked_on_the_entries():
    net = Counting()
    model = flowsolve.Denoiser(net, TABLE, "x0", (4,), time=lambda level: round(level.t))
    tuned = flowsolve.tune(model, 6, n=32, reference=40)
    levels = [i.level.t for i in tuned.plan.program if isinstance(i, Evaluate)]
    assert all(t == int(t) for t in levels) and len(set(levels)) == 6
    assert tuned.error.both < 0.5 * tuned.auto_error.both


def test_times_are_rounded_to_entries_that_differ():
    assert entries([9.0, 5.4, 5.3, 5.2, 0.2, -1.0]) == [9.0, 5.0, 4.0, 3.0, 0.0, -1.0]
    assert entries([3.0, 0.1, 0.05, 0.0, -1.0]) == [3.0, 2.0, 1.0, 0.0, -1.0]
    grid = flowsolve.grids.Logistic(1.0, 1.5, 1.2)
    plan = laid(problem(mixture(TABLE)), RULES["vpc2"], grid, 7)
    assert plan is not None and plan.nfe == 7


def test_starts_of_ones_own_between_ends_of_ones_own():
    model = mixture(VP)
    noisy, quiet = VP.at("sigma", 3.0), VP.at("sigma", 0.05)
    start = model.draw(48, level=noisy)
    tuned = flowsolve.tune(model, 3, start=start, span=(noisy.t, quiet.t))
    assert tuned.plan.levels[0].t == noisy.t and tuned.plan.levels[-1].t == quiet.t
    fresh = model.draw(64, level=noisy)
    truth, x, auto = (
        flowsolve.solve(model, start=fresh, **how).x
        for how in (
            {"solver": "etd4", "grid": "logsnr", "nfe": 300, "span": (noisy.t, quiet.t)},
            {"solver": tuned},
            {"nfe": 3, "span": (noisy.t, quiet.t)},
        )
    )
    assert rmse(x, truth) < 0.7 * rmse(auto, truth)


def test_the_same_seed_is_the_same_plan():
    first, second = (flowsolve.tune(mixture(VP), 3, n=32, seed=2) for _ in range(2))
    assert first.plan == second.plan and first.error == second.error


@pytest.fixture(scope="module")
def of_digits():
    return flowsolve.tune(flowsolve.digits(), 5, effort="search", n=16).plan


@pytest.mark.late
@pytest.mark.parametrize("told", ["label", "guidance"])
def test_what_was_fitted_without_a_label_serves_with_it(told, of_digits):
    model = flowsolve.digits(3)
    if told == "guidance":
        model = flowsolve.guided(model, {"label": None}, scale=2.0)
    run = {"n": 24, "seed": 5}
    truth = flowsolve.sample(model, solver="etd4", grid="logsnr", nfe=100, **run)
    x, auto = (
        flowsolve.sample(model, solver=solver, nfe=nfe, **run)
        for solver, nfe in ((of_digits, None), ("auto", 5))
    )
    assert rmse(x, truth) < rmse(auto, truth)


def test_a_guided_model_is_a_model():
    def model(label):
        return flowsolve.Denoiser(
            Counting(), VP, "x0", (4,), conditioning={"label": torch.full((16,), label)}
        )

    two = flowsolve.guided(model(1), {"label": None}, scale=2.0)
    tuned = flowsolve.tune(two.given(per_sample=["label"]), 4, n=16, reference=24)
    assert tuned.error.both < tuned.auto_error.both


@pytest.mark.parametrize(
    "device",
    [
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
        )
    ],
)
def test_on_other_devices_it_is_as_good(device):
    net = Counting().to(device)
    label = torch.arange(24, device=device) % 3
    model = flowsolve.Denoiser(
        net, VP, "x0", (4,), conditioning={"label": label}, per_sample=("label",)
    )
    tuned = flowsolve.tune(model, 4, n=24, reference=24, batch_size=9)
    assert tuned.error.both < 0.7 * tuned.auto_error.both
    assert flowsolve.sample(model, solver=tuned, n=3, seed=0).device.type == device


# What can be done with it


def test_it_is_a_solver_wherever_a_plan_is(tmp_path):
    model = mixture(VP)
    tuned = flowsolve.tune(model, 4, **QUICK)
    whole = flowsolve.sample(model, solver=tuned, n=3, seed=1)
    for name in ("nfe4.json", "mine.json"):
        tuned.save(tmp_path / name)
    flowsolve.plan("ddim", VP, nfe=9).save(tmp_path / "nfe9.json")
    (tmp_path / "notes.json").write_text("{}")
    for solver, nfe in (
        (tuned.plan, None),
        (tmp_path / "mine.json", None),
        (str(tmp_path / "mine.json"), None),
        (tmp_path, 4),
        (f"{tmp_path}/", 8),
    ):
        assert torch.equal(flowsolve.sample(model, solver=solver, nfe=nfe, n=3, seed=1), whole)
    assert flowsolve.solve(model, solver=tmp_path, n=1, seed=0).nfe == 9
    table = flowsolve.compare(model, solvers=[tuned, "ddim", str(tmp_path)], nfe=(4, 9), n=4)
    assert table.solvers[0] == "tuned (4 evaluations)"
    assert table.spent[2].tolist() == [4, 9]
    again = pickle.loads(pickle.dumps(tuned))
    assert again.plan == tuned.plan and again.error == tuned.error


def test_what_cannot_be_is_refused(tmp_path):
    model, rows = mixture(VP), torch.zeros(12)
    for what, how in (
        ("matrices", {"model": flowsolve.digits(process="cld")}),
        ("nfe=0", {"nfe": 0}),
        ("nfe=101", {"nfe": 101}),
        ("effort='lots'", {"effort": "lots"}),
        ("n=3", {"n": 3}),
        ("start has 5", {"start": torch.zeros(5, 2, dtype=F64)}),
        ("start", {"start": torch.zeros(16, 3, dtype=F64)}),
        ("unet", {"device": "unet"}),
        ("y: 12 rows for the samples 0 to 15", {"model": model.given(y=rows, per_sample=["y"])}),
        ("y may have a row for each", {"model": model.given(y=torch.zeros(16))}),
    ):
        given = {"model": model, "nfe": 4, **QUICK, **how}
        if "start" in how:
            given.pop("n")
        with pytest.raises(ValueError, match=what):
            flowsolve.tune(**given)
    with pytest.raises(FileNotFoundError, match=r"no.json.: there is no such file or folder; exp"):
        flowsolve.sample(model, solver=tmp_path / "no.json")
    with pytest.raises(ValueError, match=r"nfe=4: the folder has none"):
        flowsolve.sample(model, solver=tmp_path, nfe=4)
    flowsolve.plan("ddim", VP, nfe=9).save(tmp_path / "nfe9.json")
    with pytest.raises(ValueError, match=r"nfe=4: the folder has plans for 9 evaluations"):
        flowsolve.sample(model, solver=tmp_path, nfe=4)
    with pytest.raises(ValueError, match="grid='karras' cannot be given beside a plan"):
        flowsolve.sample(model, solver=tmp_path, nfe=9, grid="karras")


def test_a_network_of_nan_says_where():
    model = flowsolve.Denoiser(lambda x, t: x * torch.nan, VP, "x0", (2,))
    with pytest.raises(flowsolve.NonFiniteError):
        flowsolve.tune(model, 4, **QUICK)


def test_a_rule_that_blows_up_is_only_a_bad_one():
    inner, asked = mixture(FLOW), 0

    def net(x, t):
        nonlocal asked
        asked += 1
        out = inner(x, float(t[0])).x0
        return out * torch.inf if 60 < asked < 90 else out  # in the first round of the search

    model = flowsolve.Denoiser(net, FLOW, "x0", (2,), dtype=F64)
    tuned = flowsolve.tune(model, 3, **QUICK)
    assert asked > 90 and math.isfinite(tuned.error.both)


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_interrupted_it_gives_the_best_so_far():
    model, asked = mixture(VP), 0

    def net(x, t):
        nonlocal asked
        asked += 1
        if asked == 900:
            os.kill(os.getpid(), signal.SIGINT)
        return model(x, float(t[0])).x0

    assert threading.current_thread() is threading.main_thread()
    mine = flowsolve.Denoiser(net, VP, "x0", (2,), dtype=F64)
    tuned = flowsolve.tune(mine, 4, n=32, reference=24)
    assert tuned.interrupted and "interrupted" in str(tuned)
    assert tuned.error.both < tuned.auto_error.both


def test_what_it_says():
    tuned = flowsolve.tune(mixture(VP), 4, **QUICK)
    text = str(tuned)
    assert text.startswith("Tuned for 4 evaluations: ")
    assert "4 starts held back" in text and f"{tuned.evaluations:,}" in text
    assert repr(tuned).startswith("<Tuned: 4 evaluations, error 0.")


def test_a_bar_can_be_seen(capsys):
    flowsolve.tune(mixture(VP), 2, **QUICK, progress=True)
    assert "eval" in capsys.readouterr().err


def test_errors_are_summed_up():
    found = summary(torch.tensor([1.0, 4.0, 9.0, 16.0, 100.0], dtype=F64))
    assert found.rmse == pytest.approx(math.sqrt(26))
    assert found.median == 3.0
    assert found.high == pytest.approx(math.sqrt(16 + 0.6 * 84))
    spread = np.std([1, 4, 9, 16, 100], ddof=1) / math.sqrt(5)
    assert found.standard_error == pytest.approx(spread / (2 * math.sqrt(26)))
    assert found.both == math.sqrt(found.rmse * 3.0)
    assert square(torch.tensor([[torch.nan], [2.0]], dtype=F64)).tolist() == [math.inf, 4.0]


def test_the_center_follows_what_is_known():
    about = mixture(VP).about
    assert about.size == 2
    assert center_of(VP, about) == pytest.approx(0.28 * 2**0.25)
    wide = flowsolve.Denoiser(Counting(), VP, "x0", (4,), data_scale=2.0).about
    assert center_of(VP, wide) == pytest.approx(0.28 * 4**0.25 * 2.0 / math.sqrt(0.3))
