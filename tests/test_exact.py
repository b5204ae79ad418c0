"""Exact denoisers against autograd, direct sums and their own samples."""

import copy
import inspect
import math
import pickle
from dataclasses import replace

import pytest
import torch
from problems import (
    F64,
    MATRIX_PROCESSES,
    PROCESSES,
    matrix_mixture,
    mixture,
    mixture_run,
)

import flowsolve
from flowsolve import exact, training
from flowsolve.processes import Level, Levels

processes = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
everywhere = pytest.mark.parametrize("name", [*PROCESSES, *MATRIX_PROCESSES])


def models(process):
    full = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=F64)
    return [
        mixture(process),
        exact.Gaussian(process, [0.3, -0.2], full),
        exact.Gaussian(process, [0.3, -0.2], torch.tensor([0.5, 0.1])),
        exact.Dirac(process, [0.3, -0.2]),
        exact.Empirical(process, torch.randn(30, 2, generator=torch.Generator().manual_seed(0))),
        exact.Mixture(process, [1, 2], [[0.0, 1.0], [1.0, 0.0]], 0.2),
    ]


@processes
def test_score_is_the_gradient_of_the_log_density(process):
    for sigma in (0.05, 0.7, 20.0):
        level = process.at("sigma", min(sigma, process.start.sigma))
        for model in models(process):
            x = model.draw(6, level=level).requires_grad_(True)
            (gradient,) = torch.autograd.grad(model.log_density(x, level).sum(), x)
            scale = float(gradient.abs().max()) + 1
            torch.testing.assert_close(model.score(x, level), gradient, rtol=0, atol=1e-10 * scale)


@processes
def test_prediction_adds_up_and_survives_the_solvers_route(process):
    for level in (process.level(process.t_min), process.at("sigma", 1.0), process.start):
        for model in models(process):
            x = model.draw(6, level=level)
            x0, eps = model(x, level)
            torch.testing.assert_close(
                level.A @ x0 + level.R @ eps, x, rtol=0, atol=1e-13 * (1 + float(x.abs().max()))
            )
            route = flowsolve.Denoiser.__call__(
                model, x, level
            )  # through ε̂ − x̂0, as solvers take it
            torch.testing.assert_close(
                route.x0, x0, rtol=0, atol=1e-13 * (1 + float(x.abs().max()))
            )
            torch.testing.assert_close(
                route.eps,
                eps,
                rtol=0,
                atol=1e-13 * (1 + float(x.abs().max()) / max(level.R.value, 1)),
            )


def test_posterior_mean_by_hand():
    """x̂0 of point masses is the softmax-weighted mean of the data."""
    process, data = PROCESSES["vp"], torch.randn(9, 3, 2, dtype=F64)
    model, level = exact.Empirical(process, data), process.level(0.4)
    x = torch.randn(5, 3, 2, dtype=F64)
    a, r = level.A.value, level.R.value
    log_weights = torch.stack(
        [-(x - a * point).flatten(1).square().sum(1) / (2 * r * r) for point in data], 1
    )
    expected = torch.einsum("bk,kij->bij", log_weights.softmax(1), data)
    torch.testing.assert_close(model(x, level).x0, expected, rtol=0, atol=1e-12)


def test_density_integrates_to_one():
    model = mixture(PROCESSES["vp"])
    line = torch.linspace(-8, 8, 401, dtype=F64)
    x = torch.cartesian_prod(line, line)
    for sigma in (0.3, 3.0):
        level = PROCESSES["vp"].at("sigma", sigma)
        assert float(
            model.log_density(x, level).exp().sum() * (line[1] - line[0]) ** 2
        ) == pytest.approx(1, abs=1e-6)


def test_samples_have_the_moments_of_the_law():
    process, n = PROCESSES["edm"], 40000
    model = mixture(process)
    x = model.draw(n, seed=1)
    weights = model.law.log_weights.exp()
    mean = weights @ model.law.means
    assert (x.mean(0) - mean).abs().max() < 5 * float(x.std(0).max()) / math.sqrt(n)
    noisy = model.draw(n, level=2.0, seed=1)
    assert torch.allclose(noisy.var(0), x.var(0) + 4.0, rtol=5 * math.sqrt(2 / n) * 2)
    assert torch.equal(model.draw(3, seed=4), model.draw(3, seed=4))


@pytest.mark.parametrize("process", ["vp", "edm", "rectified_flow"])
def test_gaussian_flow_solves_the_ode(process):
    process = PROCESSES[process]
    for model in models(process)[1:4]:
        s, t = process.at("sigma", 5.0), process.at("sigma", 0.1)
        x = model.draw(4, level=s)
        ode = flowsolve.solve(
            model, solver="scipy:DOP853", rtol=1e-12, atol=1e-12, grid=[s.t, t.t], start=x
        ).x
        torch.testing.assert_close(model.flow(x, s, t), ode, rtol=0, atol=1e-8)
        torch.testing.assert_close(model.flow(model.flow(x, s, t), t, s), x, rtol=0, atol=1e-10)
    assert mixture_run(process, 3.0, 0.3)[2].isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: exact.Mixture(p, [1.0], [[0.0], [1.0]]), "expected .K,. and"),
        (lambda p: exact.Mixture(p, [1.0, -1.0], [[0.0], [1.0]]), "expected positive numbers"),
        (
            lambda p: exact.Mixture(p, [1.0, 1.0], [[0.0], [1.0]], [0.1]),
            "1 covariances for 2 means",
        ),
        (lambda p: exact.Gaussian(p, [0.0, 1.0], torch.ones(3)), r"a covariance has shape \(3,\)"),
        (lambda p: exact.Gaussian(p, [0.0, 1.0], -1.0), "negative variance"),
        (lambda p: exact.Gaussian(p, [0.0, 1.0], [[1.0, 2.0], [2.0, 1.0]]), "negative variance -1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make(PROCESSES["vp"])


def every(name: str) -> exact.Mixture:
    return mixture(PROCESSES[name]) if name in PROCESSES else matrix_mixture(name)


def wrapped(model: exact.Exact, **fields) -> flowsolve.Denoiser:
    """The same as a network in a plain Denoiser."""

    def net(x, time):
        both = [model(x[i : i + 1], t) for i, t in enumerate(time.tolist())]
        x0, eps = (torch.cat(parts) for parts in zip(*both, strict=True))
        return eps - x0 if model.process.scalar else eps

    predicts = "flow" if model.process.scalar else "eps"
    return flowsolve.Denoiser(
        net, model.process, predicts, model.shape, time="t", dtype=F64, **fields
    )


def some_levels(process, n: int) -> list[Level]:
    """Noisy levels, all different."""
    low, high = process.t_min, process.t_max
    return [process.level(high - 0.9 * (high - low) * k / n) for k in range(n)]


@everywhere
def test_the_network_finds_the_level_by_its_time(name):
    """To the bit what the denoiser says that is given the level itself."""
    model = every(name)
    levels = some_levels(model.process, 5)
    x = model.draw(5, level=levels[0])
    for level, times in zip(levels, model.times(levels, x), strict=True):
        assert torch.equal(model.net(x, times), model.evaluate(x, level))
        assert torch.equal(model.net(x, times), flowsolve.Denoiser.evaluate(model, x, level))
    times = torch.tensor([level.t for level in levels], dtype=F64)
    alone = torch.cat([model.evaluate(x[i : i + 1], level) for i, level in enumerate(levels)])
    torch.testing.assert_close(model.net(x, times), alone, rtol=1e-13, atol=1e-13)
    if model.process.scalar:
        assert torch.equal(model.net(x, times), model.evaluate(x, Levels(levels)))


@everywhere
def test_correct_x0_is_that_of_a_network(name):
    model, clip = every(name), flowsolve.clip(-0.1, 0.1)
    clipped, other = replace(model, correct_x0=clip), wrapped(model, correct_x0=clip)
    for level in some_levels(model.process, 3):
        x = model.draw(5, level=level)
        assert float(model(x, level).x0.abs().max()) > 0.11
        assert float(clipped(x, level).x0.abs().max()) < 0.1 + 1e-12
        for ours, theirs in zip(clipped(x, level), other(x, level), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        assert torch.equal(clipped.score(x, level), model.score(x, level))
        assert torch.equal(clipped.log_density(x, level), model.log_density(x, level))
    ours, theirs = (
        flowsolve.sample(each, solver="ddim", nfe=4, n=3, seed=0).to(F64)
        for each in (clipped, other)
    )
    assert float(ours.abs().max()) < 0.1 + 1e-6
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@processes
def test_replaced_models_are_what_they_were(process):
    for model in models(process):
        for other in (
            replace(model),
            replace(model, correct_x0=None),
            model.given(),
            model.rows(slice(0, 2)),
        ):
            assert type(other) is type(model) and other.net is model.net
            level = process.level(process.t_min)
            x = other.draw(4, level=level)
            assert torch.equal(x, model.draw(4, level=level))
            assert torch.equal(other(x, level).x0, model(x, level).x0)
            assert torch.equal(other.score(x, level), model.score(x, level))
            assert torch.equal(other.log_density(x, level), model.log_density(x, level))
            if isinstance(other, exact.Gaussian):
                assert torch.equal(other.flow(x, level, 0.5), model.flow(x, level, 0.5))


def test_what_belongs_to_the_law_is_not_replaced():
    model = exact.Dirac(flowsolve.VP(), [0.3, -0.2])
    assert replace(model, process=flowsolve.VP(beta_max=20.0)).process == model.process
    for fields in (
        {"process": flowsolve.VP(beta_max=19.0)},
        {"predicts": "eps"},
        {"shape": (3,)},
        {"time": None},
        {"dtype": torch.float32},
    ):
        (name,) = fields
        with pytest.raises(ValueError, match=rf"^{name}=.* was made for {name}=.*or a new Dirac"):
            replace(model, **fields)
    with pytest.raises(TypeError, match="not the law of an exact denoiser"):
        replace(model, net=lambda x, time: x)


def test_constructors_say_what_they_take():
    assert [*inspect.signature(exact.Mixture).parameters] == [
        "process",
        "weights",
        "means",
        "covariances",
    ]
    assert [*inspect.signature(exact.Empirical).parameters] == ["process", "data"]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'means'"):
        exact.Mixture(flowsolve.VP(), [1.0])


def test_conditioning_is_refused_as_by_any_network():
    model = mixture(PROCESSES["vp"]).given(y=1)
    assert model.conditioning == {"y": 1} and model.draw(2).shape == (2, 2)
    for ask in (
        lambda: model(model.draw(2), 0.5),
        lambda: model.evaluate(model.draw(2), model.process.level(0.5)),
        lambda: flowsolve.sample(model, nfe=3, n=2),
    ):
        with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
            ask()


@everywhere
def test_simple_is_the_mean_square_error(name):
    model, generator = every(name), torch.Generator().manual_seed(0)
    levels, x0 = some_levels(model.process, 4), model.draw(4)
    eps = torch.randn(4, *model.state_shape, dtype=F64, generator=generator)
    state, errors = model.process.state(x0), {"eps": [], "x0": [], None: []}
    for i, level in enumerate(levels):
        x = level.A @ state[i : i + 1] + level.R @ eps[i : i + 1]
        said = model(x, level)
        errors["eps"].append(said.eps - eps[i : i + 1])
        errors["x0"].append(said.x0 - state[i : i + 1])
        errors[None].append(
            errors["eps"][i] - errors["x0"][i] if model.process.scalar else errors["eps"][i]
        )
    for on, parts in errors.items():
        expected = torch.cat(parts).square().flatten(1).mean(1)
        loss = training.simple(model, x0, eps, levels, on=on)
        torch.testing.assert_close(loss, expected, rtol=1e-8, atol=1e-12)


@processes
def test_bounds_are_those_of_a_network(process):
    data = torch.tensor([[-1.0, 1.0], [0.0, -1.0], [1.0, 0.0]], dtype=F64)
    model = exact.Mixture(process, [1.0, 1.0, 1.0], data, 0.01)
    levels, other = some_levels(process, 6), wrapped(model)
    for measure in (
        lambda m: training.l_gamma(m, data, levels),
        lambda m: training.bound(m, data, levels, bins=3).total,
    ):
        ours = measure(model)
        assert ours.isfinite().all()
        torch.testing.assert_close(ours, measure(other), rtol=1e-10, atol=1e-10)


@everywhere
def test_copies_and_pickles(name):
    model = every(name)
    level = some_levels(model.process, 1)[0]
    x = model.draw(3, level=level)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other) is type(model) and other.process == model.process
        assert torch.equal(other.draw(3, level=level), x)
        assert torch.equal(other.evaluate(x, level), model.evaluate(x, level))
        assert torch.equal(
            replace(other, correct_x0=flowsolve.clip())(x, level).eps,
            replace(model, correct_x0=flowsolve.clip())(x, level).eps,
        )
