"""Folders of samples that another run began, that are damaged, full or in use: one clear line, and
what is finished stays."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_bulk import every, files, pair, told, told_net

import flowsolve
from flowsolve import cli, output
from flowsolve.bulk import engines, read, verify
from flowsolve.bulk.fingerprint import modules, near, weights
from flowsolve.bulk.folder import Folder, Part

HOW = {"nfe": 4, "shard": 4}
MODEL = """
import torch, flowsolve
def model():
    return flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.3)
def broken():
    def net(x, t):
        raise KeyError("a bug")
    return flowsolve.Denoiser(net, flowsolve.VP(), shape=(2,))
def nan():
    return flowsolve.Denoiser(lambda x, t: x * float("nan"), flowsolve.VP(), shape=(2,))
"""


@pytest.fixture
def out(tmp_path):
    flowsolve.generate(pair(), 10, tmp_path / "out", **HOW)
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n": 11}, "begun with n=10, not n=11"),
        ({"seed": 1}, "begun with seed=0, not seed=1"),
        ({"first": 3}, "begun with first=0, not first=3"),
        ({"shard": 5}, "begun with shard=4, not shard=5"),
        ({"batch_size": 2}, "begun with batch_size=64, not batch_size=2"),
        ({"format": "zarr"}, "begun with files='safetensors', not files='zarr'"),
        ({"nfe": 5}, "begun with nfe=4, not nfe=5"),
        ({"solver": "ddim"}, "begun with solver='auto', not solver='ddim'"),
        ({"grid": "uniform"}, "begun with grid=None, not grid='uniform'"),
        ({"model": pair().given(per_sample=[])}, None),
        ({"model": flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.3)}, "other weights"),
        ({"model": flowsolve.exact.Dirac(flowsolve.EDM(), [0.0, 1.0])}, "process VP, not EDM"),
    ],
)
def test_another_run_s_folder_is_refused(out, change, says):
    before = files(out)
    call = {"model": pair(), "n": 10, **HOW, **change}
    if says is None:
        flowsolve.generate(out=out, **call)
    else:
        if change.get("format") == "zarr":
            pytest.importorskip("zarr")
        with pytest.raises(ValueError, match=r"out=.* is another run's: .*" + says):
            flowsolve.generate(out=out, **call)
    assert files(out) == before


def test_a_solver_said_otherwise_is_the_same_if_its_plan_is(out):
    plan = flowsolve.solve(pair(), nfe=4, n=1)
    assert plan.nfe == 4
    manifest = json.loads((out / "manifest.json").read_text())
    chosen = flowsolve.bulk.settings.plan_of(manifest)
    assert flowsolve.generate(pair(), 10, out, solver=chosen, shard=4).done == 10


def test_other_weights_are_another_model(tmp_path):
    def model(seed):
        torch.manual_seed(seed)
        net = torch.nn.Linear(2, 2)  # which a function hides
        return flowsolve.Denoiser(lambda x, t: net(x), flowsolve.VP(), "x0", (2,))

    assert weights(model(0)) == weights(model(0)) != weights(model(1))
    assert weights(flowsolve.guided(flowsolve.digits(), {"label": 10}, scale=2.0).given(label=3))
    assert weights(told()) is None and not modules(print)
    flowsolve.generate(model(0), 4, tmp_path, **HOW)
    with pytest.raises(ValueError, match=r"another model \(other weights\)"):
        flowsolve.generate(model(1), 4, tmp_path, **HOW)
    assert flowsolve.generate(model(0), 4, tmp_path, **HOW).done == 4


def test_a_function_s_answers_tell_it_from_another(tmp_path):
    def model(scale):
        return flowsolve.Denoiser(lambda x, t: scale * x, flowsolve.VP(), "x0", (2,))

    flowsolve.generate(model(0.5), 4, tmp_path, **HOW)
    with pytest.raises(ValueError, match=r"another model \(other answers\)"):
        flowsolve.generate(model(0.4), 4, tmp_path, **HOW)
    assert flowsolve.generate(model(0.5), 4, tmp_path, **HOW).done == 4


def test_answers_are_near_but_for_rounding():
    assert near([1.0, -2.0], [1.01, -2.01]) and not near([1.0, -2.0], [1.0, 2.0])
    assert near([float("nan"), 1.0], [float("nan"), 1.0]) and not near([float("nan")], [1.0])
    assert near([0.0], [0.0]) and not near([0.0], [0.0, 0.0])


def test_other_conditions_are_another_run(tmp_path):
    y = np.arange(8.0)
    flowsolve.generate(told(), None, tmp_path, conditions={"y": y}, **HOW)
    for other in ({"y": y + 1}, {"y": y, "z": y}):
        model = (
            told()
            if len(other) == 1
            else flowsolve.Denoiser(
                lambda x, t, y, z: told_net(x, t, y=y), flowsolve.VP(), "x0", (2,)
            )
        )
        with pytest.raises(ValueError, match="begun with other conditions"):
            flowsolve.generate(model, 8, tmp_path, conditions=other, **HOW)


@pytest.mark.parametrize("kind", ["safetensors", "png", "zarr"])
def test_a_damaged_shard_is_told_and_made_again(tmp_path, kind):
    if kind == "zarr":
        pytest.importorskip("zarr")
    model = flowsolve.digits()
    how = {"nfe": 1, "shard": 4, "format": kind}
    flowsolve.generate(model, 10, tmp_path, **how)
    before = files(tmp_path)
    record = json.loads((tmp_path / "done" / "000001.json").read_text())
    (name,) = record["files"]
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is damaged.*makes it again"):
        list(read(tmp_path))
    found = verify(tmp_path, model)
    assert not found.whole and [*found.damaged] == [1] and found.samples > 0
    with pytest.warns(UserWarning, match=f"{name} is damaged.*is made again"):
        flowsolve.generate(model, 10, tmp_path, **how)
    assert files(tmp_path) == before and verify(tmp_path, model).whole
    (tmp_path / name).unlink()
    with pytest.warns(UserWarning, match=f"{name}: No such file"):
        flowsolve.generate(model, 10, tmp_path, **how)
    assert files(tmp_path) == before


def test_a_folder_that_is_not_full(out):
    (out / "done" / "000001.json").write_text("{")  # a record of another hand
    with pytest.raises(ValueError, match="1 of 3 shards are missing"):
        read(out)
    assert [part.first for part in read(out, partial=True)] == [0, 8]
    assert verify(out, pair()).missing == [1]
    whole = flowsolve.sample(pair(), n=10, nfe=4, seed=0)
    flowsolve.generate(pair(), 10, out, **HOW)
    assert torch.equal(every(out), whole)


@pytest.mark.late
def test_two_runs_at_once(out):
    """The second is refused, however it divides the shards."""
    (out / "done" / "000001.json").unlink()
    before = files(out)
    held, go = threading.Event(), threading.Event()

    def hold():
        with Folder(out).alone(Part(0, 1)):
            held.set()
            go.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(60)
    try:
        for part in (Part(0, 1), Part(0, 2), Part(1, 2)):
            with (
                pytest.raises(BlockingIOError, match=f"process {os.getpid()} is filling it"),
                Folder(out, "out").alone(part),
            ):
                pass
        with pytest.raises(BlockingIOError, match=r"out=.*expected one run at a time"):
            flowsolve.generate(pair(), 10, out, **HOW)
    finally:
        go.set()
        other.join()
    assert files(out) == before
    assert flowsolve.generate(pair(), 10, out, **HOW).done == 10


def test_parts_of_one_division_do_not_hinder_each_other(out):
    folder = Folder(out)
    with folder.alone(Part(0, 2)), folder.alone(Part(1, 2)):
        pass
    assert not [p for p in out.iterdir() if p.name.endswith(".lock")]


def test_a_full_disk_keeps_what_is_finished(tmp_path, monkeypatch):
    real, left = os.fsync, [6]  # the manifest, and two shards with their records

    def fsync(number):
        left[0] -= 1
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(number)

    monkeypatch.setattr(output.os, "fsync", fsync)
    with pytest.raises(OSError, match=r"No space left on device: '\S*000002\.safetensors'$"):
        flowsolve.generate(pair(), 20, tmp_path, **HOW)
    monkeypatch.undo()
    assert Folder(tmp_path).done() == [0, 1]
    assert not [p for p in tmp_path.rglob("*") if p.suffix == ".tmp"]
    flowsolve.generate(pair(), 20, tmp_path, **HOW)
    assert torch.equal(every(tmp_path), flowsolve.sample(pair(), n=20, nfe=4, seed=0))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match=r"out=.* cannot be written: Permission denied"):
        flowsolve.generate(pair(), 4, tmp_path, **HOW)


def test_a_folder_that_cannot_be_written_by_whoever(tmp_path, monkeypatch):
    def refuse(*args, **named):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("flowsolve.bulk.folder.write", refuse)
    with pytest.raises(ValueError, match=r"out=.* cannot be written: Permission denied"):
        flowsolve.generate(pair(), 4, tmp_path, **HOW)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"n": None}, TypeError, "n=None: expected the number of samples"),
        ({"n": 0}, ValueError, "n=0: expected a positive integer"),
        ({"out": "a\0b"}, ValueError, "expected a folder"),
        ({"shard": 0}, ValueError, "shard=0: expected a positive integer"),
        ({"format": "pgn"}, ValueError, "format='pgn'.*Did you mean 'png'"),
        ({"format": "png"}, ValueError, r"samples of shape \(2,\) are not pictures"),
        ({"solver": "ddmi"}, ValueError, "Did you mean 'ddim'"),
        ({"etta": 1.0}, (TypeError, ValueError), "etta"),
        ({"seed": -1}, ValueError, "seed=-1: expected an integer from 0"),
        ({"conditions": 5}, TypeError, "conditions=5: expected a table"),
        ({"conditions": {}}, TypeError, "expected a table"),
        ({"conditions": "nowhere.csv"}, FileNotFoundError, "no such file; expected a table"),
        ({"conditions": {"y": [1, 2], "z": [1]}}, ValueError, "y 2, z 1"),
        ({"conditions": {"y": [object()]}}, TypeError, r"conditions\['y'\].*numbers or strings"),
        ({"conditions": {"y": [1.0]}}, ValueError, "y: 1 rows for the samples 0 to 3"),
        ({"model": 5}, TypeError, "model=5"),
        ({"model": dict}, TypeError, "model: it returned a dict; expected a denoiser"),
        ({"workers": 0}, ValueError, "workers=0: expected a positive integer"),
        ({"workers": 10**6}, ValueError, r"workers=1000000: expected at most \d+, for cores"),
        ({"noise": "pink"}, ValueError, "noise='pink'"),
    ],
)
def test_arguments_that_do_not_fit(tmp_path, change, error, says):
    call = {"model": pair(), "n": 4, "out": tmp_path / "out", **change}
    with pytest.raises(error, match=says):
        flowsolve.generate(**call)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match=r"has other files \(thesis.tex\); expected an empty"):
        flowsolve.generate(pair(), 4, tmp_path, **HOW)
    (tmp_path / "manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(ValueError, match=r"manifest.json' cannot be read: expected \{\"format\""):
        flowsolve.generate(pair(), 4, tmp_path, **HOW)
    with pytest.raises(FileNotFoundError, match=r"no manifest.json in it; expected a folder"):
        read(tmp_path / "no")
    file = tmp_path / "thesis.tex"
    with pytest.raises(ValueError, match="expected a folder"):
        flowsolve.generate(pair(), 4, file, **HOW)


def test_what_is_not_installed_is_named_first(tmp_path, monkeypatch):
    for name, extra, change in (
        ("safetensors.torch", "run", {}),
        ("PIL", "run", {"model": flowsolve.digits(), "format": "png"}),
        ("zarr", "bulk", {"format": "zarr"}),
        ("ray", "ray", {"ray": True}),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            call = {"model": pair(), "n": 4, "out": tmp_path / name, **change}
            with pytest.raises(ImportError, match=rf"pip install 'flowsolve\[{extra}\]'"):
                flowsolve.generate(**call)


@pytest.mark.slow
def test_an_error_in_a_worker_is_the_caller_s(tmp_path):
    with pytest.raises(KeyError, match="a bug") as found:
        flowsolve.generate(broken, 10, tmp_path, workers=2, **HOW)
    cause = found.value.__cause__
    assert isinstance(cause, engines.Remote) and cause.abroad and "in buggy" in str(cause)


@pytest.mark.slow
def test_an_error_with_a_large_state_comes_through(tmp_path):
    """More than a pipe holds."""
    with pytest.raises(flowsolve.NonFiniteError) as found:
        flowsolve.generate(large, 128, tmp_path, workers=2, nfe=2)
    assert found.value.x.shape == (64, 3, 64, 64)


def large():
    return flowsolve.Denoiser(lambda x, t: x * float("nan"), flowsolve.VP(), "x0", (3, 64, 64))


def broken():
    return flowsolve.Denoiser(buggy, flowsolve.VP(), shape=(2,))


def buggy(x, t):
    raise KeyError("a bug")


class Data:
    """A stand-in for ray.data: an actor pool of one, here."""

    ActorPoolStrategy = SimpleNamespace

    def __init__(self):
        self.asked = {}

    def from_items(self, items, override_num_blocks):
        self.items = items
        assert override_num_blocks == len(items)
        return self

    def map_batches(self, actor, *, fn_constructor_args, **asked):
        self.actor, self.asked = actor(*fn_constructor_args), asked
        return self

    def iter_batches(self, **asked):
        for item in self.items:
            yield self.actor({name: np.array([value]) for name, value in item.items()})


def test_ray_makes_the_shards_that_are_missing(tmp_path, monkeypatch):
    data = Data()
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(data=data))
    monkeypatch.setitem(sys.modules, "ray.data", data)
    flowsolve.generate(pair, 22, tmp_path / "one", **HOW)
    found = flowsolve.generate(pair, 22, tmp_path / "ray", ray=True, **HOW)
    assert found.done == 22 and len(data.items) == 6
    assert vars(data.asked["compute"]) == {"max_size": 6} and data.asked["batch_size"] == 1
    assert files(tmp_path / "one") == files(tmp_path / "ray")
    (tmp_path / "ray" / "done" / "000003.json").unlink()
    flowsolve.generate(pair, 22, tmp_path / "ray", ray=True, workers=3, **HOW)
    assert data.items == [{"shard": 3}] and vars(data.asked["compute"]) == {"size": 1}
    assert files(tmp_path / "one") == files(tmp_path / "ray")


@pytest.mark.slow
def test_ray_itself(tmp_path):
    """With a worker that is killed: Ray starts another, and the files are the same."""
    ray = pytest.importorskip("ray")
    killed: list[int] = []

    def kill():
        while not killed:
            time.sleep(0.1)
            done = tmp_path / "ray" / "done"
            if done.is_dir() and len(list(done.iterdir())) > 3:
                found = ["pgrep", "-f", "ray::MapWorker"]
                run = subprocess.run(found, capture_output=True, text=True, check=False)
                for pid in run.stdout.split()[:1]:
                    os.kill(int(pid), signal.SIGKILL)
                    killed.append(int(pid))

    threading.Thread(target=kill, daemon=True).start()
    how = {"nfe": 10, "shard": 20}
    try:
        flowsolve.generate(flowsolve.digits, 1000, tmp_path / "ray", ray=True, workers=2, **how)
    finally:
        ray.shutdown()
    assert killed
    flowsolve.generate(flowsolve.digits, 1000, tmp_path / "one", **how)
    assert files(tmp_path / "one") == files(tmp_path / "ray")


def run(*arguments, where):
    return subprocess.run(
        [sys.executable, "-m", "flowsolve", "generate", *map(str, arguments)],
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("my.py").write_text(MODEL)

    def said(*arguments, status=0):
        assert cli.main(["generate", *arguments]) == status
        return capsys.readouterr()

    begun = ("--model", "my.py:model", "--nfe", "3", "--shard", "4", "--seed", "2")
    assert said(*begun, "-n", "10", "--out", "a").out.startswith("10 samples in a, ")
    model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.3)
    assert torch.equal(every("a"), flowsolve.sample(model, n=10, nfe=3, seed=2))
    before = files("a")
    Path("a/done/000001.json").unlink()
    assert said("--resume", "a").out.startswith("10 samples in a, ")
    assert files("a") == before
    found = said("--verify", "a").out
    assert found.startswith("3 of 3 shards as they were written; 10 samples made again")
    Path("a/done/000001.json").unlink()
    assert "1 shards are missing" in said("--verify", "a", status=1).err
    assert "goes on" in said(*begun, "-n", "11", "--out", "a", status=2).err
    assert "begun with n=10, not n=11" in said(*begun, "-n", "11", "--out", "a", status=2).err
    assert "each names the folder" in said("--resume", "a", "--verify", "a", status=2).err
    assert "no manifest.json" in said("--resume", "b", status=2).err
    assert "Did you mean 'ddim'" in said("-n", "4", "--solver", "ddmi", status=2).err
    bug = said("--model", "my.py:broken", "-n", "4", "--out", "c", status=1).err
    assert 'KeyError("a bug")' in bug and "the model's code raised KeyError: 'a bug'" in bug
    assert "NaN" in said("--model", "my.py:nan", "-n", "4", "--out", "d", status=1).err
    flowsolve.generate(model, 4, "e")
    assert "begun by a call in Python" in said("--resume", "e", status=2).err


def test_the_command_with_conditions_and_another_place(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("classes.csv").write_text("label\n" + "\n".join("0123456789") + "\n")
    first = ["generate", "--conditions", "classes.csv", "--nfe", "2", "--shard", "4"]
    assert cli.main([*first, "--format", "png", "--out", "a"]) == 0
    assert [len(part.x) for part in read("a")] == [4, 4, 2]
    Path("classes.csv").rename("moved.csv")
    Path("a/done/000002.json").unlink()
    assert cli.main(["generate", "--resume", "a"]) == 2
    assert "no such file" in capsys.readouterr().err
    assert cli.main(["generate", "--resume", "a", "--conditions", "moved.csv"]) == 0
    assert len(list(read("a"))) == 3


@pytest.mark.late
def test_errors_of_workers_on_the_command_line(tmp_path):
    (tmp_path / "my.py").write_text(MODEL)
    found = run("--model", "my.py:broken", "-n", 10, "--workers", 2, where=tmp_path)
    assert found.returncode == 1 and 'raise KeyError("a bug")' in found.stderr
    assert found.stderr.splitlines()[-1].endswith("the model's code raised KeyError: 'a bug'")
