"""The shipped model of clothes: what it accepts and says, and that its card tells the truth."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import flowsolve
from flowsolve.models.digits import WEIGHTS as DIGITS
from flowsolve.models.digits import digits
from flowsolve.models.fashion import NAMES, fashion
from flowsolve.models.recipes import FASHION
from flowsolve.models.unet import UNet

ROOT = Path(__file__).parent.parent
WEIGHTS = DIGITS.with_name(FASHION.file)


def test_the_model_is_as_described():
    model = fashion()
    assert isinstance(model, flowsolve.Denoiser) and isinstance(model.net, UNet)
    assert model.process == flowsolve.RectifiedFlow() and model.predicts == "velocity"
    assert model.shape == (1, 28, 28) and model.dtype == torch.float32
    assert not model.net.training and not any(p.requires_grad for p in model.net.parameters())
    assert fashion().net is model.net and flowsolve.fashion is fashion  # loaded once
    assert fashion(dtype=torch.float64).dtype == torch.float64 and fashion().dtype == torch.float32
    assert sum(p.numel() for p in model.net.parameters()) == 825_364
    assert WEIGHTS.stat().st_size < 2e6 and len(NAMES) == 10
    with safe_open(WEIGHTS, "pt") as file:
        assert file.metadata() == {"training": "steps=9000 seed=0"}
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


def test_samples_are_deterministic_float32_and_depend_on_the_label():
    first, again = (flowsolve.sample(fashion(3), n=2, nfe=3, seed=0) for _ in range(2))
    assert first.shape == (2, 1, 28, 28) and first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.allclose(first, flowsolve.sample(fashion(3), n=2, nfe=3, seed=1), atol=0.1)
    assert not torch.allclose(first, flowsolve.sample(fashion(4), n=2, nfe=3, seed=0), atol=0.1)


def test_a_sample_does_not_know_its_batch():
    model = fashion(torch.arange(6))
    whole, parts = (flowsolve.sample(model, n=6, nfe=3, seed=0, batch_size=b) for b in (None, 2))
    later = flowsolve.sample(model, n=2, nfe=3, seed=0, first=4)
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-4)
    torch.testing.assert_close(whole[4:], later, rtol=0, atol=1e-4)


def test_labels_in_every_form():
    model, level = fashion(), fashion().process.level(0.6)
    x = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    anything = model(x, level).x0
    for none in (model.given(label=None), model.given(label=10)):
        assert torch.equal(none(x, level).x0, anything)
    seven = fashion(7)(x, level).x0
    for same in (fashion(torch.tensor(7)), fashion(torch.tensor([7, 7, 7])), model.given(label=7)):
        assert torch.equal(same(x, level).x0, seven)
    assert not torch.allclose(seven, anything, atol=1e-3)
    mixed = fashion(torch.tensor([1, 7, 2]))(x, level).x0
    torch.testing.assert_close(mixed[1], seven[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_dtype_is_the_same_model(dtype):
    x = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    level, half = fashion().process.level(0.9), dtype == torch.bfloat16
    other = fashion(5, dtype=dtype)(x, level).x0
    torch.testing.assert_close(other, fashion(5)(x, level).x0, rtol=0, atol=0.15 if half else 1e-4)


@pytest.mark.parametrize("label", [-1, 10, torch.tensor([3, 10]), torch.tensor(-1)])
def test_labels_that_are_no_classes(label):
    with pytest.raises(ValueError, match=r"label.*(-1|10).*expected a class 0 to 9"):
        fashion(label)


@pytest.mark.parametrize("label", [1.5, "bag", True, torch.tensor([1.0])])
def test_labels_that_are_no_labels(label):
    with pytest.raises(TypeError, match=r"label.*expected"):
        fashion(label)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"device": "abacus"}, ValueError, "device='abacus' is not available"),
        ({"dtype": torch.int32}, ValueError, "dtype=torch.int32: expected a floating-point"),
        ({"weights": 5}, TypeError, "weights=5: expected a path"),
        ({"weights": "nowhere.safetensors"}, FileNotFoundError, "weights='nowhere.safetensors'"),
        ({"weights": DIGITS}, ValueError, "these are not weights of the fashion model; expected"),
        ({"process": "cld"}, TypeError, "argument='process' is not known"),
    ],
)
def test_what_fashion_cannot_be_given(arguments, error, message):
    with pytest.raises(error, match=message):
        fashion(**arguments)
    if "weights" not in arguments:
        return
    with pytest.raises(ValueError, match="these are not weights of the digits model on process='c"):
        digits(weights=WEIGHTS)


# The card. ---------------------------------------------------------------------------------------

CARD = WEIGHTS.with_name("FASHION.md").read_text(encoding="utf-8")
RUNS = ("auto, nfe=20", "auto, nfe=5", "ddim, nfe=20", "ddim, nfe=5")
FOUND = json.loads((ROOT / "benchmarks" / "results" / "fashion.json").read_text(encoding="utf-8"))


def test_the_card_is_of_these_weights_and_of_what_the_benchmark_found():
    digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert digest in CARD and FOUND["sha256"] == digest
    assert (FOUND["samples"], FOUND["steps"]) == (2000, 9000)
    table = CARD[CARD.index("| | Fréchet |") :].split("\n\n", 1)[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert [name for name, *_ in rows] == [*FOUND["rows"]]
    for name, *cells in rows:
        for key, cell in zip(
            ("frechet", "accuracy", "nearest", "nearest_percent"), cells, strict=True
        ):
            value = FOUND["rows"][name].get(key)
            digits_after = 4 if key == "accuracy" else 3
            assert cell == ("—" if value is None else f"{value:.{digits_after}f}")


def test_what_the_card_says_of_the_loss():
    before, last = FOUND["loss"]["fifth_before"], FOUND["loss"]["last_fifth"]
    less = 100 * (1 - last / before)
    said = f"is {last:.4f}, of the fifth before {before:.4f}: {less:.2f} % less, under 2 %"
    assert said in CARD
    assert less < 2


def test_what_the_card_says_of_the_samples():
    rows = FOUND["rows"]
    real, held = rows["training"], rows["held-out"]
    times = [round(rows[f"{run}, by class"]["frechet"] / real["frechet"]) for run in RUNS]
    assert times == [4, 12, 7, 38]
    assert "auto are four times as far with 20 evaluations, twelve times with five; of ddim" in CARD
    best, coarse = rows["auto, nfe=20, by class"], rows["ddim, nfe=5, by class"]
    assert best["accuracy"] > 0.9 * held["accuracy"]
    assert best["frechet"] < rows["auto, nfe=20, no class"]["frechet"]
    further = [best[key] / held[key] for key in ("nearest", "nearest_percent")]
    assert further == pytest.approx([1.12, 1.37], abs=0.005)
    assert coarse["nearest"] / held["nearest"] == pytest.approx(0.92, abs=0.005)


@pytest.mark.late
def test_the_picture_of_the_documentation(monkeypatch):
    """With five evaluations auto is the nearest to where the ODE ends."""
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "figures"))
    picture = importlib.import_module("fashion")
    monkeypatch.setattr(picture, "MANY", 20)
    rows, errors = picture.ends()
    assert min(errors, key=errors.__getitem__) == "auto" and errors["auto"] < 0.9 * errors["ddim"]
    assert [*rows] == [*errors, "auto, 20"]
    assert len(picture.draw().axes) == 50
