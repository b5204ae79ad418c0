"""The command line: what it writes, what it says, how it ends."""

from __future__ import annotations

import errno
import functools
import io
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
        with np.load(file) as saved:
            results.append(saved["samples"])
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
    if suffix == "npz":
        with np.load(file) as arrays:
            x = arrays["samples"]
    else:
        x = torch.load(file) if suffix == "pt" else np.load(file)
    assert tuple(x.shape) == (2, 1, 8, 8)
    assert np.array_equal(pictures.load_tensor(file).numpy(), x)


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
        (["sample", "-o", "x.h5"], "'x.h5' cannot be written"),
        (["sample", "-o", "x.xbm"], "'x.xbm' cannot be written"),
        (["compare", "-o", "x.blp"], "'x.blp' cannot be written"),
        (["sample", "-o", f"{__file__}/x.png"], "test_cli.py is not a directory"),
        (["sample", "--save-tensor", f"{__file__}/x.npy"], "test_cli.py is not a directory"),
        (["sample", "--model", "..:x"], "'..' is no module"),
        (["sample", "--model", "a-b:x"], "'a-b' is no module"),
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


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_keep_the_finished_batches(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number, calls = getattr(signal, name), iter(range(100))
    before = signal.getsignal(number)

    def net(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        if next(calls) == 7:
            signal.raise_signal(number)
        return x

    monkeypatch.setattr(
        digits, "digits", lambda **_: flowsolve.Denoiser(net, flowsolve.VP(), shape=(1, 8, 8))
    )
    file = str(tmp_path / "x.npy")
    argv = ["sample", "--n", "8", "--nfe", "3", "--batch-size", "2", "--save-tensor", file]
    assert main([*argv, "-o", str(tmp_path / "x.png")]) == 128 + number
    assert "after 4 of 8 samples" in capsys.readouterr().err
    assert np.load(file).shape == (4, 1, 8, 8) and signal.getsignal(number) is before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.npy", "x.png"]


def test_a_failure_keeps_the_finished_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = iter(range(100))

    def net(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return x * float("nan") if next(calls) >= 7 else x

    monkeypatch.setattr(
        digits, "digits", lambda **_: flowsolve.Denoiser(net, flowsolve.VP(), shape=(1, 8, 8))
    )
    file = str(tmp_path / "x.png")
    assert main(["sample", "-q", "--n", "8", "--nfe", "3", "--batch-size", "2", "-o", file]) == 1
    kept, failed = capsys.readouterr().err.splitlines()
    assert "after 4 of 8 samples, which were written" in kept and "NaN" in failed
    assert Path(file).stat().st_size > 0


class Broken(io.TextIOBase):
    """A stream of which nobody reads, or to which nothing can be written."""

    def __init__(self, error: OSError) -> None:
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


def closed() -> io.TextIOBase:
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {
    "unread": (lambda: Broken(BrokenPipeError(errno.EPIPE, "Broken pipe")), 141),
    "full": (lambda: Broken(OSError(errno.ENOSPC, "No space left on device")), 1),
    "missing": (lambda: None, 0),
    "closed": (closed, 0),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("command", ["sample", "compare"])
def test_what_cannot_be_said_costs_no_picture(
    command: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, status = STREAMS[name]
    file, said = tmp_path / "x.png", io.StringIO()
    argv = [command, "--nfe", "2", "-n", "2", "-o", str(file)]
    argv += ["--solvers", "ddim"] if command == "compare" else ["--progress"]
    monkeypatch.setattr(sys, "stdout", stream())
    monkeypatch.setattr(sys, "stderr", said)
    assert main(argv) == status and file.stat().st_size > 0
    assert ("stdout: " in said.getvalue()) == (name == "full")
    file.unlink()
    monkeypatch.setattr(sys, "stdout", said)
    monkeypatch.setattr(sys, "stderr", stream())
    assert main(argv) == 0 and file.stat().st_size > 0  # of stderr nothing is missed
    assert main([*argv, "--nfe", "x"]) == 2


@pytest.mark.late
@pytest.mark.skipif(os.name != "posix", reason="a shell's")
def test_descriptors_that_are_closed_get_no_file(tmp_path: Path) -> None:
    """The picture's would be number 1 or 2, and what is said would go into it."""
    code = "import sys; from flowsolve.cli import main; sys.exit(main())"
    argv = ["sample", "--nfe", "2", "-n", "2", "-o", "x.png"]
    done = subprocess.run(
        ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code, *argv],
        cwd=tmp_path,
        env=_environment(),
        check=False,
    )
    assert done.returncode == 0
    with Image.open(tmp_path / "x.png") as picture:
        picture.load()


OWN = """
import torch, flowsolve
def model(net): return lambda: flowsolve.Denoiser(net, flowsolve.VP(), "eps", (1, 8, 8))
def raises(error):
    def net(x, time): raise error
    return model(net)
value, kind, key = raises(ValueError("mine")), raises(TypeError("mine")), raises(KeyError("mine"))
kinds = raises(RuntimeError("expected the same dtype"))
small = model(lambda x, time: x[:, :, 1:])
leaves = raises(SystemExit(0))
shapeless = flowsolve.Denoiser(torch.nn.Identity(), flowsolve.VP())
def exits(): exit()
"""


@pytest.mark.parametrize("command", ["sample", "compare"])
@pytest.mark.parametrize(
    ("name", "status", "way", "last"),
    [
        ("value", 1, True, "the model's code raised ValueError: mine"),
        ("kind", 1, True, "the model's code raised TypeError: mine"),
        ("key", 1, True, "the model's code raised KeyError: 'mine'"),
        ("kinds", 1, True, "the network was given a state in float32"),
        ("small", 1, False, "the network returned shape"),
        ("leaves", 1, False, "the model's code called exit(0)"),
        ("exits", 1, False, "the model's code called exit(None)"),
        ("shapeless", 2, False, "expected a Denoiser that has a shape="),
    ],
)
def test_errors_of_the_model_s_own_code_are_told_as_such(
    command: str,
    name: str,
    status: int,
    way: bool,
    last: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("own.py").write_text(OWN)
    assert main([command, "-q", "--model", f"own.py:{name}", "-n", "2", "--nfe", "2"]) == status
    err = capsys.readouterr().err
    assert last in err.splitlines()[-1]
    assert ("Traceback" in err) == way == ("own.py" in err.partition("flowsolve: error")[0])
    assert "cli" not in err  # of the way there, their part
    assert [p.name for p in Path().iterdir() if p.is_file()] == ["own.py"]


def test_memory_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    many = str(10**12)
    assert main(["sample", "-q", "-n", many, "--batch-size", many, "--nfe", "2"]) == 1
    assert "not enough memory" in capsys.readouterr().err.splitlines()[-1]


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    target, link = tmp_path / "there" / "x.png", tmp_path / "x.png"
    target.parent.mkdir()
    target.write_bytes(b"before")
    target.chmod(0o640)
    link.symlink_to(target)
    assert main(["sample", "-q", "--nfe", "2", "-n", "1", "-o", str(link)]) == 0
    assert link.is_symlink() and target.read_bytes().startswith(b"\x89PNG")
    assert target.stat().st_mode & 0o777 == 0o640


def test_training_that_is_stopped_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps, simple = iter(range(100)), digits.RECIPES["cosine"].loss

    @functools.wraps(simple)
    def loss(*arguments: object) -> torch.Tensor:
        if next(steps) == 2:
            signal.raise_signal(signal.SIGTERM)
        return simple(*arguments)  # type: ignore[arg-type]

    recipe = digits.RECIPES["cosine"]
    argv = ["train", "-q", "--steps", "3", "--out"]
    assert main([*argv, str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        patch.setitem(digits.RECIPES, "cosine", recipe._replace(loss=loss))
        assert main([*argv, str(tmp_path / "run")]) == 128 + signal.SIGTERM
    assert f"the same command goes on with the run in {tmp_path / 'run'}" in capsys.readouterr().err
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 2
    assert main([*argv, str(tmp_path / "run")]) == 0
    ends = [(tmp_path / name / "digits.safetensors").read_bytes() for name in ("whole", "run")]
    assert ends[0] == ends[1]
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"no checkpoint")
    assert main([*argv, str(tmp_path / "run")]) == 2
    assert main([*argv, str(tmp_path / "run" / "checkpoint.pt")]) == 2
    damaged, file = capsys.readouterr().err.splitlines()
    assert "checkpoint.pt' is damaged" in damaged and "checkpoint.pt' is no folder" in file


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
        "--process is for a shipped model and cannot be combined with --model"
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
