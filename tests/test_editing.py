"""edit, inpaint and smc: what they spend, what they keep, what law they draw from."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from problems import F64, MATRIX_PROCESSES, PROCESSES, elementwise
from torch import Tensor

import flowsolve
from flowsolve import exact
from flowsolve.cli import main
from flowsolve.models import data
from flowsolve.particles import _drawn
from flowsolve.processes import FLOW_TIME

VP, RF = flowsolve.VP(), flowsolve.RectifiedFlow()


class Recorder(torch.nn.Module):
    """Which times it is asked at."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []
        self.eval()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.seen.append(float(t[0]))
        return elementwise(x, t)


def recorded(process):
    net = Recorder()
    return net, flowsolve.Denoiser(net, process, "x0", (3,), dtype=F64, time="t")


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


# edit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("solver", ["ddim", "auto", "ddpm", "heun"])
def test_all_of_the_budget_whatever_the_strength(name, solver):
    process = PROCESSES[name]
    for strength in (1.0, 0.7, 0.1):
        net, model = recorded(process)
        flowsolve.edit(model, rows(2, 3), strength=strength, solver=solver, nfe=10, seed=0)
        assert len(net.seen) == 10
        u = FLOW_TIME.of(process.start)
        begin = FLOW_TIME.of(process.level(net.seen[0]))
        assert math.isclose(begin, strength * u, rel_tol=1e-3 if process.entries else 1e-9)


@pytest.mark.parametrize("name", ["vp", "rectified_flow", "edm"])
@pytest.mark.parametrize("strength", [0.2, 0.6])
def test_the_law_of_what_comes_back(name, strength):
    """Data N(m, c) with noise of σ̄ come back by the flow as m + √(c/(c + σ̄²)) (x − m + σ̄z)."""
    m, c = torch.tensor([0.5, -1.0, 2.0], dtype=F64), 0.3
    model = exact.Gaussian(PROCESSES[name], m, c)
    x = torch.cat([m[None], m + torch.eye(3, dtype=F64)])
    seeds = [7, 7, 7, 7]  # the same noise for all: the rest is the map
    out = flowsolve.edit(model, x, strength=strength, solver="vpc3", nfe=200, seed=seeds)
    u = strength * FLOW_TIME.of(model.process.start)
    sigma = u / (1.0 - u)
    ratio = math.sqrt(c / (c + sigma**2))
    torch.testing.assert_close(out[1:] - out[0], ratio * torch.eye(3, dtype=F64), rtol=0, atol=1e-4)
    z = flowsolve.noise.normal(7, range(1), 0, (3,), F64, None)[0]
    torch.testing.assert_close(out[0], m + ratio * sigma * z, rtol=0, atol=1e-3)


def test_edits_do_not_depend_on_the_batch():
    model = flowsolve.Denoiser(elementwise, VP, "eps", (3,))
    labels = torch.arange(4)
    told = flowsolve.Denoiser(
        lambda x, t, label: elementwise(x, t) + label[:, None], VP, "eps", (3,)
    )
    told = told.given(label=labels, per_sample=["label"])
    x = rows(4, 3).float()
    for each in (model, told):
        how = {"strength": 0.5, "solver": "ddpm", "nfe": 5, "seed": 3}
        together = flowsolve.edit(each, x, **how)
        for i in range(4):
            assert torch.equal(flowsolve.edit(each, x[i : i + 1], first=i, **how)[0], together[i])
    assert together.dtype == torch.float32
    full = flowsolve.edit(flowsolve.Denoiser(elementwise, RF, "x0", (3,)), x, strength=1.0, seed=0)
    plain = flowsolve.sample(flowsolve.Denoiser(elementwise, RF, "x0", (3,)), n=4, seed=0)
    assert torch.equal(full, plain)  # a rectified flow leaves nothing of x
    x.requires_grad_()
    flowsolve.edit(model, x, strength=0.5, nfe=3, differentiable=True).sum().backward()
    assert x.grad is not None and (x.grad != 0).all()


def test_what_edit_refuses():
    model, x = flowsolve.Denoiser(elementwise, VP, "eps", (3,)), torch.zeros(2, 3)

    def refused(text, error=ValueError, model=model, x=x, **how):
        with pytest.raises(error, match=text):
            flowsolve.edit(model, x, **{"strength": 0.5, "nfe": 3} | how)

    refused("strength=0.0: expected a number in", strength=0.0)
    refused("strength=1.5", strength=1.5)
    refused("strength=0.001: expected more than 0.01", strength=0.001)
    refused("x has shape", x=torch.zeros(2, 4))
    refused("x has NaN", x=torch.full((2, 3), torch.nan))
    refused("grid=.*own", grid=[0.5, 0.2, 0.0])
    refused("seed has 3 numbers", seed=[1, 2, 3])
    refused("span", span=(0.5, None), error=(TypeError, ValueError))
    refused("start", start=x, error=(TypeError, ValueError))
    refused("rtol", rtol=1e-3, error=TypeError)
    refused("span", solver=flowsolve.plan("ddim", VP, nfe=3), nfe=None)
    for process in MATRIX_PROCESSES.values():
        shape = getattr(process, "size", (3,))
        other = flowsolve.Denoiser(elementwise, process, "eps", shape)
        with pytest.raises(flowsolve.errors.Unsuited, match="flow time"):
            flowsolve.edit(other, torch.zeros(1, *shape), strength=0.5)


# inpaint ----------------------------------------------------------------------------------------

MASK = torch.tensor([True, False, True])


def correlated(process) -> exact.Gaussian:
    c = torch.tensor([[1.0, 0.8, 0.1], [0.8, 1.0, 0.2], [0.1, 0.2, 0.5]], dtype=F64)
    return exact.Gaussian(process, torch.tensor([0.5, -1.0, 0.0], dtype=F64), c)


@pytest.mark.parametrize("method", ["mmps", "pgdm"])
def test_inpainting_is_sampling_from_the_posterior(method):
    model, x = correlated(VP), rows(4, 3)
    x[:, 1] = 1e6  # not known, and not looked at
    how = {"solver": "ddpm", "nfe": 6, "seed": 2}
    post = flowsolve.posterior(model, x[:, MASK], MASK, noise=0.2, method=method)
    expected = flowsolve.sample(post, n=4, **how)
    got = flowsolve.inpaint(model, x, MASK, method=method, noise=0.2, **how)
    assert torch.equal(got, expected)
    part = flowsolve.inpaint(model, x[2:], MASK, method=method, noise=0.2, first=2, **how)
    torch.testing.assert_close(part, expected[2:])
    seeds = flowsolve.inpaint(model, x, MASK, noise=0.2, nfe=3, seed=[4, 5, 4, 5])
    again = flowsolve.inpaint(model, x[2:], MASK, noise=0.2, nfe=3, seed=[4, 5])
    torch.testing.assert_close(seeds[2:], again)


def test_what_is_known_stays():
    model, x = correlated(RF), rows(50, 3)
    for noise in (0.1, 0.01):
        got = flowsolve.inpaint(model, x, MASK, noise=noise, nfe=50, solver="ddpm", seed=0)
        assert 0.2 * noise < (got - x)[:, MASK].square().mean().sqrt() < 2 * noise
    default = flowsolve.inpaint(model, x, MASK, nfe=20, seed=0)
    assert torch.equal(default, flowsolve.inpaint(model, x, MASK, noise=0.01, nfe=20, seed=0))
    for iterations in (1, 3):
        got = flowsolve.inpaint(model, x, MASK, method="repaint", iterations=iterations, seed=0)
        assert torch.equal(got[:, MASK], x[:, MASK])


@pytest.mark.parametrize(("nfe", "iterations"), [(1, 5), (5, 5), (6, 5), (20, 1), (21, 4), (23, 4)])
def test_repaint_counts_every_evaluation(nfe, iterations):
    net, model = recorded(RF)
    how = {"method": "repaint", "seed": 0, "iterations": iterations}
    flowsolve.inpaint(model, rows(2, 3), MASK, nfe=nfe, **how)
    steps = (nfe - 1) // iterations + 1
    assert len(net.seen) == (steps - 1) * iterations + 1 <= nfe
    assert len(set(net.seen)) == steps and net.seen == sorted(net.seen, reverse=True)
    grid = [1.0, 0.5, 0.2, 0.0]
    net.seen.clear()
    flowsolve.inpaint(model, rows(2, 3), MASK, grid=grid, **how)
    assert len(net.seen) == 2 * iterations + 1


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("process", [VP, RF, flowsolve.EDM()], ids=["vp", "rf", "edm"])
def test_resampling_harmonises(process):
    """One iteration misses the mean of the hidden entry given the others; more come nearer."""
    model = correlated(process)
    basis, c = model.law.basis[0], model.law.variances[0]
    m, full = model.law.means[0], basis @ torch.diag(c) @ basis.T
    x = (m + torch.tensor([1.5, 0.0, 0.0], dtype=F64)).expand(4000, 3)
    gain = torch.linalg.solve(full[MASK][:, MASK], full[MASK, 1])
    mean = m[1] + gain @ (x[0] - m)[MASK]
    spread = (full[1, 1] - gain @ full[MASK, 1]).sqrt()
    wrong = []
    for iterations in (1, 10):
        nfe = 19 * iterations + 1
        how = {"method": "repaint", "iterations": iterations, "nfe": nfe, "seed": 0}
        got = flowsolve.inpaint(model, x, MASK, **how)
        wrong.append(abs(float((got[:, 1].mean() - mean) / spread)))
    assert wrong[0] > 0.3 and wrong[1] < 0.5 * wrong[0]


def test_repaint_does_not_depend_on_the_batch():
    model = flowsolve.Denoiser(elementwise, VP, "eps", (3,))
    x, how = rows(3, 3).float(), {"method": "repaint", "nfe": 9, "iterations": 2, "seed": 1}
    together = flowsolve.inpaint(model, x, MASK, **how)
    for i in range(3):
        assert torch.equal(
            flowsolve.inpaint(model, x[i : i + 1], MASK, first=i, **how)[0], together[i]
        )
    assert not together.requires_grad and together.dtype == torch.float32
    broken = flowsolve.Denoiser(lambda x, t: x * torch.nan, VP, "eps", (3,))
    with pytest.raises(flowsolve.NonFiniteError, match="evaluation 1"):
        flowsolve.inpaint(broken, x, MASK, **how)


def test_what_inpaint_refuses():
    model, x = flowsolve.Denoiser(elementwise, VP, "eps", (3,)), torch.zeros(2, 3)

    def refused(text, mask=MASK, x=x, model=model, **how):
        with pytest.raises((TypeError, ValueError), match=text):
            flowsolve.inpaint(model, x, mask, **{"nfe": 3} | how)

    refused("mask=.*True somewhere", mask=torch.zeros(3, dtype=torch.bool))
    refused(r"mask=.*shape \(3,\)", mask=torch.ones(2, 3, dtype=torch.bool))
    refused("mask", mask=torch.ones(3))
    refused("x, also where", x=torch.full((2, 3), torch.nan))
    refused("method='dps'", method="dps")
    refused("noise=0", noise=0.0)
    refused("iterations=3: expected None", iterations=3)
    refused("noise=0.1 cannot be given with method='repaint'", method="repaint", noise=0.1)
    refused("solver='ddim' cannot be given with", method="repaint", solver="ddim")
    refused("eta=0.5 cannot be given with", method="repaint", eta=0.5)
    refused("grid=.*clean data", method="repaint", grid=[0.9, 0.5], nfe=None)
    refused("span", span=(0.5, None))
    corrected = dataclasses.replace(model, correct_x0=flowsolve.clip())
    refused("correct_x0", model=corrected)
    assert flowsolve.inpaint(corrected, x, MASK, method="repaint", nfe=3).abs().max() <= 1.0
    for process in MATRIX_PROCESSES.values():
        shape = getattr(process, "size", (3,))
        other = flowsolve.Denoiser(elementwise, process, "eps", shape)
        refused("matrices", model=other, x=torch.zeros(1, *shape), mask=torch.ones(shape).bool())


# smc --------------------------------------------------------------------------------------------

H = torch.tensor([[1.0, 0.0]], dtype=F64)


def three(process) -> exact.Mixture:
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]], dtype=F64)
    return exact.Mixture(process, [0.3, 0.3, 0.4], means, [0.02, 0.05, 0.1])


def truth(model: exact.Mixture, y: float, noise: float) -> tuple[Tensor, Tensor, float]:
    """Of the posterior given the first coordinate: the components' weights, the mean, log p(y)."""
    m, c = model.law.means, model.law.variances[:, 0]
    v = c + noise**2
    log_w = model.law.log_weights - 0.5 * ((y - m[:, 0]) ** 2 / v + (2.0 * math.pi * v).log())
    means = m.clone()
    means[:, 0] += c / v * (y - m[:, 0])
    return log_w.softmax(0), log_w.softmax(0) @ means, float(log_w.logsumexp(0))


def component(model: exact.Mixture, x: Tensor) -> Tensor:
    """The responsibilities of the components for data."""
    m, c = model.law.means, model.law.variances[:, 0]
    d = (x[:, None] - m).square().sum(2)
    return (model.law.log_weights - 0.5 * d / c - c.log()).softmax(1)


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("name", ["rectified_flow", "vp", "edm"])
def test_smc_finds_the_weights(name):
    """The issue's target is 0.02 of them, which no denoiser of a posterior reaches here."""
    model, y, sigma = three(PROCESSES[name]), 0.2, 0.3
    weights, mean, evidence = truth(model, y, sigma)
    at = torch.tensor([y], dtype=F64)
    got = flowsolve.smc(model, at, H, noise=sigma, particles=4000, nfe=200, seed=1)
    assert (got.weights @ component(model, got.x) - weights).abs().max() < 0.02
    assert (got.weights @ got.x - mean).abs().max() < 0.04
    assert abs(got.log_evidence - evidence) < 0.05
    assert got.nfe == 200 and got.ess.shape == (200,) and got.x.shape == (4000, 2)
    assert torch.isclose(got.weights.sum(), torch.tensor(1.0, dtype=F64))
    assert (got.ess >= 1.0).all() and (got.ess <= 4000.001).all()
    biased = flowsolve.sample(
        flowsolve.posterior(model, at, H, noise=sigma), n=4000, nfe=100, solver="vpc3", seed=0
    )
    assert (component(model, biased).mean(0) - weights).abs().max() > 0.1


@pytest.mark.parametrize("name", PROCESSES)
def test_one_particle_is_a_run_of_ddpm(name):
    model = three(PROCESSES[name])
    y = torch.tensor([0.1], dtype=F64)
    one = flowsolve.smc(model, y, H, noise=0.2, particles=1, nfe=12, seed=9)
    post = flowsolve.posterior(model, y, H, noise=0.2)
    run = flowsolve.sample(post, solver="ddpm", nfe=12, n=1, seed=9)
    torch.testing.assert_close(one.x, run, rtol=0, atol=1e-3)


def test_smc_of_a_network():
    x = data.data().held_out[0]
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 3, 2:6] = True
    model = flowsolve.digits()
    got = flowsolve.smc(model, x[mask], mask, noise=0.2, particles=8, nfe=10, seed=0)
    assert got.x.shape == (8, 1, 8, 8) and got.x.dtype == torch.float32 and got.x.abs().max() < 1.5
    again = flowsolve.smc(model, x[mask], mask, noise=0.2, particles=8, nfe=10, seed=0)
    assert torch.equal(got.x, again.x) and torch.equal(got.weights, again.weights)
    with torch.inference_mode():
        inside = flowsolve.smc(model, x[mask], mask, noise=0.2, particles=8, nfe=10, seed=0)
    assert torch.equal(inside.x, got.x)


def test_particles_are_drawn_systematically():
    log_w = torch.tensor([0.1, 0.0, 0.35, 0.55], dtype=F64).log()
    for t in (0.1, 0.5, 0.9):
        places = _drawn(log_w.repeat(3) - math.log(3.0), 0, VP.level(t))
        counts = places.bincount(minlength=12)
        expected = 12.0 * log_w.repeat(3).softmax(0)
        assert ((counts - expected).abs() < 1.0).all() and counts[1::4].sum() == 0


def test_what_smc_refuses():
    model, y = three(VP), torch.tensor([0.1], dtype=F64)

    def refused(text, model=model, y=y, H=H, error=ValueError, **how):
        with pytest.raises(error, match=text):
            flowsolve.smc(model, y, H, **{"noise": 0.1, "nfe": 3} | how)

    refused("y has 2 rows; expected one measurement", y=y.expand(2, 1))
    refused("y has 1025 numbers.*1024", y=torch.zeros(1025), H=torch.ones(1025, 2))
    refused("particles=0", particles=0)
    refused("grid=.*clean data", grid=[0.9, 0.5], nfe=1)
    refused("seed", seed=[1, 2], error=(TypeError, ValueError))
    told = flowsolve.Denoiser(elementwise, VP, "eps", (2,))
    refused("label has a row", model=told.given(label=torch.arange(3), per_sample=["label"]))
    refused("correct_x0", model=dataclasses.replace(told, correct_x0=flowsolve.clip()))
    broken = flowsolve.Denoiser(lambda x, t: x * torch.nan, VP, "eps", (2,))
    refused("the network returned NaN", model=broken, error=flowsolve.NonFiniteError)


# the command ------------------------------------------------------------------------------------


def test_the_command_writes_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    file = tmp_path / "out.png"
    argv = ["inpaint", "-n", "3", "--completions", "2", "--nfe", "3", "-o", str(file)]
    assert main([*argv, "--hide", "left", "--noise", "0.1", "--label", "5"]) == 0
    out, err = capsys.readouterr()
    for fact in ("mmps", "3 digits without their left", "2 completions", str(file)):
        assert fact in out
    assert err == ""
    with image.open(file) as picture:
        step = 64 + flowsolve.pictures.GAP
        assert picture.size == (3 * step + 2, 4 * step + 2)
        assert picture.text["hidden"] == "left" and picture.text["noise"] == "0.1"
        # The second row is the first one, with noise, and grey where it is hidden.
        assert picture.getpixel((10, step + 32)) == 128
    assert main([*argv, "-q", "--method", "repaint"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--hide", "nose"], "--hide"),
        (["--noise", "-1"], "--noise"),
        (["--noise", "nan"], "--noise"),
        (["--n", "400"], "there are 297 samples"),
        (["--solver", "nonsense"], "solver='nonsense'"),
        (["--method", "repaint", "--noise", "0.1"], "--noise cannot be combined"),
        (["--method", "repaint", "--solver", "ddim"], "--solver cannot be combined"),
        (["-o", "x.nonsense"], "x.nonsense"),
        (["--label", "11"], "label=11"),
        (["--model", "a:b"], "--model"),
    ],
)
def test_the_command_refuses(argv, text, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL.Image")
    assert main(["inpaint", *argv]) == 2
    assert text in capsys.readouterr().err
