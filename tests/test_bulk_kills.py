"""Processes that fill a folder and are killed anywhere: the same call goes on to the same files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_bulk import files

import flowsolve
from flowsolve.bulk.folder import Folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL and fork are POSIX's")

#: One process that forks: two ranks for each round, one or both of which are killed somewhere.
KILLS = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
import flowsolve

kills, seed, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
draw, threads, model = random.Random(seed), torch.set_num_threads(1), flowsolve.digits()
how = {"nfe": 4, "shard": 8, "batch_size": 4, "solver": "ddpm"}
N = 96


def rank(r, world, where):
    pid = os.fork()
    if pid == 0:
        os.environ.update(RANK=str(r), WORLD_SIZE=str(world))
        try:
            flowsolve.generate(model, N, where, **how)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(9)
    return pid


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def content(where):
    found = (p for p in sorted(where.rglob("*")) if p.is_file() and p.name[0] != ".")
    return {str(p.relative_to(where)): p.read_bytes() for p in found}


begin = time.monotonic()
assert ended(rank(0, 1, folder / "whole")) == 0
seconds, whole = time.monotonic() - begin, content(folder / "whole")
found = {"killed": 0, "left": 0, "shards": 0}
for k in range(kills):
    where = folder / f"run{k}"
    pids = [rank(r, 2, where) for r in range(2)]
    time.sleep(draw.uniform(0.0, seconds))
    for pid in (pids[k % 2 :] if k % 3 else pids):  # the second, both, ...
        os.kill(pid, signal.SIGKILL)
    codes = [ended(pid) for pid in pids]
    assert set(codes) <= {0, -signal.SIGKILL}, codes
    found["killed"] += -signal.SIGKILL in codes
    done = len(list(where.glob("done/*.json")))
    found["left"] += 0 < done < N // 8
    found["shards"] += done
    world = 1 + k % 3  # by as many processes as there happen to be
    assert [ended(pid) for pid in [rank(r, world, where) for r in range(world)]] == [0] * world
    assert content(where) == whole, "other files"
    rest = [p.name for p in where.rglob(".*")]
    assert not rest, rest
print(json.dumps(found))
"""


def killed(tmp_path, kills, seed):
    run = subprocess.run(
        [sys.executable, "-c", KILLS, str(kills), str(seed), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.late
def test_what_is_killed_goes_on_to_the_same_files(tmp_path):
    found = killed(tmp_path, 3, 1)
    assert found["killed"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_thirty_kills(tmp_path):
    found = killed(tmp_path, 30, 2)
    assert found["killed"] >= 10 and found["left"] >= 5


def slow():
    """A network that takes its time."""

    def net(x, t):
        time.sleep(0.05)
        return 0.5 * x

    return flowsolve.Denoiser(net, flowsolve.VP(), "x0", (2,))


SCRIPT = """
import sys, flowsolve
from test_bulk_kills import slow
if __name__ == "__main__":
    flowsolve.generate(slow, 64, sys.argv[1], nfe=4, shard=2, workers=2)
"""


def begun(tmp_path, out):
    """A run by two workers, once each of them has finished something."""
    (tmp_path / "run.py").write_text(SCRIPT)
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    run = subprocess.Popen(
        [sys.executable, "run.py", str(out)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    before, until = shards(out), time.monotonic() + 60
    while time.monotonic() < until and run.poll() is None:
        if {k % 2 for k in shards(out) - before} == {0, 1}:
            return run
        time.sleep(0.02)
    run.kill()
    raise AssertionError(run.communicate()[1])


def shards(out):
    return {*Folder(out).done()} if (out / "manifest.json").exists() else set()


def children(pid):
    """The workers of a process."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            command = (place / "cmdline").read_text()
        except (OSError, IndexError):
            continue
        if parent == pid and "spawn_main" in command:
            found.append(int(place.name))
    return found


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_workers_and_parents_that_are_killed(tmp_path):
    """A killed worker hangs nobody and is named; a killed parent leaves no worker behind."""
    out = tmp_path / "out"
    run = begun(tmp_path, out)
    os.kill(children(run.pid)[0], 9)
    said = run.communicate(timeout=60)[1].splitlines()[-1]
    assert run.returncode == 1 and "was ended (SIGKILL); what is finished stays" in said
    run = begun(tmp_path, out)
    workers = children(run.pid)
    assert len(workers) == 2
    run.kill()
    run.communicate(timeout=60)
    until = time.monotonic() + 30
    while any(map(running, workers)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(running, workers))
    how = {"nfe": 4, "shard": 2, "workers": 1}
    assert flowsolve.generate(quick, 64, out, **how).done == 64
    flowsolve.generate(quick, 64, tmp_path / "whole", **how)
    assert files(out) == files(tmp_path / "whole")


def quick():
    return flowsolve.Denoiser(lambda x, t: 0.5 * x, flowsolve.VP(), "x0", (2,))
