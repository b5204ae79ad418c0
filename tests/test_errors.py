"""Misuse: every message names the argument, the value and what was expected."""

import pytest
import torch
from problems import PROCESSES, elementwise

import flowsolve
from flowsolve import solvers

MODEL = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (3, 4))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"solver": "ddmi"}, ValueError, r"solver='ddmi' is not known\. Did you mean 'ddim'\?"),
        ({"solver": 3}, TypeError, "solver=3: expected a name"),
        (
            {"solver": "ddim", "etta": 0.5},
            TypeError,
            r"option='etta' is not known\. Did you mean 'eta'",
        ),
        ({"solver": "heun", "eta": 0.5}, TypeError, "an option of RungeKutta"),
        (
            {"nfee": 5},
            TypeError,
            r"argument='nfee' is not known\. Did you mean 'nfe'\? Known:.*span",
        ),
        ({"batchsize": 5}, TypeError, r"argument='batchsize' .* Did you mean 'batch_size'"),
        ({"nfe": 0}, ValueError, "nfe=0: expected a positive integer"),
        ({"nfe": 2.5}, TypeError, "nfe=2.5"),
        ({"nfe": True}, TypeError, "nfe=True"),
        ({"grid": "karas"}, ValueError, r"grid='karas' is not known\. Did you mean 'karras'"),
        (
            {"grid": [0.1, 0.5]},
            ValueError,
            "strictly decreasing, from noisy to quiet, but 0.1 is followed by 0.5",
        ),
        ({"grid": [1.0, 0.5, 0.5]}, ValueError, "0.5 is followed by 0.5"),
        ({"grid": [1.0]}, ValueError, "at least two times"),
        ({"grid": [1.0, "a"]}, TypeError, "grid="),
        ({"grid": [2.0, 0.5]}, ValueError, "t=2.0 is outside"),
        ({"grid": [1.0, float("nan")]}, ValueError, r"grid\[1\]=nan: expected a time"),
        (
            {"grid": [1.0, 0.5, 0.2, 0.0], "nfe": 2},
            ValueError,
            "a grid of 3 steps costs 3 evaluations .*, but nfe=2",
        ),
        ({"grid": [1.0, 0.0], "span": (0.5, None)}, ValueError, "either grid=.* or span"),
        ({"span": 0.5}, TypeError, "span=0.5: expected a pair, each a finite number or None"),
        ({"span": (0.2, 0.7)}, ValueError, "not quieter than its start"),
        (
            {"solver": "torchdiffeq:rk4", "nfe": 3, "span": (1.0, 0.1)},
            ValueError,
            "nfe=3 does not pay for one step",
        ),
        ({"n": 0}, ValueError, "n=0: expected a positive integer"),
        ({"n": 2.0}, TypeError, "n=2.0"),
        ({"first": -1}, ValueError, "first=-1"),
        ({"keep": "paths"}, ValueError, r"keep='paths' is not known\. Did you mean 'path'"),
        (
            {"start": [1.0]},
            TypeError,
            r"start is list; expected a floating-point tensor of shape \(n, 3, 4\)",
        ),
        (
            {"start": torch.ones(2, 3, 4, dtype=torch.int64)},
            TypeError,
            "start is a tensor of torch.int64",
        ),
        (
            {"start": torch.ones(2, 4, 3)},
            ValueError,
            r"start has shape \(2, 4, 3\); expected \(n, 3, 4\)",
        ),
        ({"start": torch.ones(3, 4)}, ValueError, r"start has shape \(3, 4\)"),
        ({"start": torch.ones(0, 3, 4)}, ValueError, "with n >= 1"),
    ],
)
def test_solve(arguments, error, message):
    with pytest.raises(error, match=message):
        flowsolve.solve(MODEL, **arguments)


def test_a_bare_network_is_told_how_to_wrap_itself():
    with pytest.raises(
        TypeError,
        match=r"model=.*: expected a denoiser; wrap the network .*"
        r'flowsolve.Denoiser\(net, process=flowsolve.VP\(\), predicts="eps", '
        r"shape=\(3, 32, 32\)\)",
    ):
        flowsolve.sample(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"net": 3}, TypeError, r"net=3: expected a network called as net\(x, time"),
        ({"process": "vp"}, TypeError, "process='vp': expected a process, such as"),
        (
            {"predicts": "epsilon"},
            ValueError,
            r"predicts='epsilon' is not known\. Did you mean 'eps'",
        ),
        ({"shape": ()}, ValueError, r"shape=\(\)"),
        ({"shape": 3}, TypeError, "shape=3: expected the shape of one sample"),
        ({"shape": (3, 0)}, ValueError, r"shape\[1\]=0: expected a positive integer"),
        ({"time": "sigmas"}, ValueError, "Did you mean 'sigma'"),
        ({"predicts": 3}, TypeError, "predicts=3: expected a name such as"),
    ],
)
def test_denoiser(arguments, error, message):
    good = {"net": elementwise, "process": PROCESSES["vp"], "predicts": "eps", "shape": (3,)}
    with pytest.raises(error, match=message):
        flowsolve.Denoiser(**{**good, **arguments})


def test_networks_that_return_the_wrong_thing():
    for net, error, message in (
        (lambda x, t: (x, t), TypeError, "the network returned tuple"),
        (
            lambda x, t: x[:, :1],
            ValueError,
            r"returned shape \(1, 1\) for a state of shape \(1, 3\)",
        ),
        (lambda x, t: torch.cat([x, x], 1), ValueError, "a learned variance"),
    ):
        with pytest.raises(error, match=message):
            flowsolve.sample(flowsolve.Denoiser(net, PROCESSES["vp"], "eps", (3,)))


@pytest.mark.parametrize("solver", ["ddim", "heun", "ab3", "dopri5", "scipy:RK45"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_networks_are_reported_with_their_level(solver, bad):
    def net(x, t):
        out = elementwise(x, t)
        return torch.where(
            (t.view(-1, 1) < 0.5) & (torch.arange(len(x)).view(-1, 1) == 2), bad, out
        )

    model = flowsolve.Denoiser(net, PROCESSES["vp"], "eps", (3,))
    with pytest.raises(flowsolve.NonFiniteError, match="NaN or Inf first at evaluation") as caught:
        flowsolve.solve(
            model,
            solver=solver,
            n=4,
            seed=0,
            **({} if solver in ("dopri5", "scipy:RK45") else {"nfe": 20}),
        )
    error = caught.value
    assert error.level.t < 0.5 and error.samples == [2] and error.x.shape == (4, 3)


def test_eps_at_pure_noise_is_refused_with_the_way_out():
    model = flowsolve.Denoiser(elementwise, PROCESSES["rectified_flow"], "eps", (3,))
    with pytest.raises(ValueError, match=r"says nothing about x0 at pure noise.*span=\(t, None\)"):
        flowsolve.sample(model)
    assert torch.isfinite(flowsolve.sample(model, span=(0.99, None))).all()


def test_devices_and_batches():
    with pytest.raises(ValueError, match="start is on meta, the network on None; move one to"):
        flowsolve.sample(MODEL, start=torch.ones(2, 3, 4, device="meta"))
    for device in ("meta", "gpu", "cuda:99", "cpu:x"):
        with pytest.raises(ValueError, match=f"device='{device}' is not available"):
            flowsolve.sample(MODEL, device=device)
    with pytest.raises(ValueError, match="batch_size=0"):
        flowsolve.sample(MODEL, n=3, batch_size=0)
    with pytest.raises(ValueError, match="start and batch_size cannot be combined"):
        flowsolve.sample(MODEL, n=3, batch_size=2, start=torch.ones(3, 3, 4))


def test_callback_can_stop_and_an_interrupt_passes_through():
    seen = []
    solution = flowsolve.solve(
        MODEL,
        solver="ddim",
        nfe=10,
        seed=0,
        callback=lambda state: seen.append(state) or state.step == 4,
        keep="path",
    )
    assert (
        solution.stopped
        and solution.nfe == 4
        and len(solution.grid) == 5
        and len(solution.path) == 5
    )
    assert [state.nfe for state in seen] == [1, 2, 3, 4] and torch.equal(seen[-1].x, solution.x)
    live = flowsolve.solve(
        MODEL, solver="torchdiffeq:euler", nfe=10, seed=0, callback=lambda state: state.step == 4
    )
    assert live.stopped and torch.allclose(live.x, solution.x, atol=1e-5)

    def interrupt(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flowsolve.solve(MODEL, callback=interrupt)


def test_progress_bar(capsys):
    flowsolve.sample(MODEL, nfe=5, progress=True)
    assert "5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: solvers.Multistep(2), TypeError, "predictor=2: expected a .*Polynomial"),
        (
            lambda: solvers.Multistep(solvers.Polynomial(2), starter=solvers.DDIM()),
            TypeError,
            r"starter=DDIM\(.*\): expected a flowsolve.solvers.Starter",
        ),
        (
            lambda: solvers.Multistep(solvers.Polynomial(2), starter=solvers.Starter("heun")),
            TypeError,
            "solver='heun': expected a flowsolve.solvers object",
        ),
        (lambda: solvers.add("heun"), TypeError, "row='heun': expected a flowsolve.solvers.Row"),
        (lambda: solvers.ReverseSDE("ddim"), TypeError, "inner='ddim': expected a"),
        (lambda: solvers.Churn(solvers.Adaptive()), ValueError, "inner=Adaptive.*a solver with a"),
        (lambda: solvers.Restart(solvers.SciPy("RK45")), ValueError, "inner=SciPy"),
        (lambda: solvers.DDIM(-1.0), ValueError, "eta=-1.0.*0 is deterministic, 1 is DDPM"),
        (
            lambda: solvers.add(solvers.Row("ddim", solvers.DDIM(), "one step", "again")),
            ValueError,
            "name='ddim' is taken",
        ),
        (
            lambda: solvers.add(solvers.Row("auto", solvers.DDIM(), "one step", "me")),
            ValueError,
            "name='auto' is taken",
        ),
        (
            lambda: solvers.add(solvers.Row("mine", "ddim", "one step", "me")),
            TypeError,
            "solver='ddim': expected a flowsolve.solvers object",
        ),
        (
            lambda: solvers.add(solvers.Row("mine", solvers.DDIM(), "one-step", "me")),
            ValueError,
            "family='one-step': expected one of one step, multistep",
        ),
        (lambda: flowsolve.TrigFlow(-1.0), ValueError, "sigma_data=-1.0: expected a positive"),
    ],
)
def test_solvers_and_processes_that_cannot_be(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_names_that_are_taken():
    with pytest.raises(ValueError, match="name='eps' is taken by a prediction"):
        type("Mine", (flowsolve.Parametrization,), {}, name="eps")
    with pytest.raises(ValueError, match="name='karras' is taken by a grid"):
        type("Mine", (flowsolve.grids.Grid,), {}, name="karras")


def test_a_prediction_has_to_be_hashable():
    class Unhashable(flowsolve.Parametrization):
        __hash__ = None

        def target(self, process, level):
            return level.A, level.R

    with pytest.raises(TypeError, match=r"cannot be hashed.*expected a frozen dataclass"):
        flowsolve.Denoiser(lambda x, t: x, flowsolve.VP(), Unhashable(), (2,))


@pytest.mark.parametrize(
    ("grid", "kind", "message"),
    [
        ("karras(roh=5)", TypeError, "option='roh' is not known. Did you mean 'rho'"),
        ("karras(5)", ValueError, "expected options by name between the parentheses"),
        ("karras(rho=-1)", ValueError, "rho=-1: expected a positive number"),
        ("karas(rho=5)", ValueError, "grid='karas' is not known. Did you mean 'karras'"),
        ("karras(rho=x)", ValueError, "expected options by name"),
        ("uniform(n=3)", TypeError, "option='n' is not known"),
        ("karras(rho=5)(rho=6)", ValueError, "expected options by name"),
        ("karras(rho=5, rho=6)", ValueError, "expected options by name"),
        ("karras(**{'rho': 5})", ValueError, "expected options by name"),
    ],
)
def test_grids_by_name_with_options_that_cannot_be(grid, kind, message):
    model = flowsolve.Denoiser(elementwise, flowsolve.VP(), "eps", (2,))
    with pytest.raises(kind, match=message):
        flowsolve.sample(model, grid=grid)
    for good in ("Karras(rho=5)", "karras", flowsolve.grids.Karras, flowsolve.grids.Karras(5)):
        assert flowsolve.sample(model, grid=good, nfe=3, seed=0).isfinite().all()


def test_a_solver_that_is_no_dataclass():
    class Mine(solvers.DDIM):
        def __init__(self, step):
            super().__init__()
            object.__setattr__(self, "step_size", step)

    model = flowsolve.Denoiser(elementwise, flowsolve.VP(), "eps", (2,))
    with pytest.raises(TypeError, match=r"an __init__ of its own.*expected a frozen dataclass"):
        flowsolve.sample(model, solver=Mine(1.0))
    with pytest.raises(TypeError, match=r"option='points' is not known.*Known: corrector, finish"):
        flowsolve.sample(model, solver="ab3", points=4)


def test_a_grid_of_ones_own_gives_all_its_levels():
    """What gives the inner ones alone would lose levels without a word."""

    class Inner(flowsolve.grids.VariableGrid):
        def values(self, first, last, n):
            return super().values(first, last, n)[1:-1]

    with pytest.raises(ValueError, match=r"Inner\.values gave 7 numbers for 8 steps; expected 9"):
        flowsolve.plan("ddim", flowsolve.EDM(), nfe=9, grid=Inner())
