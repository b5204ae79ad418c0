"""Networks of other code bases: each is the exact network of a Gaussian law, told and answering as
that code base does, so that its denoiser's estimate is the law's posterior mean; and the loops of
EDM and lucidrains' code, written out."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from problems import F64
from torch import nn

import flowsolve
from flowsolve import exact
from flowsolve.integrations import conventions

MEAN, VARIANCE, SHAPE = 0.6, 0.25, (2, 3, 3)
X = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=F64)


class Net(nn.Module):
    """What a network would say at (x, told): ``answer(x0, eps, A, R, x)``, the level being that of
    ``levels(told)``."""

    def __init__(self, levels, answer, time_first=False):
        super().__init__()
        self.levels, self.answer, self.time_first = levels, answer, time_first
        self.told, self.given = [], {}
        self.scale = nn.Parameter(torch.ones((), dtype=F64))  # a float64 network
        self.eval()

    def forward(self, x, t, **given):
        x, t = (t, x) if self.time_first else (x, t)
        self.told.append(t[0].item())
        self.given = given
        a, r = self.levels(t[0].item())
        x0 = MEAN + VARIANCE * a * (x - a * MEAN) / (VARIANCE * a * a + r * r)
        return self.answer(x0, (x - a * x0) / r, a, r, x)


def gaussian(process):
    return exact.Gaussian(process, *(torch.full(SHAPE, v, dtype=F64) for v in (MEAN, VARIANCE)))


def assert_right(model, times, told):
    """Estimates are the law's, and the network is told what ``told`` says."""
    law = gaussian(model.process)
    for t in times:
        level = model.process.level(t)
        x = X * (level.R.value**2 + level.A.value**2) ** 0.5
        torch.testing.assert_close(model(x, level).x0, law(x, level).x0, rtol=1e-9, atol=1e-9)
        assert model.net.told[-1] == pytest.approx(told(t), rel=1e-12)


def table(betas):
    bar = torch.tensor(betas, dtype=F64).log1p() * 0 + 1 - torch.tensor(betas, dtype=F64)
    bar = bar.cumprod(0)
    return lambda i: (float(bar[i].sqrt()), float((1 - bar[i]).sqrt()))


def test_guided_diffusion_learns_a_variance_and_is_told_the_index():
    levels = table(flowsolve.tables.linear())
    net = Net(levels, lambda x0, eps, a, r, x: torch.cat([eps, torch.ones_like(eps)], 1))
    model = conventions.guided_diffusion(net, shape=SHAPE, clip_denoised=False)
    x = X * 1.0
    level = model.process.level(500.0)
    torch.testing.assert_close(model(x, level).x0, gaussian(model.process)(x, level).x0)
    assert net.told == [500] and isinstance(net.told[0], int)
    assert flowsolve.sample(model, solver="ddpm", nfe=5, n=2, seed=0).isfinite().all()


def test_guided_diffusion_with_other_flags():
    levels = table(flowsolve.tables.cosine(400))
    net = Net(lambda t: levels(round(t / 2.5)), lambda x0, eps, a, r, x: x0)
    model = conventions.guided_diffusion(
        net,
        shape=SHAPE,
        steps=400,
        schedule="cosine",
        learn_sigma=False,
        predict_xstart=True,
        rescale_timesteps=True,
        clip_denoised=False,
    ).given(y=torch.tensor([3]), per_sample=[])
    assert_right(model, [0.0, 100.0, 390.0], lambda t: 2.5 * t)
    assert net.given["y"].item() == 3
    clipped = conventions.guided_diffusion(net, shape=SHAPE, steps=400, schedule="cosine",
                                           learn_sigma=False, predict_xstart=True,
                                           rescale_timesteps=True)  # fmt: skip
    assert clipped(X * 9, 390.0).x0.abs().max() <= 1


@pytest.mark.parametrize("sde", ["vp", "subvp"])
def test_score_sde_in_continuous_time(sde):
    process = (flowsolve.VP if sde == "vp" else flowsolve.SubVP)(0.1, 20.0)

    def levels(told):
        level = process.level(told / 999.0)
        return level.A.value, level.R.value

    model = conventions.score_sde(Net(levels, lambda x0, eps, *_: eps), shape=SHAPE, sde=sde)
    assert model.process == process
    assert_right(model, [0.01, 0.3, 0.9], lambda t: 999 * t)


def test_score_sde_that_explodes():
    net = Net(lambda sigma: (1.0, sigma), lambda x0, eps, a, r, x: -eps / r)
    model = conventions.score_sde(net, shape=SHAPE, sde="ve", sigma_max=30.0)
    assert_right(model, [0.1, 0.5, 1.0], lambda t: 0.01 * 3000.0**t)


def edm_sampler(net, noise, steps):
    """arXiv 2206.00364, algorithm 1, as their generate.py has it, without churn."""
    i = torch.arange(steps, dtype=F64)
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    sigmas = [*((high + i / (steps - 1) * (low - high)) ** 7).tolist(), 0.0]
    x = noise * sigmas[0]
    for s, t in itertools.pairwise(sigmas):
        told = torch.full((len(x),), s, dtype=F64)
        d = (x - net(x, told)) / s
        y = x + (t - s) * d
        if t:
            e = (y - net(y, torch.full((len(x),), t, dtype=F64))) / t
            y = x + (t - s) * (0.5 * d + 0.5 * e)
        x = y
    return x


def test_edm_ends_where_its_own_sampler_does():
    net = Net(lambda sigma: (1.0, sigma), lambda x0, *_: x0)
    net.sigma_min, net.sigma_max, net.img_channels, net.img_resolution = 0.0, math.inf, 2, 3
    model = conventions.edm(net)
    assert model.shape == SHAPE and model.process == flowsolve.EDM()
    assert_right(model, [0.01, 1.0, 80.0], lambda t: t)
    theirs = edm_sampler(net, X, 6)
    ours = flowsolve.solve(model, solver="heun", grid="karras", nfe=11, start=80.0 * X)
    assert ours.nfe == 11
    torch.testing.assert_close(ours.x, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("objective", ["pred_noise", "pred_x0", "pred_v"])
def test_lucidrains_diffusion(objective):
    betas = torch.tensor(flowsolve.tables.cosine(200)).float()  # theirs is a buffer
    levels = table(betas.double().tolist())
    answers = {
        "pred_noise": lambda x0, eps, a, r, x: eps,
        "pred_x0": lambda x0, eps, a, r, x: x0,
        "pred_v": lambda x0, eps, a, r, x: a * eps - r * x0,
    }
    net = Net(levels, answers[objective])
    diffusion = SimpleNamespace(
        model=net, betas=betas, objective=objective, channels=2, image_size=3, self_condition=False
    )
    model = conventions.lucidrains(diffusion)
    assert model.shape == SHAPE
    # Its ddim_sample: times linspace(−1, T − 1, n + 1) cut to integers, x0 clipped, ε̂ from it.
    times = [*reversed(torch.linspace(-1, 199, 11).int().tolist())]
    x = X
    for s, t in itertools.pairwise(times):
        (a, r), (b, q) = levels(s), levels(t) if t >= 0 else (1.0, 0.0)
        out = net(x, torch.full((len(x),), s))
        x0 = {
            "pred_noise": lambda o=out, a=a, r=r, x=x: (x - r * o) / a,
            "pred_x0": lambda o=out: o,
            "pred_v": lambda o=out, a=a, r=r, x=x: a * x - r * o,
        }[objective]().clamp(-1, 1)
        x = b * x0 + q * (x - a * x0) / r
    ours = flowsolve.solve(model, solver="ddim", grid=[float(t) for t in times], start=X).x
    torch.testing.assert_close(ours, x, rtol=1e-7, atol=1e-7)
    diffusion.self_condition = True
    with pytest.raises(ValueError, match="what the network returns depends on"):
        conventions.lucidrains(diffusion)
    with pytest.raises(TypeError, match="expected a GaussianDiffusion"):
        conventions.lucidrains(net)


@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize("toward", [True, False])
def test_flow_matching_whichever_way_time_goes(toward, time_first):
    sign = 1 if toward else -1

    def levels(t):
        return (t, 1 - t) if toward else (1 - t, t)

    net = Net(levels, lambda x0, eps, *_: sign * (x0 - eps), time_first)
    model = conventions.flow_matching(net, shape=SHAPE, toward_data=toward, time_first=time_first)
    law = gaussian(model.process)
    for u in (0.1, 0.5, 0.9):
        level = model.process.level(u)
        torch.testing.assert_close(model(X, level).x0, law(X, level).x0, rtol=1e-6, atol=1e-6)
    # A function does as well.
    plain = conventions.flow_matching(
        lambda x, t: net(t, x) if time_first else net(x, t), shape=SHAPE, toward_data=toward
    )
    torch.testing.assert_close(plain(X, 0.5).x0, model(X, 0.5).x0)


def test_modules_stay_modules():
    # So that the device, the dtype and training mode are known.
    net = Net(lambda t: (t, 1 - t), lambda x0, eps, *_: x0 - eps)
    model = conventions.flow_matching(net.eval(), shape=SHAPE)
    assert model.device == torch.device("cpu") and model.net_dtype == F64
    assert not model.net.training
