"""Training on images of 28×28 in files, and the commands that know the fashion model."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flowsolve
from flowsolve.cli import main
from flowsolve.models.digits import train_digits
from flowsolve.models.fashion import fashion, train_fashion
from flowsolve.models.recipes import FASHION
from flowsolve.output import alone

IMAGES = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (20, 28, 28), dtype=np.uint8)
LABELS = np.arange(20, dtype=np.uint8) // 2


def tiny_npz(folder: Path, **changed: Any) -> Path:
    arrays: Any = {"images": IMAGES, "labels": LABELS} | changed
    np.savez(folder / "tiny.npz", **arrays)
    return folder / "tiny.npz"


def tiny_folder(folder: Path) -> Path:
    (folder / "tiny").mkdir()
    for k in range(10):
        rows = (IMAGES[k == LABELS] / 255.0).ravel().tolist()
        (folder / "tiny" / f"{k}.json").write_text(json.dumps({"data": rows}), encoding="utf-8")
    return folder / "tiny"


def tiny_idx(folder: Path) -> Path:
    for name, values in (("images-idx3", IMAGES), ("labels-idx1", LABELS)):
        head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
        file = folder / f"tiny-{name}-ubyte.gz"
        file.write_bytes(gzip.compress(head + values.tobytes()))
    return folder / "tiny-images-idx3-ubyte.gz"


@pytest.mark.late
def test_the_command_trains_on_every_kind_of_file_and_goes_on(tmp_path, monkeypatch, capsys):
    """The same images in three formats give the same file, which is a model's; a run that is
    finished is not run again."""
    monkeypatch.chdir(tmp_path)
    contents = []
    for make in (tiny_npz, tiny_folder, tiny_idx):
        out, data = Path(make.__name__), make(tmp_path)
        argv = ["train", "-q", "--size", "28", "--data", str(data), "--steps", "2"]
        if make is tiny_npz:  # without --out
            out = Path("runs", "fashion")
        else:
            argv += ["--out", str(out)]
        assert main(argv) == 0
        assert sorted(p.name for p in out.iterdir()) == ["checkpoint.pt", FASHION.file]
        contents.append((out / FASHION.file).read_bytes())
    assert contents[0] == contents[2]
    mine = fashion(3, weights=out / FASHION.file)
    assert mine.net is not fashion().net
    assert flowsolve.sample(mine, n=1, nfe=2, seed=0).isfinite().all()
    folder = fashion(3, weights=Path("tiny_folder", FASHION.file))
    nets: Any = mine.net, folder.net
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-3)  # of k/255 in JSON and in bytes
    assert main(argv) == 0
    assert (out / FASHION.file).read_bytes() == contents[2]
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 2
    assert capsys.readouterr().err == ""


def test_training_again_is_of_the_same_seed_and_data(tmp_path):
    facts = train_fashion(tiny_npz(tmp_path), tmp_path / "run", steps=2, progress=False)
    assert facts["steps"] == 2 and facts["parameters"] == 825_364 and facts["seed"] == 0
    with pytest.raises(ValueError, match="seed=1, but the checkpoint"):
        train_fashion(tiny_npz(tmp_path), tmp_path / "run", steps=2, seed=1, progress=False)
    other = tiny_npz(tmp_path, images=255 - IMAGES)
    with pytest.raises(ValueError, match=r"data=.*, but the checkpoint"):
        train_fashion(other, tmp_path / "run", steps=2, progress=False)
    with pytest.raises(ValueError, match="but the checkpoint"):
        train_digits(tmp_path / "run", steps=2, progress=False)
    with alone(tmp_path / FASHION.file):
        expected = rf"out='{tmp_path}' is another run's: process {os.getpid()}"
        with pytest.raises(ValueError, match=expected):
            train_fashion(other, tmp_path, steps=1, progress=False)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": IMAGES[:, :8, :8]}, r"images \(1, 8, 8\) in classes up to 9; expected \(1, 28"),
        ({"images": IMAGES[:, None].repeat(3, 1)}, r"images \(3, 28, 28\) in classes up to 9"),
        ({"labels": LABELS + 1}, r"in classes up to 10; expected \(1, 28, 28\) in classes 0 to 9"),
        ({"labels": LABELS[:3]}, r"cannot be read \(.*labels of shape \(3,\)"),
    ],
)
def test_other_images_are_refused_before_any_work(tmp_path, changed, message):
    data = tiny_npz(tmp_path, **changed)
    with pytest.raises(ValueError, match=rf"data='{data}'.*{message}"):
        train_fashion(data, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            "train --size 28",
            "--size 28: expected --data as well: pictures with labels, such as tra",
        ),
        (
            "train --size 28",
            "Debian's package dataset-fashion-mnist, or the folder of JSON files in",
        ),
        (
            "train --size 28 --data nowhere.npz",
            "data='nowhere.npz': there is no such file or folder",
        ),
        ("train --size 28 --data .", "no file of a class in it"),
        ("train --size 28 --process cld --data .", "--process is for the digits model"),
        ("train --data .", "--data: expected --size 28 as well; digits come from scikit-learn"),
        ("train --size 16", "invalid choice: 16"),
        ("sample --model fashion --process cld", "cannot be combined with --model fashion"),
        ("sample --model fashion --label 10", "label=10: expected a class 0 to 9"),
        ("sample --model fashion --weights nowhere.safetensors", "no file of weights nowhere"),
        ("sample --model fashion --guidance 2", "--guidance: expected --label as well"),
        ("encode --model fashion", "--data: expected a file of numbers"),
        (
            "sample --model fasion",
            "expected module:name, file.py:name or a folder, or digits or fashion",
        ),
    ],
)
def test_bad_usage_is_one_line_and_status_2(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(argv.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("flowsolve: error: ") and err.count("\n") == 1 and message in err
    assert [*tmp_path.iterdir()] == []


def test_the_commands_sample_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def said(line: str) -> str:
        assert main(line.split()) == 0
        return capsys.readouterr().out

    guided = "sample --model fashion --label 8 --guidance 2 --nfe 3 -n 2 --save-tensor x.npy"
    assert "2 of the class 8 with ddim" in said(guided)
    model = flowsolve.guided(fashion(8), {"label": 10}, scale=2.0)
    want = flowsolve.sample(model, solver="ddim", nfe=3, n=2, seed=0).numpy()
    np.testing.assert_array_equal(np.load("x.npy"), want)
    assert "1 of any digit with ddim" in said(
        "sample --model digits --nfe 2 -n 1 --save-tensor d.pt"
    )
    assert torch.load("d.pt").shape == (1, 1, 8, 8)
    said("compare -q --model fashion --solvers ddim --nfe 2 -n 1 -o c.png")
    said("encode -q --model fashion --data x.npy --nfe 2 -n 2 --save-tensor z.npy")
    assert np.load("z.npy").shape == (2, 1, 28, 28) and Path("c.png").is_file()
