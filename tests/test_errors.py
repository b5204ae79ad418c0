"""Misuse: every message names the argument, the value and what was expected."""

import pytest
import torch
from problems import PROCESSES, elementwise

import flowsolve

MODEL = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (3, 4))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"solver": "ddmi"}, ValueError, r"solver='ddmi' is not known\. Did you mean 'ddim'\?"),
        ({"solver": 3}, TypeError, "solver=3: expected a name"),
        ({"solver": "ddim", "etta": 0.5}, TypeError, r"option='etta' is not known\. Did you mean 'eta'"),
        ({"solver": "heun", "eta": 0.5}, TypeError, "an option of RungeKutta"),
        ({"nfe": 0}, ValueError, "nfe=0: expected a positive integer"),
        ({"nfe": 2.5}, TypeError, "nfe=2.5"),
        ({"nfe": True}, TypeError, "nfe=True"),
        ({"grid": "karas"}, ValueError, r"grid='karas' is not known\. Did you mean 'karras'"),
        ({"grid": [0.1, 0.5]}, ValueError, "strictly decreasing, from noisy to quiet, but 0.1 is followed by 0.5"),
        ({"grid": [1.0, 0.5, 0.5]}, ValueError, "0.5 is followed by 0.5"),
        ({"grid": [1.0]}, ValueError, "at least two times"),
        ({"grid": [1.0, "a"]}, TypeError, "grid="),
        ({"grid": [2.0, 0.5]}, ValueError, "t=2.0 is outside"),
        ({"grid": [1.0, float("nan")]}, ValueError, "followed by nan"),
        ({"grid": [1.0, 0.5, 0.2, 0.0], "nfe": 2}, ValueError, "a grid of 3 steps costs 3 evaluations .*, but nfe=2"),
        ({"grid": [1.0, 0.0], "span": (0.5, None)}, ValueError, "either grid=.* or span"),
        ({"span": 0.5}, TypeError, "span=0.5: expected a pair"),
        ({"span": (0.2, 0.7)}, ValueError, "not quieter than its start"),
        ({"solver": "torchdiffeq:rk4", "nfe": 3, "span": (1.0, 0.1)}, ValueError, "nfe=3 does not pay for one step"),
        ({"n": 0}, ValueError, "n=0: expected a positive integer"),
        ({"n": 2.0}, TypeError, "n=2.0"),
        ({"first": -1}, ValueError, "first=-1"),
        ({"keep": "paths"}, ValueError, r"keep='paths' is not known\. Did you mean 'path'"),
        ({"start": [1.0]}, TypeError, r"start is list; expected a floating-point tensor of shape \(n, 3, 4\)"),
        ({"start": torch.ones(2, 3, 4, dtype=torch.int64)}, TypeError, "start is a tensor of torch.int64"),
        ({"start": torch.ones(2, 4, 3)}, ValueError, r"start has shape \(2, 4, 3\); expected \(n, 3, 4\)"),
        ({"start": torch.ones(3, 4)}, ValueError, r"start has shape \(3, 4\)"),
        ({"start": torch.ones(0, 3, 4)}, ValueError, "with n >= 1"),
    ],
)
def test_solve(arguments, error, message):
    with pytest.raises(error, match=message):
        flowsolve.solve(MODEL, **arguments)


def test_a_bare_network_is_told_how_to_wrap_itself():
    with pytest.raises(TypeError, match=r'flowsolve.Denoiser\(net, process=flowsolve.VP\(\), predicts="eps", shape=\(3, 32, 32\)\)'):
        flowsolve.sample(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"net": 3}, TypeError, "net=3 is not callable"),
        ({"process": "vp"}, TypeError, "process='vp' is not a process"),
        ({"predicts": "epsilon"}, ValueError, r"predicts='epsilon' is not known\. Did you mean 'eps'"),
        ({"shape": ()}, ValueError, r"shape=\(\)"),
        ({"shape": 3}, TypeError, "shape=3: expected a tuple"),
        ({"shape": (3, 0)}, ValueError, "shape="),
        ({"time": "sigmas"}, ValueError, "Did you mean 'sigma'"),
        ({"sigma_data": 0.0}, ValueError, "sigma_data=0.0"),
    ],
)
def test_denoiser(arguments, error, message):
    good = {"net": elementwise, "process": PROCESSES["vp"], "predicts": "eps", "shape": (3,)}
    with pytest.raises(error, match=message):
        flowsolve.Denoiser(**{**good, **arguments})


def test_networks_that_return_the_wrong_thing():
    for net, error, message in (
        (lambda x, t: (x, t), TypeError, "the network returned tuple"),
        (lambda x, t: x[:, :1], ValueError, r"returned shape \(1, 1\) for a state of shape \(1, 3\)"),
        (lambda x, t: torch.cat([x, x], 1), ValueError, "a learned variance"),
    ):
        with pytest.raises(error, match=message):
            flowsolve.sample(flowsolve.Denoiser(net, PROCESSES["vp"], "eps", (3,)))


@pytest.mark.parametrize("solver", ["ddim", "heun", "ab3", "dopri5", "scipy:RK45"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_networks_are_reported_with_their_level(solver, bad):
    def net(x, t):
        out = elementwise(x, t)
        return torch.where((t.view(-1, 1) < 0.5) & (torch.arange(len(x)).view(-1, 1) == 2), bad, out)

    model = flowsolve.Denoiser(net, PROCESSES["vp"], "eps", (3,))
    with pytest.raises(flowsolve.NonFiniteError, match="NaN or Inf first at evaluation") as caught:
        flowsolve.solve(model, solver=solver, n=4, seed=0, **({} if solver in ("dopri5", "scipy:RK45") else {"nfe": 20}))
    error = caught.value
    assert error.level.t < 0.5 and error.samples == [2] and error.x.shape == (4, 3)


def test_eps_at_pure_noise_is_refused_with_the_way_out():
    model = flowsolve.Denoiser(elementwise, PROCESSES["rectified_flow"], "eps", (3,))
    with pytest.raises(ValueError, match=r"says nothing about x0 at pure noise.*span=\(t, None\)"):
        flowsolve.sample(model)
    assert torch.isfinite(flowsolve.sample(model, span=(0.99, None))).all()


def test_devices_and_batches():
    class Meta(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(1, device="meta"))

    model = flowsolve.Denoiser(Meta(), PROCESSES["vp"], "eps", (3,))
    with pytest.raises(ValueError, match="start is on cpu, the network on meta; move one to the other"):
        flowsolve.sample(model, start=torch.ones(2, 3))
    with pytest.raises(ValueError, match="batch_size=0"):
        flowsolve.sample(MODEL, n=3, batch_size=0)
    with pytest.raises(ValueError, match="start and batch_size cannot be combined"):
        flowsolve.sample(MODEL, n=3, batch_size=2, start=torch.ones(3, 3, 4))


def test_callback_can_stop_and_an_interrupt_passes_through():
    seen = []
    solution = flowsolve.solve(
        MODEL, solver="ddim", nfe=10, seed=0, callback=lambda state: seen.append(state) or state.step == 4, keep="path"
    )
    assert solution.stopped and solution.nfe == 4 and len(solution.grid) == 5 and len(solution.path) == 5
    assert [state.nfe for state in seen] == [1, 2, 3, 4] and torch.equal(seen[-1].x, solution.x)
    live = flowsolve.solve(MODEL, solver="torchdiffeq:euler", nfe=10, seed=0, callback=lambda state: state.step == 4)
    assert live.stopped and torch.allclose(live.x, solution.x, atol=1e-5)

    def interrupt(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flowsolve.solve(MODEL, callback=interrupt)


def test_progress_bar(capsys):
    flowsolve.sample(MODEL, nfe=5, progress=True)
    assert "5" in capsys.readouterr().err
