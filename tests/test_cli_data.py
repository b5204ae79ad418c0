"""The commands that begin with data."""

import numpy as np
import pytest
import torch

import flowsolve
from flowsolve import pictures
from flowsolve.cli import main

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("sklearn")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    return tmp_path


def size(columns, rows):
    return tuple(k * (64 + pictures.GAP) + pictures.GAP for k in (columns, rows))


def test_encode_writes_a_picture_and_says_what_is_lost(in_a_folder, capsys):
    assert main(["encode", "--nfe", "10", "-n", "3", "--save-tensor", "z.npz"]) == 0
    out, err = capsys.readouterr()
    assert "auto, 3 samples there and back: mean square error" in out and err == ""
    assert "encode.png and z.npz" in out
    with Image.open("encode.png") as picture:
        assert picture.size == size(3, 3)
    z = pictures.load_tensor(in_a_folder / "z.npz")
    from flowsolve.models.data import data

    want = flowsolve.encode(flowsolve.digits(), data().held_out[:3], nfe=10)
    assert torch.equal(z, want)


def test_interpolate_writes_rows_of_pairs_or_a_square(capsys):
    assert main(["interpolate", "--nfe", "8", "-n", "2", "--steps", "5", "--label", "3"]) == 0
    with Image.open("interpolate.png") as picture:
        assert picture.size == size(5, 2)
    assert main(["interpolate", "--nfe", "8", "--square", "--steps", "3", "-q"]) == 0
    with Image.open("interpolate.png") as picture:
        assert picture.size == size(3, 3)
    assert "2 pairs, 10 points" in capsys.readouterr().out


def test_data_of_one_s_own(in_a_folder, capsys):
    x = torch.rand(2, 1, 8, 8)
    for name in ("x.pt", "x.npy", "x.npz"):
        pictures.save_tensor(in_a_folder / name, x)
        assert torch.equal(pictures.load_tensor(in_a_folder / name), x)
        assert main(["encode", "--data", name, "-n", "2", "--nfe", "4"]) == 0
    np.savez("other.npz", images=x.numpy())
    assert torch.equal(pictures.load_tensor(in_a_folder / "other.npz"), x)
    capsys.readouterr()


def test_guidance_on_the_shipped_model(capsys):
    assert (
        main(
            [
                "sample",
                "--label",
                "8",
                "--guidance",
                "2",
                "--nfe",
                "4",
                "-n",
                "2",
                "--save-tensor",
                "g.npy",
            ]
        )
        == 0
    )
    model = flowsolve.guided(flowsolve.digits(8), {"label": 10}, scale=2.0)
    want = flowsolve.sample(model, solver="ddim", nfe=4, n=2, seed=0)
    np.testing.assert_allclose(np.load("g.npy"), want.numpy(), rtol=0, atol=1e-6)
    for line, said in (
        ("sample --guidance 2", "--guidance: expected --label as well"),
        ("sample --label 3 --guidance nan", "--guidance: scale=nan"),
        ("sample --model x.py:y --guidance 2", "x.py"),
    ):
        assert main(line.split()) == 2
        assert said in capsys.readouterr().err


def test_likelihood_says_nats_and_bits(in_a_folder, capsys):
    how = "likelihood -n 2 --solver auto --nfe 6 --save-tensor nats.npy"
    assert main(how.split()) == 0
    exact = capsys.readouterr().out
    assert "2 samples: " in exact and "bits per dimension, 6 evaluations" in exact
    nats = np.load("nats.npy")
    assert nats.shape == (2,) and np.isfinite(nats).all()
    assert main([*how.split(), "--divergence", "hutchinson", "--probes", "64"]) == 0
    assert "of which the probes" in capsys.readouterr().out
    assert abs(np.load("nats.npy") - nats).max() < 8.0  # probes err by about 11/sqrt(64)
    pictures.save_tensor(in_a_folder / "x.npy", torch.rand(3, 1, 8, 8) / 8)
    assert main(["likelihood", "--data", "x.npy", "-n", "3", "--solver", "ddim", "--nfe", "4"]) == 0
    assert "bits" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("encode --data nowhere.npy", "--data: .*nowhere.npy"),
        ("encode --data x.txt", r"--data: path='x.txt': expected a name ending in one of"),
        ("encode --data damaged.npy", "--data: path='damaged.npy': no file of numbers"),
        ("encode --data damaged.pt", "--data: path='damaged.pt': no file of numbers"),
        ("encode --data whole.npy", r"torch.int64 of shape \(2, 1, 8, 8\); expected floating"),
        ("encode --data other.npy", r"float32 of shape \(2, 3\); expected floating-point .*8, 8"),
        ("encode -n 3 --data two.npy", "there are 2 samples; expected 3 or more"),
        ("encode -n 30 --label 3", "held-out digits of the digit 3: there are 2[0-9] samples"),
        ("encode --solver ddpm", "encoding needs a deterministic solver"),
        ("encode --solver ddmi", "solver='ddmi' is not known. Did you mean 'ddim'"),
        ("encode -o x.tiff.exe", "expected a name ending in one of"),
        ("likelihood --solver ddpm", "encoding needs a deterministic solver"),
        ("likelihood --probes 4", "--probes: expected 2 or more, with --divergence hutchinson"),
        ("interpolate --steps 1", "--steps 1: expected 2 or more"),
        ("interpolate --save-tensor x.txt", "expected a name ending in one of .pt"),
    ],
)
def test_what_does_not_exist_is_said_before_the_work(line, said, in_a_folder, capsys):
    import re

    for name in ("damaged.npy", "damaged.pt"):
        (in_a_folder / name).write_bytes(b"\x93NUMPY no")
    np.save("whole.npy", np.zeros((2, 1, 8, 8), np.int64))
    np.save("other.npy", np.zeros((2, 3), np.float32))
    np.save("two.npy", np.zeros((2, 1, 8, 8), np.float32))
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert re.search(said, err) and err.startswith("flowsolve: error: ") and out == ""
    assert not (in_a_folder / "encode.png").exists()
