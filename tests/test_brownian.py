"""Noise from one path: its law, that it is one path, and what it is for: runs of more steps come
nearer to each other, path by path."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import flowsolve
from flowsolve import exact
from flowsolve.brownian import DEPTH, Brownian
from flowsolve.noise import Stream

F64 = torch.float64


def path(n=20_000, seed=0, first=0, shape=(1,)):
    return Brownian(Stream(seed, range(first, first + n), shape, F64, None))


def variance(s, t):
    """c_t − c_s."""
    return t**-2.0 - s**-2.0


STEPS = [80.0, 37.0, 5.0, 4.7, 1.3, 0.999, 0.4, 0.02, 0.002]


def increments(path):
    return [path.between(s, t) for s, t in itertools.pairwise(STEPS)]


def test_increments_are_standard_and_independent():
    n = 20_000
    z = torch.stack([each[:, 0] for each in increments(path(n))])
    # Of n draws the mean is 1/√n off, products √2/√n: four standard errors, of 28 of them.
    assert z.mean(1).abs().max() < 4.5 / math.sqrt(n)
    product = z @ z.T / n - torch.eye(len(z), dtype=F64)
    assert product.abs().max() < 4.5 * math.sqrt(2.0 / n)


def test_increments_add_up():
    one = path(50)
    parts = increments(one)
    weights = [variance(s, t) ** 0.5 for s, t in itertools.pairwise(STEPS)]
    whole = one.between(STEPS[0], STEPS[-1])
    total = sum(w * z for w, z in zip(weights, parts, strict=True))
    # The ends are nodes: to the nearest of 2**DEPTH in a factor of four.
    scale = variance(STEPS[0], STEPS[-1]) ** 0.5
    off = math.sqrt(3.0 * 2.0**-DEPTH) * 6
    assert (total / scale - whole).abs().max() < off
    # From pure noise, where c is 0.
    assert torch.isfinite(one.between(math.inf, 0.5)).all()
    assert one.between(1.0, 1.0 - 1e-9) is None


def test_the_path_is_the_samples_own():
    whole, parts = path(10, shape=(2, 3)), (path(4, shape=(2, 3)), path(6, first=4, shape=(2, 3)))
    for s, t in ((9.0, 3.0), (3.0, 0.1)):
        split = torch.cat([each.between(s, t) for each in parts])
        assert torch.equal(whole.between(s, t), split)
    # In whatever order they are asked for.
    forth, back = path(5), path(5)
    there = increments(forth)
    again = [back.between(s, t) for s, t in reversed([*itertools.pairwise(STEPS)])]
    assert all(torch.equal(a, b) for a, b in zip(there, reversed(again), strict=True))


VP = flowsolve.VP()
DATA = exact.Mixture(VP, [0.3, 0.3, 0.4], [[1.0, -0.5], [-1.5, 0.3], [0.2, 1.2]], [0.1, 0.05, 0.04])


def distances(solver, noise):
    """Median distances between runs of n and 2n evaluations: few samples that end in another
    component would decide about the mean square."""
    ends = [
        flowsolve.sample(DATA, solver=solver, grid="logsnr", nfe=n, n=128, seed=0, noise=noise)
        for n in (30, 60, 120, 240)
    ]
    return [float((a - b).norm(dim=1).median()) for a, b in itertools.pairwise(ends)]


@pytest.mark.late
@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("solver", ["gddim", "ddpm", "dpmpp2m_sde", "er_sde2", "sa", "dpmpp_sde"])
def test_runs_of_more_steps_come_near_each_other(solver):
    shared, fresh = distances(solver, "brownian"), distances(solver, None)
    # Of a path that is shared, first order at least: from 30 to 240 a quarter, but for chance.
    assert shared[2] < 0.4 * shared[0]
    assert fresh[2] > 0.7 * fresh[0] and fresh[2] > 3 * shared[2]


@pytest.mark.late
@pytest.mark.parametrize("solver", ["edm", "restart", "pc", "lcm", "dpm2_a"])
def test_where_it_has_been_before_noise_is_fresh(solver):
    # A law is not changed by it: means and deviations within five standard errors.
    law = exact.Gaussian(VP, [1.0, -0.5], [0.3, 0.02])
    n = 4000
    both = [
        flowsolve.sample(law, solver=solver, nfe=40, n=n, seed=seed, noise=noise)
        for seed, noise in ((0, "brownian"), (1, None))
    ]
    scale = both[1].std(0)
    assert ((both[0].mean(0) - both[1].mean(0)).abs() < 5 * scale * math.sqrt(2 / n)).all()
    assert ((both[0].std(0) / scale - 1).abs() < 5 * math.sqrt(1 / n)).all()


def test_batches_parts_and_pushed_runs():
    how = dict(solver="dpmpp2m_sde", nfe=12, seed=3, noise="brownian")
    whole = flowsolve.sample(DATA, n=10, **how)
    assert torch.equal(whole, flowsolve.sample(DATA, n=10, batch_size=3, **how))
    assert torch.equal(whole[4:], flowsolve.sample(DATA, n=6, first=4, **how))
    assert not torch.equal(whole, flowsolve.sample(DATA, n=10, **how | {"seed": 4}))
    plan = flowsolve.plan("dpmpp2m_sde", VP, nfe=12)
    start = flowsolve.solve(DATA, n=10, solver=plan, seed=3, keep="path").path[0]
    run = plan.push(DATA, start=start, seed=3, noise="brownian")
    while not run.done:
        run.tell(DATA.evaluate(run.x, run.level))
    torch.testing.assert_close(run.x, whole, rtol=1e-12, atol=1e-12)
    # A solver without noise has none.
    plain = [flowsolve.sample(DATA, n=2, seed=0, nfe=5, noise=z) for z in (None, "brownian")]
    assert torch.equal(*plain)


def test_who_has_no_path():
    with pytest.raises(ValueError, match=r"noise='brownian': the steps of this solver depend"):
        flowsolve.sample(DATA, solver="adaptive", noise="brownian")
    cld = exact.Gaussian(flowsolve.CLD(), [0.0], [1.0])
    with pytest.raises(ValueError, match=r"A and R are matrices"):
        flowsolve.sample(cld, solver="gddim", noise="brownian")
    with pytest.raises(ValueError, match=r"noise='brownain'.*Did you mean 'brownian'"):
        flowsolve.sample(DATA, solver="gddim", noise="brownain")


@pytest.mark.late
def test_torchsde_on_the_same_path_ends_where_many_steps_do():
    torchsde = pytest.importorskip("torchsde", reason="pip install 'flowsolve[brownian]'")
    process, n, seed = flowsolve.EDM(0.05, 20.0), 64, 5
    law = exact.Mixture(process, [0.4, 0.6], [[1.0], [-1.0]], [0.1, 0.2])
    path = Brownian(Stream(seed, range(n), (1,), F64, None))
    top, bottom = math.log(20.0), math.log(0.05)

    class Reverse:
        """dx = −2 ε̂ σ dτ + √2 σ dW in τ = −log σ: the reverse SDE, λ = 1."""

        noise_type, sde_type = "additive", "ito"

        def f(self, tau, x):
            sigma = math.exp(-float(tau))
            return -2.0 * sigma * law(x, process.level(sigma)).eps

        def g(self, tau, x):
            return (math.sqrt(2.0) * math.exp(-float(tau)) * torch.ones_like(x))[..., None]

    class Driven:
        """dW = e^(−τ) dB/√2 for the path's B, c = e^(2τ)."""

        shape, dtype, device = (n, 1), F64, torch.device("cpu")
        levy_area_approximation = "none"

        def __call__(self, a, b):
            s, t = math.exp(-float(a)), math.exp(-float(b))
            z = path.between(s, t)
            if z is None:  # what rounding left of the span
                return torch.zeros(self.shape, dtype=F64)
            return z * (variance(s, t) * s * t / 2.0) ** 0.5

    start = 20.0 * flowsolve.noise.normal(seed, range(n), 0, (1,), F64, None)
    span = torch.tensor([-top, -bottom], dtype=F64)
    how = {"bm": Driven(), "method": "euler", "dt": (top - bottom) / 800}
    end = torchsde.sdeint(Reverse(), start, span, **how)[-1]
    ours = {
        k: flowsolve.solve(
            law, solver="dpmpp2m_sde", grid="logsnr", nfe=k, start=start, seed=seed,
            noise="brownian", span=(20.0, 0.05),
        ).x
        for k in (40, 320)
    }  # fmt: skip
    errors = {k: float((x - end).square().mean().sqrt()) for k, x in ours.items()}
    assert errors[320] < 0.25 * errors[40]
    assert errors[320] < 0.04 * float(end.std())
