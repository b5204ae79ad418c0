"""Objectives against distributions written out as such, and the training loop: reproducible, and
resumed to the bit."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import pickle
import signal
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import flowsolve
from flowsolve import Parametrization
from flowsolve.models.unet import UNet
from flowsolve.noise import normal
from flowsolve.training import bound, gamma, l_gamma, simple, train
from flowsolve.training.checkpoints import described

PROCESSES = [
    flowsolve.VP(),
    flowsolve.VP.cosine(),
    flowsolve.VP.discrete(flowsolve.tables.linear(20)),
    flowsolve.SubVP(),
    flowsolve.EDM(),
    flowsolve.RectifiedFlow(),
]


def wrong(x: Tensor, time: Tensor) -> Tensor:
    """A network that is right about nothing in particular."""
    return 0.3 * torch.tanh(x) + 0.1 * torch.sin(time).view(-1, *[1] * (x.ndim - 1))


def exact(mean: Tensor, off: float = 0.0):
    """For one-point data: the network of a denoiser that predicts x0, ``off`` away from it."""
    return lambda x, time: mean.expand_as(x) + off


def descending(process, n: int = 5):
    high, low = (
        math.log(process.level(0.9 * process.t_max).sigma),
        math.log(process.level(0.05 * process.t_max).sigma),
    )
    return [process.at("sigma", math.exp(high + (low - high) * i / (n - 1))) for i in range(n)]


def posterior(x0: Tensor, x: Tensor, s, t, eta: float) -> Normal:
    """q_σ(x_t | x_s, x0) as the DDIM paper writes it (eq. 7 and 16), ᾱ replaced by A² and 1 − ᾱ by
    R²."""
    a_s, r_s, a_t, r_t = s.A.value, s.R.value, t.A.value, t.R.value
    variance = eta**2 * (r_t**2 / r_s**2) * (r_s**2 - (a_s / a_t) ** 2 * r_t**2)
    mean = a_t * x0 + math.sqrt(r_t**2 - variance) * (x - a_s * x0) / r_s
    return Normal(mean, torch.full_like(mean, math.sqrt(variance)))


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("eta", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("predicts", ["eps", "v"])
def test_l_gamma_is_the_sum_of_the_divergences(process, eta, predicts):
    model = flowsolve.Denoiser(wrong, process, predicts, (2, 3), dtype=torch.float64)
    levels = descending(process)
    x0 = torch.linspace(-1, 1, 24, dtype=torch.float64).view(4, 2, 3)
    expected = torch.zeros(4, dtype=torch.float64)
    weighted = torch.zeros(4, dtype=torch.float64)
    for k, (s, t) in enumerate(pairwise(levels)):
        eps = normal(7, range(4), k, (2, 3), torch.float64, None)
        x = s.A @ x0 + s.R @ eps
        guess = model(x, s)
        expected += kl_divergence(
            posterior(x0, x, s, t, eta), posterior(guess.x0, x, s, t, eta)
        ).sum((1, 2))
        weighted += gamma(s, t, eta) * (eps - guess.eps).square().sum((1, 2))
    measured = l_gamma(model, x0, levels, eta=eta, seed=7)
    torch.testing.assert_close(measured, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(measured, weighted, rtol=1e-9, atol=0)


def test_gamma_is_the_papers():
    process = flowsolve.VP.discrete(flowsolve.tables.linear())
    for i, eta in ((999, 1.0), (500, 0.5), (10, 0.2), (1, 1.0)):
        s, t = process.level(i), process.level(i - 1)
        now, before = s.A.value**2, t.A.value**2
        sigma2 = eta**2 * (1 - before) / (1 - now) * (1 - now / before)
        k = math.sqrt(before) * math.sqrt((1 - now) / now) - math.sqrt(1 - before - sigma2)
        assert gamma(s, t, eta) == pytest.approx(k**2 / (2 * sigma2), rel=1e-9)
        if eta == 1.0:  # DDPM's bound (its eq. 12 with σ² = β̃), in terms of β alone
            beta = process.betas[i]
            tilde = beta * (1 - before) / (1 - now)
            assert gamma(s, t) == pytest.approx(
                beta**2 / (2 * tilde * (1 - beta) * (1 - now)), rel=1e-9
            )


def test_gamma_says_what_it_needs():
    process = flowsolve.VP.cosine()
    assert gamma(process.start, process.level(0.5)) == math.inf
    with pytest.raises(ValueError, match="quieter one t that is noisy still"):
        gamma(process.level(0.5), process.clean)
    with pytest.raises(ValueError, match="quieter"):
        gamma(process.level(0.5), process.level(0.6))
    for eta in (0.0, 1.5, math.nan):
        with pytest.raises(ValueError, match="eta="):
            gamma(process.level(0.5), process.level(0.4), eta)


def test_a_step_from_pure_noise_has_a_finite_divergence():
    process = flowsolve.VP.cosine()
    x0 = torch.zeros(2, 4, dtype=torch.float64)
    model = flowsolve.Denoiser(exact(x0[0], 0.1), process, "x0", (4,), dtype=torch.float64)
    t = process.level(0.5)
    expected = (
        4 * (t.A.value * 0.1) ** 2 / (2 * t.R.value**2)
    )  # the mean moves by A_t times the error of x̂0, σ = R_t
    assert l_gamma(model, x0, [process.start, t]).tolist() == pytest.approx(
        [expected] * 2, rel=1e-12
    )


@pytest.mark.parametrize(
    "process",
    [flowsolve.VP.cosine(), flowsolve.EDM(), flowsolve.RectifiedFlow()],
    ids=lambda p: type(p).__name__,
)
def test_the_bound_is_finite_and_smaller_for_a_better_model(process):
    x0 = (-1 + torch.arange(12) % 17 / 8.0).view(2, 6)
    levels = (*descending(process, 12), process.clean)
    totals = []
    for off in (0.0, 0.01, 0.1, 1.0):
        model = flowsolve.Denoiser(lambda x, time, off=off: x0 + off, process, "x0", (6,))
        result = bound(model, x0, levels, bins=17)
        assert (
            result.total.shape == (2,)
            and result.total.isfinite().all()
            and (result.steps >= 0).all()
            and (result.prior >= 0).all()
        )
        totals.append(result.total.mean().item())
    assert totals == sorted(totals) and totals[0] < totals[1]


def test_the_parts_of_the_bound():
    process = flowsolve.VP()
    x0 = torch.full((1, 3), 0.25, dtype=torch.float64)
    levels = [process.level(t) for t in (0.8, 0.5, 0.1)]
    model = flowsolve.Denoiser(wrong, process, "x0", (3,), dtype=torch.float64)
    result = bound(model, x0, levels, bins=17, seed=3)
    a, r = levels[0].A.value, levels[0].R.value
    prior = kl_divergence(
        Normal(a * x0, torch.full_like(x0, r)), Normal(torch.zeros_like(x0), torch.ones_like(x0))
    ).sum()
    assert result.prior.item() == pytest.approx(prior.item() / (3 * math.log(2)), rel=1e-9)
    assert result.steps.item() == pytest.approx(
        l_gamma(model, x0, levels, seed=3).item() / (3 * math.log(2)), rel=1e-12
    )


@pytest.mark.parametrize("mean", [-1.2, -1.0, 0.03, 0.5, 5.0])
def test_the_decoder_is_a_distribution_over_the_bins(mean):
    values = (-1 + torch.arange(17, dtype=torch.float64) / 8).view(17, 1)
    process = flowsolve.VP()
    model = flowsolve.Denoiser(
        exact(torch.tensor([mean], dtype=torch.float64)), process, "x0", (1,), dtype=torch.float64
    )
    bits = bound(model, values, [process.level(0.5), process.level(0.05)], bins=17).decoder
    assert bits.isfinite().all()  # also where the probability is less than the least float64
    assert bits.neg().exp2().sum().item() == pytest.approx(1.0, abs=1e-12)


def test_the_bound_wants_data_on_the_bins():
    model = flowsolve.Denoiser(wrong, flowsolve.VP(), "v", (3,))
    levels = [model.process.level(t) for t in (0.9, 0.1)]
    with pytest.raises(ValueError, match="bins=17"):
        bound(model, torch.full((1, 3), 0.1), levels, bins=17)
    with pytest.raises(ValueError, match="x0 is not on"):
        bound(model, torch.full((1, 3), 2.0), levels)
    with pytest.raises(ValueError, match="bins=1:"):
        bound(model, torch.full((1, 3), 1.0), levels, bins=1)


@pytest.mark.parametrize("predicts", sorted(Parametrization.known))
def test_l_simple_of_every_prediction(predicts):
    process, shape = (flowsolve.EDM() if predicts == "F" else flowsolve.VP.cosine()), (2, 3)
    levels = [process.at("sigma", s) for s in (0.05, 0.7, 2.0, 6.0)]
    x0, eps = torch.randn(
        2, 4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    model = flowsolve.Denoiser(wrong, process, predicts, shape, dtype=torch.float64)
    for on in ("eps", "x0"):
        measured = simple(model, x0, eps, levels, on=on)
        for i, level in enumerate(levels):
            x = level.A @ x0[i : i + 1] + level.R @ eps[i : i + 1]
            guess = getattr(model(x, level), on)
            assert measured[i].item() == pytest.approx(
                (guess - (eps if on == "eps" else x0)[i]).square().mean().item(), rel=1e-9
            )
    # The target is the output for which the prediction is right.
    for i, level in enumerate(levels):
        x = level.A @ x0[i : i + 1] + level.R @ eps[i : i + 1]
        linear = model.linear(level)
        pair, truth = (
            (linear.eps, eps)
            if abs(linear.eps[1].value) > abs(linear.x0[1].value)
            else (linear.x0, x0)
        )
        target = pair[1].inverse() @ (truth[i : i + 1] - pair[0] @ x)
        right = flowsolve.Denoiser(
            lambda x, time, target=target: target, process, predicts, shape, dtype=torch.float64
        )
        assert simple(right, x0[i : i + 1], eps[i : i + 1], [level]).item() < 1e-20
    with pytest.raises(ValueError, match="on='epsilon' is not known"):
        simple(model, x0, eps, levels, on="epsilon")


MATRICES = {
    "CLD": (flowsolve.CLD(), (1e-3, 0.1, 0.7, 1.0)),
    "Blurring": (flowsolve.Blurring((4, 6)), (0.0, 0.05, 0.4, 0.9)),
}
PICTURE = (1, 4, 6)


def with_matrices(name: str, returned: str):
    """(process, predicts, levels, clean data, ε, states, what a network that returns "eps", "x0" or
    only the "data" should return)."""
    process, times = MATRICES[name]
    levels = [process.level(t) for t in times]
    g = torch.Generator().manual_seed(0)
    x0 = torch.randn(4, *PICTURE, dtype=torch.float64, generator=g)
    eps = torch.randn(4, *process.state_shape(PICTURE), dtype=torch.float64, generator=g)
    clean = process.state(x0)
    x = torch.cat(
        [level.A @ clean[i : i + 1] + level.R @ eps[i : i + 1] for i, level in enumerate(levels)]
    )
    return (
        process,
        "eps" if returned == "eps" else "x0",
        levels,
        x0,
        eps,
        x,
        {"eps": eps, "x0": clean, "data": x0}[returned],
    )


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("returned", ["eps", "x0", "data"])
def test_l_simple_where_a_and_r_are_matrices(name, returned):
    process, predicts, levels, x0, eps, x, target = with_matrices(name, returned)
    seen = []

    def right(state: Tensor, time: Tensor, off: float = 0.0) -> Tensor:
        seen.append((state, time))
        return target + off * torch.arange(1.0, 1.0 + target[0].numel(), dtype=torch.float64).view(
            target.shape[1:]
        )

    exactly = flowsolve.Denoiser(right, process, predicts, PICTURE, dtype=torch.float64, time="t")
    for on in (None, "eps", "x0"):
        assert torch.equal(
            simple(exactly, x0, eps, levels, on=on), torch.zeros(4, dtype=torch.float64)
        )
    torch.testing.assert_close(seen[0][0], x, rtol=1e-13, atol=1e-13)
    assert seen[0][1].tolist() == [level.t for level in levels]
    model = replace(exactly, net=partial(right, off=0.1))
    measured = {on: simple(model, x0, eps, levels, on=on) for on in (None, "eps", "x0")}
    for i, level in enumerate(levels):
        row = slice(i, i + 1)
        one = replace(model, net=lambda state, time, row=row: right(state, time, off=0.1)[row])
        errors = {None: one.net(x[row], x) - target[row]}
        guess = one(x[row], level)
        errors |= {"eps": guess.eps - eps[row], "x0": guess.x0 - process.state(x0[row])}
        for on, error in errors.items():
            assert measured[on][i].item() == pytest.approx(error.square().mean().item(), rel=1e-6)


def test_a_network_that_returns_positions_is_one_that_knows_the_velocities():
    process, _, levels, x0, eps, _, _ = with_matrices("CLD", "data")
    positions = flowsolve.Denoiser(
        lambda x, time: 0.5 * x[:, :1], process, "x0", PICTURE, dtype=torch.float64
    )
    states = replace(positions, net=lambda x, time: process.state(0.5 * x[:, :1]))
    for on in ("eps", "x0"):
        assert torch.equal(
            simple(positions, x0, eps, levels, on=on), simple(states, x0, eps, levels, on=on)
        )
    torch.testing.assert_close(
        simple(positions, x0, eps, levels), 2.0 * simple(states, x0, eps, levels)
    )  # of half as many numbers


def test_shapes_that_do_not_fit_the_process_are_said():
    process, _, levels, x0, eps, _, _ = with_matrices("CLD", "data")
    for predicts, net in (("eps", lambda x, time: x[:, :1]), ("x0", lambda x, time: x[:, :0])):
        model = flowsolve.Denoiser(net, process, predicts, PICTURE, dtype=torch.float64)
        with pytest.raises(
            ValueError,
            match=r"network returned shape \(4, [01], 4, 6\); expected \(4, 2, 4, 6\)"
            rf".*predicts {predicts}",
        ):
            simple(model, x0, eps, levels)
        with pytest.raises(
            ValueError, match=r"eps has shape \(4, 1, 4, 6\); expected the states', \(4, 2, 4, 6\)"
        ):
            simple(model, x0, eps[:, :1], levels)


@pytest.mark.parametrize("name", MATRICES)
def test_the_bound_is_for_scalar_processes(name):
    process, predicts, levels, x0, *_ = with_matrices(name, "eps")
    model = flowsolve.Denoiser(wrong, process, predicts, PICTURE, dtype=torch.float64)
    for misuse in (
        lambda: gamma(levels[2], levels[1]),
        lambda: l_gamma(model, x0, levels[::-1]),
        lambda: bound(model, x0.sign(), levels[::-1]),
    ):
        with pytest.raises(ValueError, match=r"A and R are (matrices|numbers)"):
            misuse()


@pytest.mark.late
@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("returned", ["eps", "data"])
def test_training_lowers_the_loss_where_a_and_r_are_matrices(name, returned):
    process, predicts, *_, target = with_matrices(name, returned)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(process.state_shape(PICTURE)[0], base=8, classes=0, outputs=target.shape[1])
    model = flowsolve.Denoiser(net, process, predicts, PICTURE, time="t")
    data = torch.linspace(-1, 1, 24).view(1, *PICTURE).repeat(2, 1, 1, 1) * torch.tensor(
        [1.0, -1.0]
    ).view(2, 1, 1, 1)
    trained = train(model, data, steps=60, batch_size=24, lr=8e-3, warmup=5, ema=0.9)
    assert trained.losses[-20:].mean() < 0.8 * trained.losses[:5].mean()
    assert flowsolve.sample(trained.model, n=2, nfe=4, seed=0).shape == (2, *PICTURE)


class Small(torch.nn.Module):
    """With dropout and a buffer, which are part of the state too."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 16), torch.nn.SiLU(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 2)
        )
        self.label = torch.nn.Embedding(3, 1)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        if self.training:
            self.calls += 1
        y = self.label(torch.full((len(x),), 2) if label is None else label)
        return self.layers(torch.cat([x, time[:, None], y], dim=1))


def small(process=None, predicts: str = "v") -> flowsolve.Denoiser:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return flowsolve.Denoiser(Small(), process or flowsolve.VP.cosine(), predicts, (2,))


LABELS = torch.arange(64) % 2
DATA = torch.stack([2.0 * LABELS - 1.0, torch.full((64,), 0.5)], dim=1)
short = partial(
    train, data=DATA, labels=LABELS, null=2, steps=24, batch_size=16, warmup=4, save_every=5
)


def state(trained) -> dict[str, Tensor]:
    return trained.model.net.state_dict()


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Killed(Exception):
    pass


def killed_at(step: int):
    steps = iter(range(step))

    @functools.wraps(simple)  # the run is known by its loss's name
    def loss(*arguments):
        if next(steps, None) is None:
            raise Killed
        return simple(*arguments)

    return loss


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_generator_alone():
    before = torch.random.get_rng_state()
    first, again, other = short(small(), seed=1), short(small(), seed=1), short(small(), seed=2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert_same(state(first), state(again))
    assert torch.equal(first.losses, again.losses) and first.losses.shape == (24,)
    assert not torch.equal(first.losses, other.losses)
    assert first.steps == 24 and not first.model.net.training


@pytest.mark.parametrize("step", [3, 5, 13])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, step):
    whole, raw = short(small(), checkpoint=tmp_path / "whole.pt"), small()
    with pytest.raises(Killed):
        short(small(), checkpoint=tmp_path / "run.pt", loss=killed_at(step))
    assert (tmp_path / "run.pt").exists() == (step >= 5)
    resumed = short(raw, checkpoint=tmp_path / "run.pt")
    assert_same(state(whole), state(resumed))
    assert torch.equal(whole.losses, resumed.losses) and resumed.steps == 24
    assert state(resumed)["calls"] == 24
    assert not list(tmp_path.glob("*.tmp"))
    # Once finished, a further call has nothing to do.
    assert_same(
        state(whole), state(short(small(), checkpoint=tmp_path / "run.pt", loss=killed_at(0)))
    )


def test_a_kill_while_saving_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    file = tmp_path / "run.pt"
    with pytest.raises(Killed):
        short(small(), checkpoint=file, loss=killed_at(7))
    held = file.read_bytes()

    def half_written(content, out):
        out.write(b"half")
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(torch, "save", half_written)
        short(small(), checkpoint=file)
    assert file.read_bytes() == held and list(tmp_path.iterdir()) == [file]
    assert_same(state(short(small())), state(short(small(), checkpoint=file)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A checkpoint, which no test changes."""
    file = tmp_path_factory.mktemp("training") / "run.pt"
    short(small(), checkpoint=file)
    return file


def twice(*arguments):
    return 2 * simple(*arguments)


class Wider(Small):
    def __init__(self) -> None:
        super().__init__()
        self.layers[0], self.layers[3] = torch.nn.Linear(4, 17), torch.nn.Linear(17, 2)


OTHER_RUNS = {
    "seed": {"seed": 5},
    "steps": {"steps": 25},
    "seconds": {"seconds": 1e6},
    "lr": {"lr": 1e-3},
    "warmup": {"warmup": 5},
    "ema": {"ema": 0.9},
    "clip": {"clip": math.inf},
    "drop": {"drop": 0.2},
    "null": {"null": 0},
    "batch_size": {"batch_size": 17},
    "data": {"data": DATA.roll(1, 0)},
    "labels": {"labels": 1 - LABELS},
    "loss": {"loss": twice},
    "loss ": {"loss": partial(simple, on="eps")},
    "loss  ": {"loss": lambda *a: simple(*a)},
    "process": {"model": lambda m: replace(m, process=flowsolve.VP())},
    "predicts": {"model": lambda m: replace(m, predicts="eps")},
    "time": {"model": lambda m: replace(m, time="logsnr")},
    "time ": {"model": lambda m: replace(m, time=lambda level: 2 * level.t)},
    "conditioning": {"model": lambda m: m.given(label=torch.zeros(16, dtype=torch.int64))},
    "network": {"model": lambda m: replace(m, net=Wider())},
}


@pytest.mark.parametrize("what", OTHER_RUNS)
def test_a_checkpoint_of_another_run_is_refused(what, finished, tmp_path):
    changes, name = dict(OTHER_RUNS[what]), what.strip()
    model, before = changes.pop("model", lambda m: m)(small()), finished.read_bytes()
    with pytest.raises(
        ValueError, match=rf"^{name}=.*, but the checkpoint .*run\.pt is of a run with"
    ):
        short(model, **{"checkpoint": finished, **changes})
    assert finished.read_bytes() == before and [*finished.parent.iterdir()] == [finished]


def test_what_tells_functions_apart():
    def scaled(k):
        return lambda level: k * level.t

    same = [described(scaled(2.0)), described(scaled(2.0))]
    assert same[0] == same[1] != described(scaled(3.0))
    assert described(lambda level: level.t) != described(lambda level: level.sigma)
    assert described(simple) == "flowsolve.training.objectives.simple"
    x = torch.arange(6.0)
    assert described({"y": x}) == described({"y": x.view(2, 3).T.contiguous().T.reshape(6)})
    for other in (x.double(), x.view(2, 3), x + 1e-7, x.roll(1)):
        assert described({"y": x}) != described({"y": other})
    many = torch.zeros(3, 1 << 24)[:2]
    assert described(many) != described(torch.cat([many[:1], many[:1] + 1]))


def test_without_resume_there_is_another_run(tmp_path):
    file = tmp_path / "run.pt"
    short(small(), checkpoint=file)
    assert_same(
        state(short(small(), checkpoint=file, seed=5, resume=False)), state(short(small(), seed=5))
    )


def flipped(content: bytes) -> bytes:
    """With another bit in the largest tensor."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        largest = max(map(archive.read, archive.namelist()), key=len)
    at = content.index(largest) + len(largest) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def foreign(value) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "no end": lambda content: content[:-1],
    "a bit": flipped,
    "text": lambda content: b"no checkpoint",
    "tensor": lambda content: foreign(torch.zeros(3)),
    "network": lambda content: foreign(Small().state_dict()),
    "another": lambda content: foreign({"run": {}, "step": 3}),
    "pickle": lambda content: pickle.dumps({"run": {}}),
    "code": lambda content: foreign(Small()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named(damage, finished, tmp_path):
    file, model = tmp_path / "run.pt", small()
    file.write_bytes(DAMAGES[damage](finished.read_bytes()))
    before = {name: x.clone() for name, x in model.net.state_dict().items()}
    expected = rf"checkpoint='{file}' is damaged, or nothing that train wrote; expected"
    with pytest.raises(ValueError, match=expected):
        short(model, checkpoint=file)
    assert_same(before, model.net.state_dict())


def never(*arguments):
    raise AssertionError("a step was made")


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("none/run.pt", "there is no such directory"),
        ("file/run.pt", "file is not a directory"),
        ("", "it is a directory"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_noticed_before_the_first_step(
    place, reason, tmp_path
):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=rf"checkpoint='.*' cannot be written: .*{reason}"):
        short(small(), checkpoint=tmp_path / place, loss=never)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_one_training_at_a_time_has_a_checkpoint(tmp_path):
    file = tmp_path / "run.pt"
    link = tmp_path / "link.pt"
    link.symlink_to(file)
    others = []

    @functools.wraps(simple)
    def loss(*arguments):
        if len(others) < 2:
            for path in (file, link):
                expected = rf"checkpoint='{path}' is another run's: process {os.getpid()} is"
                with pytest.raises(ValueError, match=expected) as caught:
                    short(small(), checkpoint=path, loss=never)
                others.append(caught.value)
        return simple(*arguments)

    (tmp_path / ".run.pt.0123abcd.tmp").write_bytes(b"of one that was killed")
    (tmp_path / ".run.pt.lock").write_bytes(b"99999")  # it is gone, and so is its hold
    short(small(), checkpoint=file, loss=loss)
    assert len(others) == 2 and {*tmp_path.iterdir()} == {file, link}
    assert_same(state(short(small())), state(short(small(), checkpoint=link)))
    assert link.is_symlink()


@pytest.mark.parametrize("step", [2, 13])
@pytest.mark.parametrize("where", ["evaluation", "update"])
def test_an_interrupt_keeps_the_steps_that_were_made(step, where, tmp_path, monkeypatch):
    """Ctrl-C during an evaluation throws the step away, during an update of the weights it waits:
    either way the file is of a whole number of steps, and the run goes on to the same bits."""
    file, whole = tmp_path / "run.pt", short(small())
    steps, interrupted = iter(range(100)), functools.wraps(simple)(lambda *a: simple(*a))
    made = torch.optim.Adam.step

    def update(optimizer, *arguments):
        if next(steps) == step:
            signal.raise_signal(signal.SIGINT)
        return made(optimizer, *arguments)

    @functools.wraps(simple)
    def loss(*arguments):
        value = simple(*arguments)  # which has counted the call in a buffer
        if next(steps) == step:
            raise KeyboardInterrupt
        return value

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if where == "update":
            patch.setattr(torch.optim.Adam, "step", update)
        short(small(), checkpoint=file, loss=loss if where == "evaluation" else interrupted)
    reached = torch.load(file, weights_only=True)["step"]
    assert reached == step + (where == "update") and [*tmp_path.iterdir()] == [file]
    assert_same(state(whole), state(short(small(), checkpoint=file)))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class NoDropout(Small):
    def __init__(self) -> None:
        super().__init__()
        self.layers[2] = torch.nn.Identity()


def test_threads_train_the_same_weights():
    """While another one draws from torch's global generator, which is as it was at the end."""
    start, models = small().net.state_dict(), [replace(small(), net=NoDropout()) for _ in range(6)]
    for model in models:
        model.net.load_state_dict(start)
    (expected, *results), stop = [state(short(models[0], steps=12))], threading.Event()
    before = torch.random.get_rng_state()

    def draw():
        while not stop.is_set():
            torch.rand(10)

    with ThreadPoolExecutor(4) as pool:
        results += map(state, pool.map(lambda model: short(model, steps=12), models[1:5]))
        assert torch.equal(before, torch.random.get_rng_state())
        drawing = pool.submit(draw)
        results.append(state(short(models[5], steps=12)))
        stop.set()
        drawing.result()
    for result in results:
        assert_same(expected, result)


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


MODES = {
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "float64": lambda: default_dtype(torch.float64),
    "meta": lambda: torch.device("meta"),
    "deterministic": lambda: torch.random.fork_rng(),
}


@pytest.mark.parametrize("mode", MODES)
def test_torch_s_modes_do_not_reach_training(mode, tmp_path):
    class Explicit(Small):  # a network of its own may ask for the defaults; this one does not
        def forward(self, x, time, label=None):
            return self.layers(torch.cat([x, time[:, None], time[:, None]], dim=1))

    def made():
        model = small()
        return replace(model, net=Explicit().to(dtype=torch.float32)), model.net.state_dict()

    (first, weights), (second, _) = made(), made()
    first.net.load_state_dict(weights), second.net.load_state_dict(weights)
    plain = short(first, steps=6, checkpoint=tmp_path / "plain.pt")
    with MODES[mode]():
        moded = short(second, steps=6, checkpoint=tmp_path / "moded.pt")
    assert_same(state(plain), state(moded))
    assert torch.equal(plain.losses, moded.losses) and moded.losses.dtype == torch.float32
    # Each run may go on with what the other left.
    assert_same(state(plain), state(short(first, steps=6, checkpoint=tmp_path / "moded.pt")))


@pytest.mark.parametrize(
    ("process", "predicts"),
    [
        (flowsolve.EDM(), "F"),
        (flowsolve.VP.discrete(flowsolve.tables.linear(50)), "eps"),
        (flowsolve.VE(), "x0"),
    ],
)
def test_training_lowers_the_loss(process, predicts):
    trained = train(
        small(process, predicts), DATA, steps=150, batch_size=64, lr=1e-2, warmup=10, ema=0.9
    )
    assert trained.losses[-20:].mean() < 0.8 * trained.losses[:5].mean()
    assert flowsolve.sample(trained.model, n=4, nfe=4, seed=0).isfinite().all()


def test_the_average_follows_the_weights():
    model = small()
    trained = short(model, ema=0.0, warmup=1)
    assert_same(state(trained), model.net.state_dict())


def test_a_time_budget_ends_the_run():
    trained = short(small(), steps=10**9, seconds=0.2)
    assert 0 < trained.steps < 10**6 and trained.seconds >= 0.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": DATA * math.nan}, "data has NaN"),
        ({"data": DATA.to("meta")}, "data is on meta, the network on cpu"),
        ({"ema": math.nan}, "ema=nan: expected a number from 0 to 1"),
        ({"ema": 1.5}, "ema=1.5: expected"),
        ({"clip": -1.0}, "clip=-1.0: expected a positive number, or inf"),
        ({"clip": 0}, "clip=0: expected a positive number, or inf"),
        ({"lr": math.inf}, "lr=inf: expected a positive number"),
        ({"lr": 1e300}, r"lr=1e\+300: expected a positive number, at most 1000"),
        (
            {"batch_size": 2**64},
            "batch_size=18446744073709551616: expected a positive integer below",
        ),
        ({"seconds": math.nan}, "seconds=nan: expected a positive number, or inf"),
        ({"save_every": 0}, "save_every=0: expected a positive integer"),
        ({"warmup": 0}, "warmup=0: expected a positive integer"),
        ({"drop": -0.1}, "drop=-0.1: expected"),
        ({"null": -1}, "null=-1: expected"),
        ({"seed": 2**64}, "seed=18446744073709551616: expected an integer from 0"),
        ({"data": torch.zeros(4, 3)}, r"data has shape \(4, 3\); expected \(N, 2\)"),
        ({"labels": torch.zeros(3)}, r"labels has shape \(3,\)"),
        ({"null": None}, "null=None"),
        ({"steps": 0}, "steps=0: expected a positive"),
        ({"batch_size": -1}, "batch_size=-1"),
    ],
)
def test_what_does_not_fit_is_said(changes, message):
    with pytest.raises(ValueError, match=message):
        short(small(), **changes)
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module"):
        short(flowsolve.Denoiser(wrong, flowsolve.VP(), "v", (2,)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": math.inf}, "steps=inf: expected a positive integer"),
        ({"steps": True}, "steps=True: expected"),
        ({"data": DATA.long()}, "data=.*: expected finite floating-point numbers"),
        ({"labels": LABELS.float()}, "labels=.*: expected integers"),
        ({"loss": "simple"}, "loss='simple': expected a function"),
        ({"checkpoint": 5}, "checkpoint=5: expected a path"),
        ({"resume": "no"}, "resume='no': expected True or False"),
        ({"stepz": 5}, "argument='stepz' is not known. Did you mean 'steps'"),
    ],
)
def test_what_is_of_another_kind_is_said(changes, message):
    with pytest.raises(TypeError, match=message):
        short(small(), **changes)


@pytest.mark.parametrize("returned", [None, "simple", torch.zeros(16), torch.zeros(0)])
def test_a_loss_that_is_none_is_said(returned):
    with pytest.raises(TypeError, match=r"^loss returned .*; expected a tensor of numbers"):
        short(small(), loss=lambda *arguments: returned)


class Output(NamedTuple):
    sample: Tensor


@pytest.mark.parametrize("returned", [lambda y: (y,), lambda y: Output(y), lambda y: [y]])
def test_a_network_in_training_may_return_what_one_in_a_run_may(returned):
    class Wrapped(Small):
        def forward(self, x, time, label=None):
            return returned(super().forward(x, time, label))

    model = small()
    wrapped = Wrapped()
    wrapped.load_state_dict(model.net.state_dict())
    plain = short(model, steps=3)
    assert_same(state(plain), state(short(replace(small(), net=wrapped), steps=3)))


def test_times_in_training_are_those_of_runs():
    """Whole numbers for an embedding, where the process or ``time=`` says so."""
    seen = []

    class Embedding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(50, 2)

        def forward(self, x, time):
            seen.append(time.dtype)
            return x + self.table(time)

    process = flowsolve.VP.discrete(flowsolve.tables.linear(50))
    model = flowsolve.Denoiser(Embedding(), process, "eps", (2,), time=lambda level: round(level.t))
    trained = train(model, DATA, steps=3, batch_size=8, warmup=1)
    assert flowsolve.sample(trained.model, nfe=3, seed=0).isfinite().all()
    assert {*seen} == {torch.int64}


def test_of_a_learned_variance_the_simple_loss_is_of_the_other_half():
    both = flowsolve.Denoiser(
        lambda x, time: torch.cat([wrong(x, time), 9 + 0 * x], 1),
        flowsolve.VP(),
        "eps",
        (2, 3),
        variance="learned_range",
    )
    one = flowsolve.Denoiser(wrong, flowsolve.VP(), "eps", (2, 3))
    x0, eps = torch.ones(4, 2, 3), torch.full((4, 2, 3), 0.5)
    levels = [flowsolve.VP().level(t) for t in (0.1, 0.3, 0.5, 0.9)]
    assert torch.equal(simple(both, x0, eps, levels), simple(one, x0, eps, levels))


def test_weights_that_cannot_be_trained_are_said():
    frozen = small()
    frozen.net.requires_grad_(False)
    with torch.inference_mode():
        made = small()
    for model in (frozen, made):
        with pytest.raises(ValueError, match=r"expected weights that can be trained"):
            short(model)


def test_numbers_of_other_libraries_are_numbers():
    numbers = {"steps": np.int64(24), "lr": np.float32(2e-3), "clip": torch.tensor(1.0)}
    assert_same(state(short(small(), lr=float(numbers["lr"]))), state(short(small(), **numbers)))


def test_a_gradient_that_is_not_finite_ends_the_run(tmp_path):
    with pytest.raises(RuntimeError, match="non-finite"):
        short(small(), loss=lambda *a: simple(*a) * math.nan, checkpoint=tmp_path / "run.pt")
    assert not (tmp_path / "run.pt").exists()
