"""The command ``flowsolve tune``: what it writes, what takes it, and how it ends."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

import flowsolve
from flowsolve.cli import main

MODEL = """
import os, signal
import torch, flowsolve

inner = flowsolve.exact.Mixture(
    flowsolve.VP(),
    torch.tensor([0.4, 0.6]).double(),
    torch.tensor([[-1.0, 0.0], [1.0, 0.3]]).double(),
    torch.tensor([0.2, 0.1]).double(),
)
asked = 0

def net(x, t):
    global asked
    asked += 1
    if asked == LAST:
        os.kill(os.getpid(), signal.SIGTERM)
    return inner(x.double(), float(t[0])).x0.to(x)

model = flowsolve.Denoiser(net, flowsolve.VP(), "x0", (2,))
"""


def model(folder: Path, last: int = -1) -> str:
    file = folder / "mine.py"
    file.write_text(MODEL.replace("LAST", str(last)))
    return f"{file}:model"


def both(said: dict[str, float]) -> float:
    return said["rmse"] * said["median"]


def test_it_writes_a_plan_for_each_budget_which_sample_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, mine = tmp_path / "plans", model(tmp_path)
    argv = ["tune", "--model", mine, "--nfe", "4,3", "--effort", "search", "-n", "16"]
    assert main([*argv, "-o", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert "Tuned for 3 evaluations" in out and "2 plans in" in out and err == ""
    assert sorted(p.name for p in folder.iterdir()) == [
        "nfe3.json",
        "nfe4.json",
        "tuned.json",
        "tuned.png",
    ]
    said = json.loads((folder / "tuned.json").read_text())
    assert list(said) == ["3", "4"]
    assert all(both(each["error"]) <= both(each["auto"]) for each in said.values())
    assert flowsolve.Plan.load(folder / "nfe4.json").nfe == 4
    argv = ["sample", "--model", mine, "--solver", str(folder), "--nfe", "3", "-n", "2"]
    assert main([*argv, "--save-tensor", str(tmp_path / "x.npy")]) == 0
    assert "3 evaluations" in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ended_by_a_signal_it_writes_the_best_so_far(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["tune", "--model", model(tmp_path, 150), "--nfe", "4,8", "--effort", "search"]
    assert main([*argv, "-o", str(tmp_path / "plans")]) == 128 + signal.SIGTERM
    out, err = capsys.readouterr()
    assert ", interrupted" in out and "1 plans in" in out and "flowsolve: interrupted" in err
    assert (tmp_path / "plans" / "nfe4.json").exists()
    assert list(json.loads((tmp_path / "plans" / "tuned.json").read_text())) == ["4"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--nfe", "200"], "--nfe 200: expected at most 100"),
        (["-n", "4"], "--n 4: expected 8 starts at least"),
        (["--process", "cld"], "are matrices, and a fit needs numbers"),
    ],
)
def test_what_it_cannot_do_is_said_at_once(
    arguments: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", *arguments, "-o", str(tmp_path / "plans")]) == 2
    assert what in capsys.readouterr().err
    assert not (tmp_path / "plans").exists()


def test_where_it_cannot_write_it_says_so_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["tune", "-o", str(tmp_path / "file")]) == 2
    assert "--output" in capsys.readouterr().err
