"""Processes that are killed and disks that are full: files are whole or not there, and a training
goes on to the same bits."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import flowsolve
from flowsolve import output, pictures
from flowsolve.cli import main
from flowsolve.training import checkpoints

posix = pytest.mark.skipif(os.name != "posix", reason="SIGKILL and fork are POSIX's")

#: One process that forks: a child for each kill, none of which has to import torch again.
KILLS = """
import json, os, random, signal, sys, time
from functools import partial
from pathlib import Path
import torch
import flowsolve
from flowsolve import cli, pictures
from flowsolve.models import data, training

kills, steps, seed, folder = *map(int, sys.argv[1:4]), Path(sys.argv[4])
draw, torch_threads = random.Random(seed), torch.set_num_threads(1)
training.train = partial(training.train, save_every=2)  # of which the command has no option
data.data(), flowsolve.digits()


def started(work):
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(work() or 0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(9)
    return pid


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def train(where):
    argv = ["train", "-q", "--out", str(where), "--steps", str(steps)]
    return started(lambda: cli.main(argv))


def killed(pid, seconds):
    time.sleep(draw.uniform(0.0, seconds))
    os.kill(pid, signal.SIGKILL)
    return ended(pid) == -signal.SIGKILL


def names(where):
    return sorted(p.name for p in where.iterdir()) if where.exists() else []


begin = time.monotonic()
assert ended(train(folder / "whole")) == 0
seconds = time.monotonic() - begin
whole = (folder / "whole" / "digits.safetensors").read_bytes()
losses = torch.load(folder / "whole" / "checkpoint.pt", weights_only=True)["losses"]

found = {"killed": 0, "left": 0}
for k in range(kills):
    where = folder / f"run{k}"
    found["killed"] += killed(train(where), seconds)
    found["left"] += len(names(where)) > 0
    for name in {"checkpoint.pt"} & {*names(where)}:
        torch.load(where / name, weights_only=True)
    assert ended(train(where)) == 0, "the run does not go on"
    assert names(where) == ["checkpoint.pt", "digits.safetensors"], names(where)
    assert (where / "digits.safetensors").read_bytes() == whole, "other weights"
    assert torch.load(where / "checkpoint.pt", weights_only=True)["losses"] == losses

# Two at a time: one is refused, unless it came after the other's end.
where = folder / "both"
pids = [train(where), train(where)]
assert sorted(map(ended, pids)) in ([0, 2], [0, 0]), "both failed"
assert names(where) == ["checkpoint.pt", "digits.safetensors"], names(where)
assert (where / "digits.safetensors").read_bytes() == whole, "other weights by two"

plans = [flowsolve.plan("unipc3", flowsolve.VP(), nfe=nfe) for nfe in (5, 40)]
x = torch.zeros(9, 1, 8, 8)


def forever(save):
    while True:
        for k in (0, 1):
            save(k)


for k in range(kills):
    file = folder / f"plan{k}.json"
    found["killed"] += killed(started(lambda: forever(lambda k: plans[k].save(file))), 0.1)
    assert not file.exists() or flowsolve.Plan.load(file) in plans
    file = folder / f"sheet{k}.png"
    sheets = lambda k: pictures.save_sheet(file, x[: 4 + 5 * k], {})
    found["killed"] += killed(started(lambda: forever(sheets)), 0.1)
    if file.exists():
        from PIL import Image
        Image.open(file).load()
print(json.dumps(found))
"""


@pytest.mark.late
@posix
@pytest.mark.timeout(1200)
def test_what_is_killed_leaves_whole_files_and_goes_on_to_the_same_bits(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kills, steps = (30, 9) if request.config.option.full else (2, 5)
    seed = request.config.option.sweep_seed
    home = str(Path(flowsolve.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", KILLS, *map(str, (kills, steps, seed, tmp_path))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": home, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, f"--sweep-seed={seed}: {done.stderr}"
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["killed"] >= 2 * kills  # those that write for ever, and trainings besides


class Full(io.BytesIO):
    """A file on a disk with room for a hundred bytes."""

    def write(self, data) -> int:
        if self.tell() + len(memoryview(data).cast("B")) > 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


SAVERS = {
    "plan.json": lambda file: flowsolve.plan("ddim", flowsolve.VP(), nfe=3).save(file),
    "sheet.png": lambda file: pictures.save_sheet(file, torch.rand(4, 1, 8, 8), {"seed": 0}),
    "sheet.tiff": lambda file: pictures.save_sheet(file, torch.rand(4, 1, 8, 8), {}),
    "x.pt": lambda file: pictures.save_tensor(file, torch.rand(1000)),
    "x.npy": lambda file: pictures.save_tensor(file, torch.rand(1000)),
    "x.npz": lambda file: pictures.save_tensor(file, torch.rand(1000)),
    "run.pt": lambda file: checkpoints.Checkpoint(file, {}, []).save(
        checkpoints.Reached(3, 1.0, [0.0] * 1000)
    ),
}


@pytest.mark.parametrize("name", SAVERS)
def test_a_full_disk_says_so(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / name
    SAVERS[name](file)
    before = file.read_bytes()

    def opened(path: Path, mode: str) -> Full:
        path.touch()  # which there is room for
        return Full()

    with monkeypatch.context() as patch, pytest.raises(OSError) as caught:
        patch.setattr(output, "open", opened, raising=False)
        SAVERS[name](file)
    assert caught.value.errno == errno.ENOSPC and str(file) in str(caught.value)
    assert "No space left" in str(caught.value)
    assert file.read_bytes() == before and [*tmp_path.iterdir()] == [file]
    if Path("/dev/full").exists():
        file.unlink()
        file.symlink_to("/dev/full")
        with pytest.raises(OSError, match=f"No space left on device: '{file}'"):
            SAVERS[name](file)
        assert Path("/dev/full").is_char_device() and [*tmp_path.iterdir()] == [file]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_the_command_says_so_and_writes_what_it_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("PIL")
    (tmp_path / "x.npy").symlink_to("/dev/full")
    files = ["-o", str(tmp_path / "x.png"), "--save-tensor", str(tmp_path / "x.npy")]
    assert main(["sample", "-q", "--nfe", "2", "-n", "2", *files]) == 1
    assert "No space left on device: " in capsys.readouterr().err
    assert (tmp_path / "x.png").stat().st_size > 0


@posix
def test_a_small_disk(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training on a disk of a megabyte: it says what is wrong, and leaves the disk as it was."""
    if not request.config.option.full:
        pytest.skip("for --full")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "flowsolve", str(tmp_path)]
    try:
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("nothing can be mounted here")
    except FileNotFoundError:
        pytest.skip("no mount")
    try:
        assert main(["train", "-q", "--out", str(tmp_path / "run"), "--steps", "2"]) == 1
        assert "No space left on device" in capsys.readouterr().err
        assert [*(tmp_path / "run").iterdir()] == []
        file = tmp_path / "x.npy"
        pictures.save_tensor(file, torch.zeros(100_000))
        with pytest.raises(OSError, match="No space left"):
            pictures.save_tensor(file, torch.ones(250_000))
        assert np.load(file).sum() == 0 and {*tmp_path.iterdir()} == {tmp_path / "run", file}
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
