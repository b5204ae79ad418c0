"""The page "Why is DDIM fast?": its figures' scripts compute what it says."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest
from problems import norm
from tables import ROOT, result, table_of

import flowsolve


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "figures"))


def table(first: str) -> tuple[list[int], dict[str, list[float]]]:
    """The numbers at the head of the page's table that begins with this, and its rows."""
    head, *lines = table_of("gddim.md", f"| {first}")
    return [int(re.sub(r"\D", "", cell)) for cell in head[1:]], {
        name: [float(cell) for cell in cells] for name, *cells in lines
    }


@pytest.mark.late
def test_eps_rests_while_the_state_moves(monkeypatch: pytest.MonkeyPatch):
    """At fewer times than are drawn."""
    import constant
    import root

    monkeypatch.setattr(constant, "path", partial(constant.path, steps=25))
    for eps, state in constant.changes().values():
        assert eps < 1e-9 and 2.0 < state < 6.0
    _, eps, turned = root.both(steps=60)
    assert (eps - eps[0]).abs().max() < 1e-9
    assert (turned - turned[0]).norm(dim=1).max() > 1.99 * turned[0].norm()  # round the circle


def test_amplification():
    for process, factor in ((flowsolve.CLD(), 6e4), (flowsolve.Blurring(32), 8e4)):
        assert norm(process.start.A.inverse()) == pytest.approx(factor, rel=0.1)


def test_few_steps():
    import few_steps

    steps, rows = table("$E")
    assert set(rows) == set(few_steps.RULES)
    for name, (rule, lam) in few_steps.RULES.items():
        assert [f"{few_steps.left(rule, lam, n):.2g}" for n in steps] == [
            f"{value:.2g}" for value in rows[name]
        ]


@pytest.mark.late
def test_convergence(request: pytest.FixtureRequest):
    import convergence

    most = 100 if request.config.option.full else 30  # more takes seconds

    counts, rows = table("rms error")
    kept = json.loads(convergence.NUMBERS.read_text(encoding="utf-8"))
    assert set(rows) == set(kept) == set(convergence.METHODS)
    for name, values in rows.items():
        drawn = dict(zip(convergence.COUNTS, kept[name], strict=True))
        for n, value in zip(counts, values, strict=True):
            assert drawn.get(n, value) == pytest.approx(value, rel=0.06)  # two digits
            if n <= most:
                assert convergence.error(name, n) == pytest.approx(drawn.get(n, value), rel=1e-3)


def test_which_one():
    """The table is a part of the benchmark's results."""
    results = result("matrices.json")["over_best"]
    counts, rows = table("solver, grid")
    assert rows == {name: [results[str(n)][name] for n in counts] for name in rows}
    assert all(
        rows["unipc3, quadratic"][k] < 1.1 * min(row[k] for row in rows.values())
        for k in range(len(counts))
    )


@pytest.mark.late
def test_pictures_are_drawn(monkeypatch: pytest.MonkeyPatch):
    """Those whose numbers are not all looked at above."""
    import digits
    import matplotlib.pyplot as plt
    import straight

    for script in (digits, straight):
        assert script.draw().axes
    plt.close("all")
