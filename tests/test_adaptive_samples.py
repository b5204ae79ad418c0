"""The library's own adaptive solver takes every sample by itself: nothing of one sample depends on
another."""

import pytest
import torch
from problems import F64, PROCESSES, elementwise, mixture, rms

import flowsolve
from flowsolve import exact
from flowsolve.operators import Rows, Scalar
from flowsolve.processes import Level, Levels

WILD = 60.0  # how much larger than the others a start is


def wild(x, t):
    """For each sample alone, and for large states far from smooth: such a sample needs many more
    steps."""
    return elementwise(x, t) + 10.0 * torch.sin(x) * (
        1.0 + torch.tanh(x.abs() - 20.0)
    )  # sigmoid is not the same in any batch


def starts(n, shape, dtype, process):
    """Starts of which every third is wild."""
    x = torch.randn(n, *shape, dtype=dtype, generator=torch.Generator().manual_seed(3))
    x[::3] *= WILD
    return process.start.R @ x


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(
    ("process", "predicts"),
    [("vp", "eps"), ("edm", "F"), ("rectified_flow", "velocity"), ("discrete", "v")],
)
def test_neighbours_do_not_change_a_bit(process, predicts, dtype):
    model = flowsolve.Denoiser(wild, PROCESSES[process], predicts, (3, 5), dtype=dtype)
    x = starts(8, (3, 5), dtype, PROCESSES[process])
    arguments = {"solver": "adaptive", "rtol": 1e-2, "atol": 1e-2}
    whole = flowsolve.solve(model, start=x, **arguments)
    spent = whole.statistics.evaluations
    assert spent.max() > 1.3 * spent.min(), "no sample is wild"
    for parts in ([1] * 8, [3, 5], [5, 2, 1]):
        runs = [flowsolve.solve(model, start=part, **arguments) for part in x.split(parts)]
        assert torch.equal(torch.cat([run.x for run in runs]), whole.x)
        for kind in range(3):
            assert torch.equal(
                torch.cat([run.statistics[kind] for run in runs]), whole.statistics[kind]
            )
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    shuffled = flowsolve.solve(model, start=x[order], **arguments)
    assert torch.equal(shuffled.x, whole.x[order]) and torch.equal(
        shuffled.statistics.evaluations, spent[order]
    )


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def test_neighbours_do_not_change_a_bit_of_a_large_sample(two_threads):
    """More elements than torch sums in one piece: with several threads its sum of one such row is
    another than that of two."""
    process = PROCESSES["vp"]
    model = flowsolve.Denoiser(elementwise, process, "eps", (40000,))
    x = torch.randn(2, 40000, generator=torch.Generator().manual_seed(0))
    arguments = {"solver": "adaptive", "rtol": 1e-2, "atol": 1e-2, "span": (None, 0.7)}
    whole = flowsolve.solve(model, start=x, **arguments)
    parts = [flowsolve.solve(model, start=part, **arguments) for part in x.split(1)]
    assert torch.equal(torch.cat([part.x for part in parts]), whole.x)


def test_what_is_spent_adds_up():
    calls = []

    def net(x, t):
        assert t.shape == (len(x),)
        calls.append(len(x))
        return wild(x, t)

    model = flowsolve.Denoiser(net, PROCESSES["vp"], "eps", (5,), per_sample=())
    solution = flowsolve.solve(
        model, solver="adaptive", start=starts(9, (5,), torch.float32, PROCESSES["vp"])
    )
    accepted, rejected, evaluations = solution.statistics
    assert evaluations.dtype == torch.int64 and evaluations.shape == (9,)
    assert torch.equal(
        evaluations, 3 * accepted + 2 * rejected + 2
    )  # the two are the line onto clean data
    assert solution.nfe == len(calls) == evaluations.max()
    assert rejected.max() > 0
    # Six of nine arrive early and leave the batch together; the last calls, of all, are the line
    # onto clean data.
    assert calls[0] == calls[-1] == 9 and set(calls) <= {9, 4, 3, 2, 1} and min(calls) <= 4
    assert sum(calls) < 2 * int(evaluations.sum())
    assert flowsolve.solve(model, solver="ddim", nfe=3).statistics is None


def test_every_sample_is_asked_on_its_own_level():
    """Labels and conditioning follow the samples, those that left the batch included."""
    seen = []

    def net(x, t, y):
        seen.append(t)
        return wild(x * y.view(-1, 1), t)

    process, tolerances = PROCESSES["vp"], {"rtol": 1e-2, "atol": 1e-2}
    x, y = (
        torch.randn(6, 4, generator=torch.Generator().manual_seed(0)),
        torch.tensor([1.0, 8.0, 1.0, 1.0, 1.0, 1.0]),
    )
    for time in (None, "logsnr", lambda level: 3.0 * level.t):
        model = flowsolve.Denoiser(net, process, "x0", (4,), time=time)
        whole = flowsolve.solve(
            model.given(y=y, per_sample=["y"]), solver="adaptive", start=x, **tolerances
        )
        assert min(len(t) for t in seen) == 1 and any(len(t.unique()) > 3 for t in seen)
        for i in range(6):
            alone = flowsolve.sample(
                model.given(y=y[i : i + 1], per_sample=["y"]),
                solver="adaptive",
                start=x[i : i + 1],
                **tolerances,
            )
            assert torch.equal(alone, whole.x[i : i + 1])


def test_predictions_of_samples_that_have_arrived_are_kept():
    model = flowsolve.Denoiser(wild, PROCESSES["vp"], "eps", (5,))
    x = starts(6, (5,), torch.float32, PROCESSES["vp"])
    solution = flowsolve.solve(model, solver="adaptive", start=x, keep="x0", span=(None, 0.1))
    for i, spent in enumerate(solution.statistics.evaluations.tolist()):
        assert (solution.x0_path[spent - 1 :, i] == solution.x0_path[spent - 1, i]).all()
        assert not torch.equal(solution.x0_path[spent - 2, i], solution.x0_path[spent - 1, i])


def test_budget_is_a_cap_on_every_sample():
    model, tolerances = mixture(PROCESSES["vp"]), {"rtol": 1e-5, "atol": 1e-5}
    whole = flowsolve.solve(model, solver="adaptive", n=5, seed=0, **tolerances)
    again = flowsolve.solve(model, solver="adaptive", n=5, seed=0, nfe=whole.nfe, **tolerances)
    assert torch.equal(again.x, whole.x)
    for nfe in (1, 2, 3, 100, whole.nfe - 1):
        with pytest.raises(
            flowsolve.BudgetExceeded, match=f"nfe={nfe} evaluations were spent at level"
        ) as caught:
            flowsolve.solve(model, solver="adaptive", n=5, seed=0, nfe=nfe, **tolerances)
        error = caught.value
        assert error.nfe == nfe and error.x.shape == (5, 2) and 0 < error.level.t <= 1
        # Going on from each sample's own level gives the run's result.
        for i, level in enumerate(
            error.level.each if len(error.level.each) > 1 else error.level.each * 5
        ):
            rest = flowsolve.sample(
                model,
                solver="adaptive",
                start=error.x[i : i + 1],
                span=(level.t, None),
                **tolerances,
            )
            assert rms(rest - whole.x[i]) < 1e-3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_sample_is_named_with_its_own_level(value):
    def net(x, t):
        return torch.where(
            (t.view(-1, 1) < 0.5) & (x[:, :1] > 0), value, 0.1 * elementwise(x, t) + torch.sign(x)
        )

    start = torch.full((4, 3), -30.0)
    start[2] = 30.0
    model = flowsolve.Denoiser(net, PROCESSES["edm"], "x0", (3,), time="t")
    with pytest.raises(flowsolve.NonFiniteError, match="NaN or Inf first at evaluation") as caught:
        flowsolve.solve(model, solver="adaptive", start=start)
    error = caught.value
    assert error.samples == [2] and error.x.shape == (4, 3)
    assert (
        isinstance(error.level, Level)
        and not isinstance(error.level, Levels)
        and error.level.t < 0.5
    )


def test_a_step_that_cannot_be_made_is_an_error_not_a_loop():
    """A state that is thrown about wildly as soon as it is asked for: no step is short enough."""

    def net(x, t):
        return torch.where(x[:, :1] > 0, 1e20 * torch.sin(1e20 * x), elementwise(x, t))

    model = flowsolve.Denoiser(net, PROCESSES["edm"], "x0", (3,), dtype=F64)
    start = torch.full((4, 3), -30.0, dtype=F64)
    start[1] = 30.0
    with pytest.raises(
        RuntimeError, match=r"gave up on sample 1 at level t=\S+ .*Loosen rtol=0.001 and atol=0.001"
    ):
        flowsolve.solve(model, solver="adaptive", start=start)


def test_rows_are_scalars_for_every_sample():
    a, b = (
        Rows(torch.tensor([2.0, 0.5, 3.0], dtype=F64).numpy()),
        Rows(torch.tensor([4.0, 9.0, 1.0], dtype=F64).numpy()),
    )
    x = torch.randn(3, 2, 2)
    for result, numbers in (
        (a @ b, lambda p, q: p @ q),
        (a + b, lambda p, q: p + q),
        (a - b, lambda p, q: p - q),
        (2.0 * b, lambda p, q: 2.0 * q),
        (b.root(), lambda p, q: q.root()),
        (a.inverse(), lambda p, q: p.inverse()),
        (a.eye(), lambda p, q: p.eye()),
    ):
        for i, y in enumerate(result @ x):
            torch.testing.assert_close(
                y, numbers(Scalar(float(a.value[i])), Scalar(float(b.value[i]))) @ x[i]
            )
    assert a.eye().one and not a.one and not a.singular and (a * 0.0).zero and (a - a).singular
    assert torch.equal(a.added_to(x, x), x + a @ x) and (a @ x).dtype == torch.float32
    with pytest.raises(ZeroDivisionError):
        (a - a).inverse()
    with pytest.raises(ValueError):
        (-a).root()


@pytest.mark.parametrize("process", PROCESSES)
def test_every_model_can_be_asked_on_levels_of_the_samples(process):
    process = PROCESSES[process]
    each = [process.at("sigma", sigma) for sigma in (0.05, 0.7, 20.0)]
    levels, x = Levels(each), torch.randn(3, 2, dtype=F64)
    models = [
        mixture(process),
        exact.Gaussian(process, [0.3, -0.2], torch.tensor([[0.5, 0.2], [0.2, 0.3]])),
        exact.Dirac(process, [0.3, -0.2]),
        exact.Empirical(process, torch.randn(30, 2, generator=torch.Generator().manual_seed(0))),
        *(
            flowsolve.Denoiser(elementwise, process, kind, (2,), dtype=F64)
            for kind in (
                "eps",
                "x0",
                "v",
                "flow",
                "score",
                "F",
                *["velocity"] * (not process.entries),
            )
        ),
    ]
    for model in models:
        x0, eps = model(x, levels)
        for i, level in enumerate(each):
            one = model(x[i : i + 1], level)
            torch.testing.assert_close(x0[i : i + 1], one.x0, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(eps[i : i + 1], one.eps, rtol=1e-12, atol=1e-12)
    assert (
        not levels.clean
        and not levels.pure_noise
        and levels.t == each[-1].t
        and "one for each sample" in str(levels)
    )
    assert Levels([*each, process.clean]).clean and each[0].each == (each[0],)
