"""The command line: what it writes, what it says, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import flowsolve
from flowsolve import pictures
from flowsolve.cli import main
from flowsolve.models import digits

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def exact_model(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The commands without the network: two flat pictures are all the data. Returns what labels
    were asked for."""
    asked: list[object] = []
    data = torch.stack([torch.full((1, 8, 8), -1.0), torch.full((1, 8, 8), 1.0)])

    def model(label: object = None, **_: object) -> flowsolve.Denoiser:
        asked.append(label)
        return flowsolve.exact.Empirical(flowsolve.VP.cosine(), data)

    monkeypatch.setattr(digits, "digits", model)
    return asked


def test_sample_writes_a_sheet_and_ends_with_the_facts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.png"
    assert main(["sample", "--solver", "ddim", "--nfe", "5", "--n", "9", "-o", str(file)]) == 0
    out, err = capsys.readouterr()
    last = out.splitlines()[-1]
    for fact in ("ddim", "5 evaluations", "9 samples", " s,", str(file)):
        assert fact in last
    assert err == ""  # no bar: stderr is not a terminal
    with Image.open(file) as picture:
        side = 3 * (64 + pictures.GAP) + pictures.GAP
        assert picture.size == (side, side)
        assert picture.text["evaluations"] == "5"
        assert len(np.unique(np.asarray(picture))) >= 2
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_samples_do_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    results = []
    for size in ("7", "3"):
        file = tmp_path / f"{size}.npz"
        argv = [
            "sample",
            "-q",
            "--solver",
            "ddpm",
            "--n",
            "7",
            "--nfe",
            "4",
            "--batch-size",
            size,
            "--save-tensor",
            str(file),
        ]
        assert main([*argv, "-o", str(tmp_path / "a.png")]) == 0
        results.append(np.load(file)["samples"])
    assert results[0].shape == (7, 1, 8, 8)
    np.testing.assert_allclose(results[0], results[1], atol=1e-12)


@pytest.mark.parametrize("suffix", ["pt", "npy", "npz"])
def test_tensors_are_saved(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"x.{suffix}"
    assert (
        main(
            [
                "sample",
                "-q",
                "--n",
                "2",
                "--nfe",
                "2",
                "-o",
                str(tmp_path / "x.png"),
                "--save-tensor",
                str(file),
            ]
        )
        == 0
    )
    x = torch.load(file) if suffix == "pt" else np.load(file)
    assert tuple((x["samples"] if suffix == "npz" else x).shape) == (2, 1, 8, 8)


def test_options_reach_the_solver(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], exact_model: list[object]
) -> None:
    out = ["-o", str(tmp_path / "x.png"), "--n", "2"]
    assert (
        main(
            [
                "sample",
                "--solver",
                "dopri5",
                "--option",
                "rtol=1e-2",
                "--option",
                "atol=1e-2",
                "--label",
                "3",
                *out,
            ]
        )
        == 0
    )
    loose = int(capsys.readouterr().out.splitlines()[-1].split(" evaluations")[0].split()[-1])
    assert (
        main(
            ["sample", "--solver", "dopri5", "--option", "rtol=1e-6", "--option", "atol=1e-6", *out]
        )
        == 0
    )
    tight = int(capsys.readouterr().out.splitlines()[-1].split(" evaluations")[0].split()[-1])
    assert loose < tight
    assert exact_model == [3, None]
    assert main(["sample", "--eta", "1", "--nfe", "3", "-q", *out]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required"),
        (["smaple"], "smaple"),
        (["sample", "--solver", "dddim"], "Did you mean 'ddim'"),
        (["sample", "--grid", "karas"], "Did you mean 'karras'"),
        (["sample", "--option", "etta=1"], "Did you mean 'eta'"),
        (["sample", "--option", "eta"], "key=value"),
        (["sample", "--eta", "30"], "eta"),
        (["sample", "--nfe", "0"], "positive integer"),
        (["sample", "--n", "many"], "positive integer"),
        (["sample", "--seed", "-1"], "2**64"),
        (["sample", "-o", "no/such/place.png"], "no such directory"),
        (["sample", "-o", "x.xyz"], ".png"),
        (["sample", "--save-tensor", "x.txt"], ".npz"),
        (["train", "--seconds", "1", "--steps", "1"], "one of the two"),
        (["train", "--seconds", "nan"], "seconds"),
        (["train", "--process", "bluring"], "Did you mean 'blurring'"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    argv: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("flowsolve: error: ") and err.count("\n") == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_unknown_weights_and_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()  # the real model
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "--weights", "none.safetensors"]) == 2
    assert main(["sample", "--device", "abacus"]) == 2
    assert main(["sample", "--label", "12"]) == 2
    assert main(["sample", "--process", "cdl"]) == main(["compare", "--process", "cdl"]) == 2
    assert main(["sample", "--process", "cld", "--weights", str(digits.WEIGHTS)]) == 2
    weights, device, label, process, again, others = capsys.readouterr().err.splitlines()
    assert (
        "Did you mean 'cld'" in process
        and process == again
        and "not weights of the digits model on process='cld'" in others
    )
    assert "none.safetensors" in weights and "abacus" in device and "0 to 9" in label


def test_failures_at_run_time_are_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "--solver", "dopri5", "--nfe", "9", "--n", "2"]) == 1
    assert "nfe=9" in capsys.readouterr().err

    def broken(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return x * float("nan")

    monkeypatch.setattr(
        digits, "digits", lambda **_: flowsolve.Denoiser(broken, flowsolve.VP(), shape=(1, 8, 8))
    )
    assert main(["sample", "--n", "2"]) == 1
    assert "NaN" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["PIL", "tqdm"])
def test_a_missing_package_is_named(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    argv = ["sample", "--n", "1", "--nfe", "2", "-o", str(tmp_path / "x.png")]
    assert main([*argv, "--progress"]) == 1
    assert "pip install 'flowsolve[run]'" in capsys.readouterr().err
    assert main(argv) == (0 if module == "tqdm" else 1)  # a bar nobody asked for is not missed


def test_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    assert (
        main(
            [
                "sample",
                "--n",
                "4",
                "--nfe",
                "4",
                "--batch-size",
                "2",
                "--progress",
                "-o",
                str(tmp_path / "x.png"),
            ]
        )
        == 0
    )
    assert "/4 [" in capsys.readouterr().err


@pytest.mark.parametrize("after", [0, 2])
def test_an_interrupt_keeps_the_finished_batches(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = 0

    def net(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > 3 * after:
            raise KeyboardInterrupt
        return x

    monkeypatch.setattr(
        digits, "digits", lambda **_: flowsolve.Denoiser(net, flowsolve.VP(), shape=(1, 8, 8))
    )
    file = tmp_path / "x.npy"
    argv = [
        "sample",
        "--n",
        "8",
        "--nfe",
        "3",
        "--batch-size",
        "2",
        "-o",
        str(tmp_path / "x.png"),
        "--save-tensor",
        str(file),
    ]
    assert main(argv) == 130
    err = capsys.readouterr().err
    if after == 0:
        assert "nothing was written" in err and list(tmp_path.iterdir()) == []
    else:
        assert "after 4 of 8 samples" in err
        assert np.load(file).shape == (4, 1, 8, 8)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["x.npy", "x.png"]


SLOW = """
import signal, sys, time, flowsolve
# A shell's background jobs begin with it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from flowsolve.cli import main
from flowsolve.models import digits

calls = 0

def net(x, time_):
    global calls
    calls += 1
    if calls > 3:
        print("waiting", flush=True)
        time.sleep(60)
    return x

digits.digits = lambda **_: flowsolve.Denoiser(net, flowsolve.VP(), shape=(1, 8, 8))
sys.exit(main(["sample", "--n", "4", "--nfe", "3", "--batch-size", "2", "-q"]))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_sigint(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    with process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert "after 2 of 4 samples" in process.stderr.read()
    assert (tmp_path / "samples.png").stat().st_size > 0


def test_sheets() -> None:
    colour = pictures.sheet(torch.zeros(5, 3, 32, 16))
    assert colour.mode == "RGB" and colour.size == (3 * 66 + 2, 2 * 130 + 2)
    assert colour.getpixel((10, 10)) == (128, 128, 128)
    assert pictures.sheet(torch.zeros(1, 1, 100, 100)).size == (104, 104)
    with pytest.raises(ValueError, match="not pictures"):
        pictures.sheet(torch.zeros(2, 4, 8, 8))


def test_solvers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solvers"]) == 0
    assert "2010.02502" in capsys.readouterr().out
    assert main(["solvers", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (
        rows["ddim"]["order"] == 1
        and rows["ddim"]["options"] == {"eta": 0.0}
        and "euler" in rows["ddim"]["aliases"]
    )
    assert len(rows) == len(flowsolve.solver_table())


def test_train_passes_its_arguments_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, object] = {}

    def train_digits(out: Path, **arguments: object) -> dict[str, object]:
        seen.update(arguments, out=out)
        return {"weights": out / "digits.safetensors", "steps": 9, "seconds": 2.0, "loss": 0.5}

    monkeypatch.setattr(digits, "train_digits", train_digits, raising=False)
    assert main(["train", "--out", str(tmp_path), "--seconds", "2", "--seed", "5", "--fresh"]) == 0
    assert seen == {"out": tmp_path, "seconds": 2.0, "seed": 5, "resume": False, "progress": True}
    assert "digits.safetensors" in capsys.readouterr().out


def test_the_process_reaches_the_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()  # the real models
    monkeypatch.chdir(tmp_path)
    for process in ("cld", "blurring"):
        argv = [
            "sample",
            "-q",
            "--process",
            process,
            "--label",
            "3",
            "--n",
            "2",
            "--nfe",
            "3",
            "--save-tensor",
            f"{process}.npy",
        ]
        assert main(argv) == 0
        x = np.load(f"{process}.npy")
        np.testing.assert_array_equal(
            x,
            flowsolve.sample(
                digits.digits(3, process=process), solver="ddim", n=2, nfe=3, seed=0
            ).numpy(),
        )
    assert (
        main(["compare", "-q", "--process", "cld", "--solvers", "ddim", "--nfe", "3", "-n", "2"])
        == 0
    )
    assert Path("compare.png").is_file()
    assert main(["sample", "--process", "cld", "--model", "mine.py:denoiser"]) == 2
    assert (
        "--process is for the digits model and cannot be combined with --model"
        in capsys.readouterr().err
    )
    assert main(["train", "-q", "--process", "cld", "--steps", "1"]) == 0
    assert Path("runs/digits_cld/digits_cld.safetensors").is_file()


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [str(Path(flowsolve.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        ),
    }


@pytest.mark.parametrize(
    "argv", [["--help"], ["sample", "--help"], ["--version"], ["sample", "--nfe", "x"]]
)
def test_help_does_not_wait_for_torch(argv: list[str]) -> None:
    code = f"""
import sys
from flowsolve.cli import main
try: main({argv!r})
finally: print('torch' in sys.modules, file=sys.stderr)
"""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=_environment(),
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "False", "something imports torch before it is needed"
    assert time.perf_counter() - begin < 2.0
    if argv[-1] == "--help":
        assert "flowsolve sample --solver ddim --nfe 20 -o samples.png" in done.stdout
    elif argv == ["--version"]:
        assert done.stdout.strip() == f"flowsolve {flowsolve.__version__}"


@pytest.mark.skipif(os.name != "posix", reason="pipes are POSIX's")
def test_a_reader_that_leaves_is_no_error() -> None:
    # The reader is gone before anything is written, as with `flowsolve solvers | true`.
    process = subprocess.Popen(
        [sys.executable, "-m", "flowsolve", "solvers"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    with process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=30) == 141
        assert process.stderr.read() == ""
