"""Folders of many samples: the same whatever did the work, and what is told of each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from test_recorded import Tape

import flowsolve
from flowsolve.bulk import engines, read, verify
from flowsolve.bulk.folder import Folder, Part
from flowsolve.bulk.tables import table_of
from flowsolve.plans.files import dumps
from flowsolve.recorded import Captured


def pair():
    """Two clusters in the plane."""
    means = [[0.0, 1.0], [0.7, -1.0]]
    return flowsolve.exact.Mixture(flowsolve.VP(), [0.3, 0.7], means, 0.04)


def line():
    """A Gaussian of three independent entries."""
    return flowsolve.exact.Gaussian(flowsolve.EDM(), [0.0, 1.0, 2.0], 0.3)


def told_net(x, t, *, y):
    """Data at y, exactly."""
    return y[:, None].to(x.dtype).expand(x.shape)


def told():
    return flowsolve.Denoiser(told_net, flowsolve.VP(), "x0", (2,))


def every(folder):
    return torch.cat([part.x for part in read(folder)])


def files(folder):
    """All files of a folder, but for hidden ones."""
    found = (p for p in sorted(Path(folder).rglob("*")) if p.is_file() and p.name[0] != ".")
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def in_parts(monkeypatch, world, model, n, out, **how):
    """The call in processes 0 to world − 1 of torchrun, one after another."""
    monkeypatch.setenv("WORLD_SIZE", str(world))
    for rank in range(world):
        monkeypatch.setenv("RANK", str(rank))
        found = flowsolve.generate(model, n, out, **how)
    monkeypatch.delenv("WORLD_SIZE")
    return found


@pytest.mark.sweep(keep=6)
@pytest.mark.parametrize("solver", ["ab3", "ddpm", "adaptive"])
@pytest.mark.parametrize("shard", [1, 7, 64])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_samples_are_the_same_whatever_did_the_work(monkeypatch, tmp_path, world, shard, solver):
    n = 9 if shard == 1 else 100
    for model in (pair(), line()):
        out = tmp_path / type(model.process).__name__
        how = {"solver": solver, "nfe": None if solver == "adaptive" else 6}
        found = in_parts(
            monkeypatch, world, model, n, out, seed=5, shard=shard, batch_size=16, **how
        )
        assert found == (out, n, n)
        assert torch.equal(every(out), flowsolve.sample(model, n=n, seed=5, **how))


def test_a_network_s_samples_are_the_same_but_for_rounding(tmp_path):
    model = flowsolve.digits(dtype=torch.float64)
    whole = flowsolve.sample(model, n=20, nfe=4, seed=0)
    for shard, batch_size in ((7, 3), (64, 64)):
        out = tmp_path / str(shard)
        flowsolve.generate(model, 20, out, nfe=4, shard=shard, batch_size=batch_size)
        assert (every(out) - whole).abs().max() <= 1e-12


@pytest.mark.late
def test_processes_make_the_same_files(tmp_path):
    one = flowsolve.generate(pair, 50, tmp_path / "one", nfe=6, shard=8, first=10, workers=1)
    two = flowsolve.generate(pair, 50, tmp_path / "two", nfe=6, shard=8, first=10, workers=2)
    assert one[1:] == two[1:] == (50, 50)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert [part.first for part in read(tmp_path / "one")] == [10, 18, 26, 34, 42, 50, 58]


def test_parts_leave_no_shard_out_and_none_twice():
    for world in range(1, 9):
        shards = [k for rank in range(world) for k in Part(rank, world).of(20)]
        assert sorted(shards) == list(range(20))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for a rank in /proc")
def test_torchrun_makes_the_same_files(tmp_path):
    """After a rank was killed, too: torchrun ends the others, and the same command goes on."""
    command = ["-m", "flowsolve", "generate", "-n", "900", "--nfe", "10", "--shard", "16", "--out"]
    subprocess.run([sys.executable, *command, "one"], cwd=tmp_path, check=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    how = {"cwd": tmp_path, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    run = subprocess.Popen([*torchrun, "--nproc-per-node", "2", *command, "two"], **how)
    until = time.monotonic() + 90
    while len([*tmp_path.glob("two/done/*.json")]) < 4 and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(rank_of(run.pid, 1), signal.SIGKILL)
    assert run.wait(60) != 0
    assert 4 <= len([*tmp_path.glob("two/done/*.json")]) < 57
    again = [*torchrun, "--nproc-per-node", "2", *command, "two"]
    subprocess.run(again, check=True, **how)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def rank_of(parent, rank):
    """The process that torchrun started as this rank."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            above = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            said = (place / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        if above == parent and f"RANK={rank}".encode() in said:
            return int(place.name)
    raise AssertionError("no such rank")


def test_the_same_call_again_makes_nothing(tmp_path, monkeypatch):
    flowsolve.generate(pair(), 20, tmp_path, nfe=6, shard=8)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    monkeypatch.setattr("flowsolve.bulk.shards.solve", None)
    assert flowsolve.generate(pair(), 20, tmp_path, nfe=6, shard=8).done == 20
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}


def test_the_plan_in_the_manifest_is_what_runs(tmp_path, monkeypatch):
    """Another version's "auto" may choose otherwise: what was begun goes on as it began."""
    flowsolve.generate(pair(), 8, tmp_path, nfe=6)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    chosen = flowsolve.plan("ddim", flowsolve.VP(), nfe=6)
    manifest["plan"] = json.loads(dumps(chosen.program))
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "done" / "000000.json").unlink()
    flowsolve.generate(pair(), 8, tmp_path, nfe=6)
    assert torch.equal(every(tmp_path), flowsolve.sample(pair(), n=8, seed=0, solver=chosen))


@pytest.mark.late
def test_memory_does_not_grow_with_n(tmp_path):
    flat(tmp_path, 10_000)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_does_not_grow_with_a_million(tmp_path):
    flat(tmp_path, 1_000_000)


def flat(folder, n):
    """Half of the samples need no more memory than all of them."""
    script = (
        "import resource, sys, flowsolve\n"
        "from test_bulk import pair\n"
        "def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "n, out = int(sys.argv[1]), sys.argv[2]\n"
        "how = {'solver': 'ddim', 'nfe': 2, 'batch_size': 500, 'shard': 500}\n"
        "flowsolve.generate(pair, n // 2, out + '/half', **how)\n"
        "half = most()\n"
        "flowsolve.generate(pair, n, out + '/whole', **how)\n"
        "print(most() - half)\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    run = subprocess.run(
        [sys.executable, "-c", script, str(n), str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(run.stdout) < 8.0  # MiB: of an allocator that keeps what it had


def test_conditions_have_a_row_for_each_sample(tmp_path):
    y = np.linspace(-1.0, 1.0, 30, dtype=np.float32)
    found = flowsolve.generate(
        told(), out=tmp_path, conditions={"y": y}, first=4, solver="ddim", nfe=3, shard=8
    )
    assert found.n == 26
    for part in read(tmp_path):
        rows = torch.from_numpy(y[part.first : part.first + len(part.x)])
        assert torch.equal(part.conditions["y"], rows)
        assert torch.allclose(part.x, rows[:, None].expand(-1, 2), atol=1e-6)
    again = verify(tmp_path, told)
    assert again.whole and again.largest == 0.0 and again.samples > 0


@pytest.mark.parametrize("kind", ["csv", "npz", "npy", "parquet"])
def test_tables_of_every_kind(tmp_path, kind):
    y = np.arange(12) % 5
    path = tmp_path / f"y.{kind}"
    if kind == "csv":
        path.write_text("y\n" + "\n".join(map(str, y)) + "\n")
    elif kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"y": y}), path)
    else:
        np.savez(path, y=y) if kind == "npz" else np.save(path, y)
    flowsolve.generate(told(), out=tmp_path / "out", conditions=path, solver="ddim", nfe=2)
    assert torch.equal(next(read(tmp_path / "out")).conditions["y"], torch.from_numpy(y))


def test_classes_of_digits(tmp_path):
    labels = torch.arange(10)
    how = {"nfe": 2, "batch_size": 4, "shard": 8}
    flowsolve.generate(flowsolve.digits, out=tmp_path / "a", conditions={"label": labels}, **how)
    flowsolve.generate(lambda: flowsolve.digits(labels), 10, tmp_path / "b", **how)
    assert torch.equal(every(tmp_path / "a"), every(tmp_path / "b"))


def test_strings_are_rows_too(tmp_path):
    def net(x, t, *, prompt):
        return torch.tensor([[float(len(p))] for p in prompt], dtype=x.dtype).expand(x.shape)

    model = flowsolve.Denoiser(net, flowsolve.VP(), "x0", (2,))
    prompts = ["a", "two", "words, and “more”", ""]
    table = {"prompt": prompts}
    flowsolve.generate(model, None, tmp_path, conditions=table, nfe=2, batch_size=3, solver="ddim")
    (part,) = read(tmp_path)
    assert part.conditions["prompt"] == prompts
    assert part.x[:, 0].round().tolist() == [len(p) for p in prompts]
    assert verify(tmp_path, model).largest == 0.0


def test_columns_of_a_table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n1,1.5,x\n2,2,3\n")
    columns = table_of(path).columns
    assert columns["a"].dtype == np.int64 and columns["b"].dtype == np.float32
    assert columns["c"] == ["x", "3"]
    path.write_text("a,b\n1\n")
    with pytest.raises(ValueError, match=r"line 2 has 1 values, not 2"):
        table_of(path)
    path.write_text("a,a\n1,2\n")
    with pytest.raises(ValueError, match="names, each once"):
        table_of(path)


@pytest.mark.parametrize("kind", ["safetensors", "png", "zarr"])
def test_every_format_gives_back_what_was_written(tmp_path, kind):
    if kind == "zarr":
        pytest.importorskip("zarr")
    model, table = flowsolve.digits(), {"label": np.arange(20) % 10}
    how = {"nfe": 2, "shard": 8, "conditions": table, "format": kind}
    flowsolve.generate(model, None, tmp_path / "a", **how)
    x = flowsolve.sample(flowsolve.digits(torch.arange(20) % 10), nfe=2, seed=0, batch_size=8)
    found = every(tmp_path / "a")
    if kind == "png":  # 256 steps from −1 to 1
        assert (found - x.clamp(-1, 1)).abs().max() <= 1 / 255 + 1e-6
        assert len(found.unique()) > 30
    else:
        assert torch.equal(found, x)
    labels = [part.conditions["label"] for part in read(tmp_path / "a")]
    assert torch.equal(torch.cat(labels), torch.arange(20) % 10)  # type: ignore[arg-type]
    found = verify(tmp_path / "a", model)
    assert found.whole and found.largest == 0.0 and found.shards == 3
    flowsolve.generate(model, None, tmp_path / "b", **how)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_what_others_read(tmp_path):
    """safetensors, zarr and tar by their own libraries, without flowsolve."""
    import tarfile

    from safetensors.torch import load_file

    model, table = flowsolve.digits(), {"label": np.arange(10)}
    x = flowsolve.sample(flowsolve.digits(torch.arange(10)), nfe=2, seed=0)
    flowsolve.generate(model, None, tmp_path / "s", nfe=2, conditions=table)
    found = load_file(tmp_path / "s" / "000000.safetensors")
    assert torch.equal(found["x"], x) and found["conditions.label"].tolist() == list(range(10))
    flowsolve.generate(model, None, tmp_path / "p", nfe=2, conditions=table, format="png")
    with tarfile.open(tmp_path / "p" / "000000.tar") as tar:
        assert tar.getnames()[:3] == ["000000000000.png", "000000000000.json", "000000000001.png"]
        assert json.load(tar.extractfile("000000000003.json")) == {"label": 3}  # type: ignore[arg-type]
    zarr = pytest.importorskip("zarr")
    flowsolve.generate(model, None, tmp_path / "z", nfe=2, conditions=table, format="zarr")
    group = zarr.open_group(tmp_path / "z" / "samples.zarr", mode="r")
    assert np.array_equal(group["x"][:], x.numpy()) and group["label"][3] == 3


def test_batches_are_recorded(tmp_path, monkeypatch):
    """By the tape that stands in for a CUDA graph: full batches are played, the last is a run."""
    made = partial(Captured, record=Tape)
    monkeypatch.setattr("flowsolve.bulk.shards.Captured", made)
    labels, how = {"label": torch.arange(20) % 10}, {"nfe": 3, "batch_size": 8, "solver": "ddpm"}
    flowsolve.generate(flowsolve.digits, 20, tmp_path / "a", conditions=labels, **how)
    calls = []

    def counted(model, **named):
        calls.append(named)
        return flowsolve.solve(model, **named)

    monkeypatch.setattr("flowsolve.bulk.shards.solve", counted)
    flowsolve.generate(flowsolve.digits, 20, tmp_path / "b", conditions=labels, capture=True, **how)
    assert [call["n"] for call in calls] == [4]
    assert torch.allclose(every(tmp_path / "a"), every(tmp_path / "b"), atol=1e-5)


def test_what_cannot_be_recorded_is_made_all_the_same(tmp_path):
    for how, why in (({}, "a CUDA graph needs a CUDA device"), ({"noise": "brownian"}, "Brownian")):
        out = tmp_path / why
        with pytest.warns(UserWarning, match=f"capture=True: .*{why}"):
            flowsolve.generate(pair(), 9, out, solver="ddpm", nfe=3, capture=True, **how)
        assert torch.equal(
            every(out), flowsolve.sample(pair(), n=9, seed=0, solver="ddpm", nfe=3, **how)
        )


def test_the_environment_says_which_part(monkeypatch):
    assert engines.part_here() == (0, 1)
    monkeypatch.setenv("RANK", "2")
    assert engines.part_here() == (0, 1)  # of how many is not said
    monkeypatch.setenv("WORLD_SIZE", "5")
    assert engines.part_here() == (2, 5)
    for rank in ("5", "-1", "x", ""):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(ValueError, match=r"RANK.*expected integers"):
            engines.part_here()


def test_progress_is_of_all_processes(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, samples in ((1, "16/40"), (0, "40/40")):
        monkeypatch.setenv("RANK", str(rank))
        flowsolve.generate(pair(), 40, tmp_path, nfe=3, shard=8, progress=True)
        assert (samples in capsys.readouterr().err) == (rank == 0)  # one bar, the first's
        assert Folder(tmp_path).samples(Folder(tmp_path).done()) == int(samples[:2])
