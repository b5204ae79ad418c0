"""The shipped models: what they accept, what they say, and that their card tells the truth."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import flowsolve
from flowsolve.models import digits as module
from flowsolve.models import quality, shipped
from flowsolve.models.data import data
from flowsolve.models.digits import RECIPES, WEIGHTS, digits, load, train_digits
from flowsolve.models.preconditioned import Preconditioned
from flowsolve.models.unet import UNet
from flowsolve.output import alone
from flowsolve.training.streams import drawing

CARD = Path(module.__file__).with_name("DIGITS.md").read_text(encoding="utf-8")
SAMPLES = 200
MATRICES = {"cld": flowsolve.CLD(), "blurring": flowsolve.Blurring(8, sigma_max=2.5)}


def card(pattern: str) -> float:
    found = re.search(pattern, CARD)
    assert found, f"the model card has no {pattern}"
    return float(found[1].replace(",", ""))


def test_the_split_is_fixed_and_covers_the_data():
    split = data()
    assert split.train.shape == (1500, 1, 8, 8) and split.held_out.shape == (297, 1, 8, 8)
    assert split.train.dtype == torch.float32 and split.train_labels.shape == (1500,)
    both = torch.cat([split.train, split.held_out])
    assert both.min() == -1 and both.max() == 1 and torch.equal((both * 8).round(), both * 8)
    assert torch.bincount(torch.cat([split.train_labels, split.held_out_labels])).min() >= 174
    assert split.held_out_labels[:8].tolist() == [2, 2, 9, 8, 8, 3, 6, 0]
    assert data() is split


def test_the_model_is_as_described():
    model = digits()
    assert isinstance(model, flowsolve.Denoiser) and isinstance(model.net, UNet)
    assert (
        model.process == flowsolve.VP.cosine()
        and model.predicts == "v"
        and model.shape == (1, 8, 8)
    )
    assert model.dtype == torch.float32 and not model.net.training
    assert not any(p.requires_grad for p in model.net.parameters())
    assert digits().net is model.net  # loaded once
    assert digits(dtype=torch.float64).dtype == torch.float64 and digits().dtype == torch.float32
    assert WEIGHTS.stat().st_size < 300_000


def test_samples_are_deterministic_float32_and_depend_on_the_label():
    first, again = (flowsolve.sample(digits(3), n=2, nfe=4, seed=0) for _ in range(2))
    assert (
        first.shape == (2, 1, 8, 8) and first.dtype == torch.float32 and torch.equal(first, again)
    )
    assert not torch.allclose(first, flowsolve.sample(digits(4), n=2, nfe=4, seed=0), atol=0.1)


def test_labels_in_every_form():
    model, level = digits(), digits().process.level(0.6)
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    anything = model(x, level).x0
    for none in (
        model.given(label=None),
        model.given(label=10),
        model.given(label=torch.full((3,), 10)),
    ):
        assert torch.equal(none(x, level).x0, anything)
    seven = digits(7)(x, level).x0
    for same in (
        digits(torch.tensor(7)),
        digits(torch.tensor([7, 7, 7])),
        model.given(label=7),
        digits(torch.full((3,), 7, dtype=torch.int32)),
    ):
        assert torch.equal(same(x, level).x0, seven)
    assert not torch.allclose(seven, anything, atol=1e-3)
    mixed = digits(torch.tensor([1, 7, 2]))(x, level).x0
    torch.testing.assert_close(mixed[1], seven[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(
        model.net(x, torch.full((3,), 0.6)), model.net(x, torch.full((3,), 0.6), label=None)
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_dtype_is_the_same_model(dtype):
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    level = digits().process.level(0.9)
    other = digits(5, dtype=dtype)(x, level).x0
    torch.testing.assert_close(
        other, digits(5)(x, level).x0, rtol=0, atol=0.05 if dtype == torch.bfloat16 else 1e-4
    )


def test_the_network_without_classes_on_larger_images():
    net = UNet(channels=3, base=8, classes=0)
    assert net(torch.zeros(2, 3, 16, 12), torch.zeros(2)).shape == (2, 3, 16, 12)


def test_labels_are_split_with_the_batch():
    model = digits(torch.arange(6))
    whole, parts = (flowsolve.sample(model, n=6, nfe=3, seed=0, batch_size=b) for b in (None, 2))
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-4)


@pytest.mark.parametrize("label", [-1, 10, 99, torch.tensor([3, 10]), torch.tensor(-1)])
def test_labels_that_are_no_digits(label):
    with pytest.raises(ValueError, match=r"label.*(-1|10|99).*expected a digit 0 to 9"):
        digits(label)


@pytest.mark.parametrize(
    "label", [1.5, "3", True, torch.tensor([1.0]), torch.zeros(2, 2, dtype=torch.int64)]
)
def test_labels_that_are_no_labels(label):
    with pytest.raises(TypeError, match=r"label.*expected"):
        digits(label)


def test_the_network_checks_labels_too():
    x, time = torch.zeros(3, 1, 8, 8), torch.full((3,), 0.5)
    net = digits().net
    for label, error in (
        (11, ValueError),
        (torch.zeros(2, dtype=torch.int64), ValueError),
        (torch.zeros(3), ValueError),
        ("3", TypeError),
    ):
        with pytest.raises(error, match="label"):
            net(x, time, label=label)


@pytest.mark.parametrize(
    ("missing", "extra", "call"),
    [
        ("safetensors.torch", "run", lambda: load(WEIGHTS)),
        ("sklearn.datasets", "train", data),
        ("sklearn.svm", "train", quality.classifier),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(monkeypatch, missing, extra, call):
    data.cache_clear()
    quality.classifier.cache_clear()
    monkeypatch.setitem(sys.modules, missing, None)
    package = missing.split(".")[0]
    with pytest.raises(ImportError, match=rf"needs {package}: pip install 'flowsolve\[{extra}\]'"):
        call()


@pytest.mark.late
def test_sampling_needs_no_scikit_learn():
    code = """
import sys
sys.modules["sklearn"] = None
import flowsolve
print(flowsolve.sample(flowsolve.digits(3), n=1, nfe=1, seed=0).shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(flowsolve.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "torch.Size([1, 1, 8, 8])\n", done.stderr


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        digits(weights="nowhere.safetensors")


def test_the_first_call_changes_nothing_and_is_not_changed_by_the_mode_it_is_made_in():
    shipped._loaded.cache_clear()
    before = torch.random.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.device("meta"):
            model = digits(3)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not any(p.is_inference() or p.requires_grad for p in model.net.parameters())
    assert {(p.dtype, p.device.type) for p in model.net.parameters()} == {(torch.float32, "cpu")}
    start = torch.randn(1, 1, 8, 8, requires_grad=True)
    flowsolve.solve(model, start=start, nfe=2, differentiable=True).x.sum().backward()
    assert start.grad is not None and start.grad.abs().sum() > 0
    file = {name: x.float() for name, x in load_file(WEIGHTS).items()}
    assert all(torch.equal(file[name], x) for name, x in model.net.state_dict().items())


def changed(name: str, change):
    def make(file: Path) -> None:
        weights = load_file(WEIGHTS)
        save_file({**weights, name: change(weights[name])}, file)

    return make


def bytes_of(change):
    return lambda file: file.write_bytes(change(WEIGHTS.read_bytes()))


DAMAGES = {
    "empty": (bytes_of(lambda content: b""), "damaged"),
    "half": (bytes_of(lambda content: content[: len(content) // 2]), "damaged"),
    "text": (bytes_of(lambda content: b"these are no weights"), "damaged"),
    "header": (bytes_of(lambda content: content[:8] + b"x" * 80 + content[88:]), "damaged"),
    "length": (bytes_of(lambda content: b"\xff" * 8 + content[8:]), "damaged"),
    "longer": (bytes_of(lambda content: content + b"more"), "damaged"),
    "pickle": (lambda file: torch.save({"out.bias": torch.zeros(1)}, file), "damaged"),
    "integers": (changed("out.bias", lambda x: x.to(torch.int32)), "not weights"),
    "NaN": (changed("out.bias", lambda x: x * torch.nan), "not weights"),
    "shape": (changed("out.bias", lambda x: torch.zeros(2)), "not weights"),
    "name": (lambda file: save_file({"weight": torch.zeros(2)}, file), "not weights"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_are_named(damage, tmp_path):
    (make, message), file = DAMAGES[damage], tmp_path / "x.safetensors"
    make(file)
    with pytest.raises(ValueError, match=rf"^weights='{file}'.*{message}.*; expected "):
        digits(weights=file)
    with pytest.raises(ValueError, match=rf"^path='{file}'.*{message}.*; expected "):
        load(str(file))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"device": "abacus"}, ValueError, "device='abacus' is not available"),
        ({"device": "meta"}, ValueError, "device='meta' is not available"),
        ({"device": 5}, TypeError, "device=5: expected"),
        ({"dtype": torch.int32}, ValueError, "dtype=torch.int32: expected a floating-point"),
        ({"dtype": "float32"}, TypeError, "dtype='float32': expected a floating-point torch.dtype"),
        ({"weights": 5}, TypeError, "weights=5: expected a path"),
        ({"label": torch.zeros(2, dtype=torch.int64, device="meta")}, TypeError, "label"),
        ({"procces": "cld"}, TypeError, "argument='procces' is not known. Did you mean 'process'"),
    ],
)
def test_what_digits_cannot_be_given(arguments, error, message):
    with pytest.raises(error, match=message):
        digits(**arguments)


def test_networks_draw_what_torch_s_generator_would_give_them():
    before = torch.random.get_rng_state()
    with drawing(3):
        net = UNet()
    assert torch.equal(before, torch.random.get_rng_state())
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = UNet().state_dict()
    assert all(torch.equal(expected[name], x) for name, x in net.state_dict().items())


def test_torch_s_modes_do_not_reach_the_training_of_digits(tmp_path):
    plain = train_digits(tmp_path / "plain", steps=2, progress=False)
    data.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.device("meta"):
            moded = train_digits(tmp_path / "moded", steps=2, progress=False)
    finally:
        torch.set_default_dtype(torch.float32)
    assert plain["weights"].read_bytes() == moded["weights"].read_bytes()
    assert not any(x.is_inference() for x in data())


def test_a_folder_has_one_training_at_a_time(tmp_path):
    with alone(tmp_path / "digits.safetensors"):
        expected = rf"out='{tmp_path}' is another run's: process {os.getpid()}"
        with pytest.raises(ValueError, match=expected):
            train_digits(tmp_path, steps=1, progress=False)
    assert [*tmp_path.iterdir()] == []
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"out='.*file' is no folder"):
        train_digits(tmp_path / "file", steps=1, progress=False)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: UNet(base=12), "base=12: expected a positive multiple of 8"),
        (lambda: UNet(0), "channels=0: expected a positive integer"),
        (lambda: UNet(classes=-1), "classes=-1: expected an integer from 0"),
        (lambda: train_digits("x", steps=0), "steps=0: expected a positive integer"),
        (lambda: train_digits("x", seconds=-1.0), "seconds=-1.0: expected a positive number"),
        (lambda: train_digits("x", seed=-1), "seed=-1: expected an integer from 0"),
    ],
)
def test_numbers_that_cannot_be_are_told_before_any_work(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not Path("x").exists()


def test_threads_share_the_model():
    found = [torch.empty(0)] * 4

    def work(k: int) -> None:  # on a device of another name, for which nothing is loaded yet
        found[k] = flowsolve.sample(digits(k, device="cpu:0"), n=1, nfe=3, seed=k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [flowsolve.sample(digits(k), n=1, nfe=3, seed=k) for k in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_training_leaves_a_checkpoint_and_weights_and_resumes(tmp_path):
    facts = train_digits(tmp_path, steps=6, progress=False)
    assert (
        facts["steps"] == 6
        and facts["checkpoint"].is_file()
        and facts["parameters"] == card(r"([\d,]+) parameters")
    )
    model = digits(3, weights=facts["weights"])
    assert (
        model.net is not digits().net
        and flowsolve.sample(model, n=1, nfe=2, seed=0).isfinite().all()
    )
    before = facts["weights"].read_bytes()
    assert train_digits(tmp_path, steps=6, progress=False)["seconds"] == pytest.approx(
        facts["seconds"], abs=2.0
    )
    assert facts["weights"].read_bytes() == before
    with pytest.raises(ValueError, match="seed=1, but the checkpoint"):
        train_digits(tmp_path, steps=6, seed=1, progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "digits.safetensors"]


def test_frechet_is_that_of_gaussians():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 3, dtype=torch.float64, generator=g)
    assert quality.frechet(x, x) == pytest.approx(0.0, abs=1e-10)
    # The same covariance, moved by 2; then scaled by 3 in each of 3 dimensions: Σ (σ − 3σ)².
    assert quality.frechet(x, x + torch.tensor([2.0, 0, 0])) == pytest.approx(4.0, rel=1e-9)
    centred = x - x.mean(0)
    assert quality.frechet(centred, 3 * centred) == pytest.approx(
        4 * float(centred.T.cov().trace()), rel=1e-9
    )


def test_the_card_is_of_these_weights():
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() in CARD
    assert sum(p.numel() for p in UNet().parameters()) == card(r"([\d,]+) parameters")


@pytest.mark.late
def test_the_card_s_figures_are_what_the_weights_give():
    held = quality.held_out()
    assert held.accuracy == pytest.approx(
        card(r"held-out digits \|[^|]+\| (\S+) \|"), abs=0.004
    )  # one digit
    assert held.nearest == pytest.approx(
        card(r"held-out digits \|[^|]+\|[^|]+\| (\S+) \|"), abs=0.01
    )
    labels = torch.arange(SAMPLES) % 10
    model = digits(labels)
    for solver in ("ab3", "ddim"):
        claimed = {
            name: card(rf"{solver}, nfe=20, by class \|{'[^|]+[|]' * i} (\S+) \|")
            for i, name in enumerate(("frechet", "accuracy", "nearest"))
        }
        assert claimed["accuracy"] >= 0.99 * held.accuracy and claimed["frechet"] < 0.3
        measured = quality.measure(
            "",
            flowsolve.sample(model, solver=solver, nfe=20, n=SAMPLES, seed=0, batch_size=100),
            labels,
        )
        # Fewer samples than the card's: three standard errors of a share, and Fréchet distances
        # grow as samples fall.
        assert measured.accuracy == pytest.approx(
            claimed["accuracy"], abs=3 * (0.013 / SAMPLES) ** 0.5
        )
        assert measured.nearest == pytest.approx(claimed["nearest"], abs=0.12)
        assert claimed["frechet"] - 0.05 < measured.frechet < claimed["frechet"] + 0.6


@pytest.mark.parametrize("name", MATRICES)
def test_the_models_on_matrices_are_as_described(name):
    model = digits(4, process=name)
    assert (
        model.process == MATRICES[name]
        and model.predicts == "x0"
        and model.shape == (1, 8, 8)
        and model.dtype == torch.float32
    )
    assert isinstance(model.net, Preconditioned) and not any(
        p.requires_grad for p in model.net.parameters()
    )
    assert (
        digits(process=name).net is model.net
        and digits(process=name, dtype=torch.float64).dtype == torch.float64
    )
    file = WEIGHTS.with_name(RECIPES[name].file)
    assert file.stat().st_size < 300_000 and hashlib.sha256(file.read_bytes()).hexdigest() in CARD
    assert f"{sum(p.numel() for p in model.net.parameters()):,}" in CARD
    x = flowsolve.sample(model, n=2, nfe=4, seed=0)
    assert x.shape == (2, 1, 8, 8) and torch.equal(x, flowsolve.sample(model, n=2, nfe=4, seed=0))
    double = flowsolve.sample(digits(4, process=name, dtype=torch.float64), n=2, nfe=4, seed=0)
    torch.testing.assert_close(x, double, rtol=0, atol=1e-3)


@pytest.mark.late
@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("name", MATRICES)
def test_the_card_s_figures_of_the_models_on_matrices(name):
    labels = torch.arange(SAMPLES) % 10
    for solver, nfe in (("unipc3", 20), ("ddim", 50)):
        row = rf"{name}, {solver}, nfe={nfe}, by class"
        claimed = [card(rf"{row} \|{'[^|]+[|]' * i} (\S+) \|") for i in range(3)]
        x = flowsolve.sample(
            digits(labels, process=name), solver=solver, nfe=nfe, n=SAMPLES, seed=0
        )
        measured = quality.measure("", x, labels)
        # Three standard errors of a share, and Fréchet distances grow as samples fall, as above.
        assert measured.accuracy == pytest.approx(
            claimed[1], abs=3 * (claimed[1] * (1 - claimed[1]) / SAMPLES) ** 0.5
        )
        assert measured.nearest == pytest.approx(claimed[2], abs=0.15)
        assert claimed[0] - 0.05 < measured.frechet < claimed[0] + 0.6
    with pytest.raises(ValueError, match="scalar processes"):
        quality.bits_per_dimension(digits(process=name))


def test_processes_that_have_no_model():
    for call in (
        lambda: digits(process="cdl"),
        lambda: train_digits("nowhere", process="cdl"),
        lambda: load(WEIGHTS, "cdl"),
    ):
        with pytest.raises(ValueError, match=r"process='cdl' is not known\. Did you mean 'cld'"):
            call()
    assert not Path("nowhere").exists()
    for name, file in (
        ("cosine", "digits_cld"),
        ("cld", "digits_blurring"),
        ("blurring", "digits"),
    ):
        with pytest.raises(
            ValueError,
            match=rf"{file}\.safetensors'.* not weights of the digits model on process='{name}'",
        ):
            digits(process=name, weights=WEIGHTS.with_name(f"{file}.safetensors"))


@pytest.mark.parametrize("name", MATRICES)
def test_training_on_matrices(tmp_path, name):
    facts = train_digits(tmp_path, process=name, steps=4, progress=False)
    assert facts["weights"] == tmp_path / f"digits_{name}.safetensors"
    model = digits(3, process=name, weights=facts["weights"])
    assert flowsolve.sample(model, n=1, nfe=2, seed=0).isfinite().all()
    before = facts["weights"].read_bytes()
    train_digits(tmp_path, process=name, steps=4, progress=False)
    assert facts["weights"].read_bytes() == before
    with pytest.raises(ValueError, match="but the checkpoint"):
        train_digits(tmp_path, steps=4, progress=False)


@pytest.mark.parametrize(
    "process", [*MATRICES.values(), flowsolve.VP.cosine()], ids=lambda p: type(p).__name__
)
def test_preconditioning_is_the_best_linear_estimate(process):
    """Of clean states with covariance σ²: the residual has the covariance C and nothing to do with
    the state."""
    net, n, shape = (
        Preconditioned(torch.nn.Identity(), process, 0.85),
        40_000,
        process.state_shape((1, 8, 8)),
    )
    clean, eps = torch.randn(
        2, n // 64, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    clean = 0.85 * clean
    for t in (process.t_min, 0.05, 0.4, process.t_max):
        level, (white, K, root) = process.level(t), net.coefficients(t)
        x = level.A @ clean + level.R @ eps
        unit, rest = white @ x, root.inverse() @ (clean - K @ x)
        for a, b, expected in ((unit, unit, 1.0), (rest, rest, 1.0), (unit, rest, 0.0)):
            assert (a * b).mean(0).mean().item() == pytest.approx(expected, abs=5 / n**0.5)


def test_a_time_that_was_rounded_up_is_the_last_one():
    net = Preconditioned(torch.nn.Identity(), flowsolve.Blurring(8), 0.85)
    assert net.coefficients(
        float(torch.tensor(0.996).nextafter(torch.tensor(1.0)))
    ) == net.coefficients(0.996)
