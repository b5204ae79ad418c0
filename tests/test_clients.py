"""k-diffusion's sampler signature and torchdiffeq's odeint, against loops written out here and
against torchdiffeq."""

from __future__ import annotations

import inspect
import math
from itertools import pairwise

import pytest
import torch
import torchdiffeq

import flowsolve
from flowsolve import exact
from flowsolve.integrations import kdiffusion, odeint

GENERATOR = torch.Generator().manual_seed(0)
W = torch.randn(12, 12, generator=GENERATOR) / 4
X = torch.randn(3, 12, generator=GENERATOR)
SIGMAS = [14.6, 9.0, 5.0, 2.5, 1.2, 0.5, 0.2, 0.05, 0.0]
FLOW = [1.0, 0.9, 0.75, 0.5, 0.3, 0.1, 0.0]
#: A few steps of float32, of the largest value.
ROUNDING = 2e-6


def denoise(x, sigma, **given):
    """A rough network of x0 + σ ε."""
    s = sigma.view(-1, 1)
    scaled = x / (1 + s**2).sqrt()
    return torch.tanh(scaled @ W.to(x.dtype)) * s.clamp(max=1) + x / (1 + s**2)


def off(x, y):
    return float((x - y).abs().max() / y.abs().max())


def euler(x, sigmas):
    for s, t in pairwise(sigmas):
        d = (x - denoise(x, torch.full((len(x),), s))) / s
        x = x + d * (t - s)
    return x


def heun(x, sigmas):
    for s, t in pairwise(sigmas):
        d = (x - denoise(x, torch.full((len(x),), s))) / s
        y = x + d * (t - s)
        if t:
            e = (y - denoise(y, torch.full((len(x),), t))) / t
            y = x + 0.5 * (d + e) * (t - s)
        x = y
    return x


def dpmpp_2m(x, sigmas):
    # arXiv 2211.01095, algorithm 2, in λ = −log σ.
    before, h_before = None, 0.0
    for s, t in pairwise(sigmas):
        x0 = denoise(x, torch.full((len(x),), s))
        if t == 0.0:
            return x0
        h, d = math.log(s / t), x0
        if before is not None:
            r = h_before / h
            d = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before
        x = t / s * x - math.expm1(-h) * d
        before, h_before = x0, h
    return x


@pytest.mark.parametrize(
    ("solver", "loop"), [("euler", euler), ("sample_heun", heun), ("dpmpp_2m", dpmpp_2m)]
)
@pytest.mark.parametrize("cut", [None, 5])
def test_samplers_are_k_diffusions(solver, loop, cut):
    sigmas = SIGMAS[:cut]
    y = kdiffusion(solver, flow=False)(denoise, X * sigmas[0], torch.tensor(sigmas))
    assert off(y, loop(X * sigmas[0], sigmas)) < ROUNDING


def test_two_halves_are_the_whole():
    sampler = kdiffusion("euler", flow=False)
    half = sampler(denoise, X * SIGMAS[0], SIGMAS[:5])
    assert off(sampler(denoise, half, SIGMAS[4:]), sampler(denoise, X * SIGMAS[0], SIGMAS)) < 2e-6


def test_a_flow_is_said_to_be_one():
    process = flowsolve.RectifiedFlow()
    law = exact.Gaussian(process, [1.0] * 12, [0.3] * 12)

    def net(x, sigma):
        return law(x.double(), process.level(float(sigma[0]))).x0.float()

    y = kdiffusion("dpmpp2m", flow=True)(net, X, FLOW)
    end = flowsolve.solve(law, solver="dpmpp2m", grid=FLOW, start=X.double()).x
    assert off(y, end.float()) < ROUNDING
    # In the wrong one another method results, without a word.
    wrong = kdiffusion("dpmpp2m", flow=False)(net, X, FLOW)
    assert off(wrong, end.float()) > 1e-3
    assert inspect.signature(kdiffusion).parameters["flow"].default is inspect.Parameter.empty
    with pytest.raises(TypeError, match="flow"):
        kdiffusion("dpmpp2m")


def test_a_callback_for_each_evaluation():
    said, asked = [], []

    def net(x, sigma, scale):
        asked.append((x, sigma))
        assert scale == 3 and sigma.shape == (3,)
        return denoise(x, sigma)

    kdiffusion("heun", flow=False)(net, X * SIGMAS[0], SIGMAS, {"scale": 3}, said.append)
    assert len(said) == len(asked) == 2 * (len(SIGMAS) - 1) - 1
    for told, (_, sigma) in zip(said, asked, strict=True):
        assert {*told} == {"x", "i", "sigma", "sigma_hat", "denoised"}
        assert told["sigma"] == sigma[0] == torch.tensor(SIGMAS[told["i"]])
        assert torch.equal(told["denoised"], denoise(told["x"], sigma))


@pytest.mark.parametrize("solver", ["auto", "unipc3", "vpc3", "ab4", "dpmpp2m_sde", "plms"])
def test_methods_of_one_evaluation_spend_no_more(solver):
    calls = []
    kdiffusion(solver, flow=False)(denoise, X * SIGMAS[0], SIGMAS, callback=calls.append)
    assert len(calls) == len(SIGMAS) - 1


def test_half_precision_seeds_and_little_to_do():
    asked = []

    def net(x, sigma, **given):
        asked.append(x.dtype)
        return denoise(x, sigma.to(x.dtype))

    sampler = kdiffusion("dpmpp2m_sde", flow=False)
    y = sampler(net, (X * SIGMAS[0]).half(), SIGMAS, {"seed": 3})
    assert y.dtype == torch.float16 and {*asked} == {torch.float16}
    assert torch.equal(y, sampler(net, (X * SIGMAS[0]).half(), SIGMAS, {"seed": 3}))
    assert not torch.equal(y, sampler(net, (X * SIGMAS[0]).half(), SIGMAS, {"seed": 4}))
    with torch.random.fork_rng(devices=[]):
        runs = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            runs.append(sampler(denoise, X * SIGMAS[0], SIGMAS))
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    path = kdiffusion("dpmpp2m_sde", flow=False, noise="brownian")
    process = flowsolve.EDM(0.025, SIGMAS[0])
    model = flowsolve.Denoiser(denoise, process, "x0", (12,), time="sigma")
    end = flowsolve.sample(
        model, solver="dpmpp2m_sde", grid=SIGMAS, start=X * SIGMAS[0], seed=3, noise="brownian"
    )
    assert torch.equal(path(denoise, X * SIGMAS[0], SIGMAS, {"seed": 3}), end)
    assert not torch.equal(sampler(denoise, X * SIGMAS[0], SIGMAS, {"seed": 3}), end)
    assert sampler(denoise, X, [3.0]) is X and sampler(denoise, X, [3.0, 3.0]) is X
    merged = kdiffusion("euler", flow=False)(denoise, X * 5, [5.0, 5.0, 1.0, 0.0])
    assert torch.equal(merged, kdiffusion("euler", flow=False)(denoise, X * 5, [5.0, 1.0, 0.0]))
    adaptive = kdiffusion("dopri5", flow=False, rtol=1e-4)(denoise, X * 5, [5.0, 0.0])
    assert adaptive.isfinite().all()


def test_what_k_diffusion_would_not_take_either():
    with pytest.raises(ValueError, match="Did you mean 'dpmpp_2m'"):
        kdiffusion("dpmpp_2n", flow=False)
    with pytest.raises(TypeError, match="option='etta'"):
        kdiffusion("ddim", flow=False, etta=1.0)
    with pytest.raises(ValueError, match=r"sigmas\[0\]=nan"):
        kdiffusion("ddim", flow=False)(denoise, X, [math.nan, 0.0])
    for sigmas in ([1.0, 2.0], [1.0, -1.0]):
        with pytest.raises(ValueError, match=r"sigmas=.*falling numbers >= 0"):
            kdiffusion("ddim", flow=False)(denoise, X, sigmas)
    with pytest.raises(ValueError, match="at most 1, as a flow's are"):
        kdiffusion("ddim", flow=True)(denoise, X, [3.0, 0.0])


# odeint


def velocity(t, y):
    return torch.tanh(y @ W) * (1 + t) - y


T = torch.linspace(0, 1, 9)
METHODS = ["euler", "midpoint", "heun2", "heun3", "rk4"]


@pytest.mark.parametrize("method", METHODS)
def test_fixed_steps_are_torchdiffeqs(method):
    # But for the step onto data, in which only euler asks no more than once.
    end = None if method == "euler" else -1
    theirs = torchdiffeq.odeint(velocity, X, T, method=method)
    ours = odeint(velocity, X, T, method=method)
    assert ours.shape == theirs.shape and torch.equal(ours[0], X)
    assert off(ours[:end], theirs[:end]) < ROUNDING
    short = torch.linspace(0.1, 0.8, 5)
    theirs = torchdiffeq.odeint(velocity, X, short, method=method)
    assert off(odeint(velocity, X, short, method=method), theirs) < ROUNDING
    once = torch.tensor([0.0, 1.0])  # all of it is the step onto data
    euler = torchdiffeq.odeint(velocity, X, once, method="euler")
    assert off(odeint(velocity, X, once, method=method), euler) < ROUNDING


def test_f5_tts_sways_its_times():
    t = torch.linspace(0, 1, 17)
    t = t - 1.0 * (torch.cos(math.pi / 2 * t) - 1 + t)
    theirs = torchdiffeq.odeint(velocity, X, t, method="euler")
    assert off(odeint(velocity, X, t, method="euler"), theirs) < ROUNDING


def test_a_step_size_between_two_times():
    theirs = torchdiffeq.odeint(
        velocity, X, T[[0, -1]], method="euler", options={"step_size": 0.05}
    )
    ours = odeint(velocity, X, T[[0, -1]], method="euler", options={"step_size": 0.05})
    assert ours.shape == (2, *X.shape) and off(ours, theirs) < ROUNDING


@pytest.mark.parametrize("method", [None, "dopri5", "bosh3"])
def test_adaptive_ones_keep_their_tolerance(method):
    x = X.double()
    exact = torchdiffeq.odeint(
        lambda t, y: torch.tanh(y @ W.double()) * (1 + t) - y, x, T.double(), rtol=1e-11, atol=1e-11
    )
    given = {} if method is None else {"method": method, "rtol": 1e-6, "atol": 1e-6}
    ours = odeint(lambda t, y: torch.tanh(y @ W.double()) * (1 + t) - y, x, T, **given)
    assert (ours - exact).abs().max() < (1e-6 if method is None else 1e-4)


def test_what_is_gained():
    x = X.double()

    def field(t, y):  # Gaussian data of variance .25 about 2, exactly
        r, a = 1 - t, t
        x0 = 2 + 0.25 * a * (y - 2 * a) / (0.25 * a * a + r * r)
        return (x0 - y) / r if r else x0 - y

    errors = {}
    exact = odeint(field, x, [0.0, 1.0], rtol=1e-10, atol=1e-10)[-1]
    for method in ("euler", "vpc2", "unipc3"):
        asked = []
        ours = odeint(
            lambda t, y, asked=asked: asked.append(1) or field(t, y),
            x,
            torch.linspace(0, 1, 17),
            method=method,
        )[-1]
        errors[method] = float((ours - exact).abs().max())
        assert len(asked) == 16
    assert errors["vpc2"] < 0.1 * errors["euler"] and errors["unipc3"] < 0.5 * errors["euler"]
    free = odeint(field, x, [0.0, 1.0], method="auto", nfe=16)[-1]
    assert (free - exact).abs().max() < errors["euler"]


def test_what_odeint_refuses():
    with pytest.raises(ValueError, match="rtol: 'midpoint' takes the steps it is given"):
        odeint(velocity, X, T, method="midpoint", rtol=1e-3)
    with pytest.raises(ValueError, match=r"t\[1\]=nan"):
        odeint(velocity, X, [0.0, math.nan])
    for t in ([0.0], [1.0, 0.0], [0.0, 2.0]):
        with pytest.raises(ValueError, match=r"t=.*two rising times"):
            odeint(velocity, X, t)
    with pytest.raises(TypeError, match="expected step_size alone"):
        odeint(velocity, X, T, method="euler", options={"perturb": True})
    with pytest.raises(ValueError, match="nfe=5: expected two times"):
        odeint(velocity, X, T, method="euler", nfe=5)
    with pytest.raises(ValueError, match="Did you mean 'midpoint'"):
        odeint(velocity, X, T, method="midpont")
    with pytest.raises(TypeError, match="y0"):
        odeint(velocity, (X, X), T)
