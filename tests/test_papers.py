"""The papers' tables: each part of the benchmark runs, and the page has what it found."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

import flowsolve

pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
from benchmarks import papers, papers_gddim, papers_judge, papers_page

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", [*papers.WHOLE, *papers.TABLES])
def test_each_part_runs(name, capsys):
    papers.main([name, "--few"])
    found = json.loads(capsys.readouterr().out)
    if name in papers.TABLES:
        assert found["yardstick"]["accuracy"] > 0.98
        for row in found["cells"].values():
            assert all(len(values) == 1 for values in row.values()) and "residue" in row
    assert found


def test_cells_are_filled_seed_by_seed(tmp_path, monkeypatch):
    """What is there stays, if the same versions made it."""
    monkeypatch.setattr(papers_judge, "RESULTS", tmp_path)
    monkeypatch.setattr(papers_judge, "SAMPLES", 10)
    judge = papers_judge.judge(1)
    monkeypatch.setattr(papers_judge, "judge", lambda epochs: judge)
    drawn: list[tuple[tuple[str, ...], int]] = []

    def draw(cell, labels, seed):
        drawn.append((cell, seed))
        return torch.randn(len(labels), 1, 8, 8, generator=torch.Generator().manual_seed(seed))

    one, two, large = ("a", "2"), ("b", "1"), ("a", "30")
    table = papers_judge.Table([one, two, large], draw, [], lambda cell: 1 + (cell == one))

    def run(**how: Any) -> dict[str, Any]:
        def write(found):
            papers_judge.written("some", found)

        return papers_judge.fill(table, papers_judge.known("some"), write, **how)

    run(seeds=1, most=10)
    assert drawn == [(two, 0), (one, 0)]
    found = run()
    assert drawn[2:] == [(large, 0), (one, 1)]
    assert len(found["cells"]["a, 2"]["pixels"]) == 2 and papers_judge.known("some") == found
    run()
    assert len(drawn) == 4
    monkeypatch.setattr(flowsolve, "__version__", "another")
    assert "cells" not in papers_judge.known("some")


def test_roots_and_rules_in_time():
    """With R and one to three points the benchmark's own rule is ddim, ab2, ab3; Heun in t is the
    library's."""
    how: dict[str, Any] = {"n": 2, "first": 0, "seed": 1}
    model = flowsolve.digits(torch.tensor([3, 4]), process="cld")
    for points, solver in enumerate(("ddim", "ab2", "ab3"), 1):
        own = papers_gddim.adams(model, 6, points, "R", **how)
        assert torch.allclose(own, papers_gddim.library(model, 6, solver, **how), atol=1e-6)
    heun = papers_gddim.in_time(model, 7, 0.0, heun=True, **how)
    assert torch.allclose(heun, papers_gddim.library(model, 7, "heun", **how), atol=1e-6)
    for process in (flowsolve.CLD(), flowsolve.VP(), flowsolve.Blurring((8, 8))):
        level = process.level(0.4)
        G = papers_gddim.diffusion(process, level)
        dA, dR = process.rates(level)
        square = 2.0 * (dR - dA @ level.A.inverse() @ level.R) @ level.R.T
        x = torch.randn(1, *process.state_shape((1, 8, 8)), dtype=torch.float64)
        assert torch.allclose((G @ G.T) @ x, square @ x, atol=1e-10)


def mean(found: dict[str, Any], cell: str, measure: str) -> float:
    return statistics.mean(found["cells"][cell][measure])


def test_tables_are_what_the_benchmarks_found():
    page = papers_page.PAGE.read_text(encoding="utf-8")
    for lines in papers_page.tables():
        assert "\n\n" + "\n".join(lines) + "\n\n" in page, lines[0]


def test_table_1_is_as_the_page_says():
    found = papers_page.result("table1")
    steps = sorted({int(c.rpartition(", ")[2]) for c in found["cells"] if c.startswith("table")})
    for measure in ("pixels", "features"):
        for rule in ("η = 0", "η = 1"):
            row = [mean(found, f"table, {rule}, {n}", measure) for n in steps if n <= 50]
            assert row == sorted(row, reverse=True)
        for n in (5, 10):
            by = {r: mean(found, f"table, {r}, {n}", measure) for r in papers_page.RULES}
            assert by["η = 0"] < by["η = 1"] and max(by, key=by.__getitem__) == "σ̂"
    own = {r: mean(found, f"cosine, {r}, 5", "pixels") for r in papers_page.RULES}
    assert min(own, key=own.__getitem__) == "σ̂"
    assert mean(found, "table, σ̂, 5", "residue") > 10 * found["yardstick"]["residue"]
    assert mean(found, "table, η = 0, 5", "residue") < found["yardstick"]["residue"]


def test_what_pixels_reward():
    """Wider samples, and noise as wide as a tenth of σ̂'s first: both count as a gain in pixels."""
    rows = papers_page.result("sigma_hat")["rows"]
    plain, noisy, wide, large = (statistics.mean(row["pixels"]) for row in rows.values())
    assert wide < large < plain and noisy < plain
    variances = [
        [statistics.mean(row[part]) for part in ("empty", "between")] for row in rows.values()
    ]
    assert variances[0][1] < 0.75 < variances[3][1] and variances[3][0] > 3.0


def test_time_is_linear():
    for steps, ratio in papers_page.result("figure4")["ratio"].items():
        assert ratio == pytest.approx(int(steps) / 10, rel=0.15)


def test_weights_are_as_the_page_says():
    found = papers_page.result("gamma")
    for row in found["rows"].values():
        assert abs(row["factor"] - 1.0) < 0.01
        if "l_gamma" in row:  # the sum written out, and the library's
            assert row["value"] == pytest.approx(row["l_gamma"], rel=1e-3)
    assert found["factor_of_each_level"][0] > 0.97
    assert min(row["thirds"][2] for name, row in found["rows"].items() if "η" in name) > 0.98


def test_gddim_is_as_the_page_says():
    found = papers_page.result("table_cld")
    for q in range(3):
        r, cholesky = (mean(found, f"{root}, q = {q}, 10", "pixels") for root in "RL")
        assert r < 1.5 and cholesky > 1000.0
        assert mean(found, f"L, q = {q}, 20", "pixels") > mean(found, "R, q = 0, 10", "pixels")
    found = papers_page.result("table_process")
    for process in ("blurring", "cld"):
        by = {m: mean(found, f"{process}, {m}, 10", "features") for m in ("Heun", "ddim", "ab3")}
        assert by["ab3"] < by["ddim"] < by["Heun"]
        assert by["ddim"] < mean(found, f"{process}, Euler-Maruyama, 10", "features")
    found = papers_page.result("table_lambda")
    noisy, still = (mean(found, f"gDDIM, λ = {lam}, 20", "pixels") for lam in (1, 0))
    assert noisy < still
    by_noise = [
        mean(found, f"Euler-Maruyama, λ = {lam}, 20", "pixels") for lam in (0, 0.1, 0.3, 0.5, 1)
    ]
    assert by_noise == sorted(by_noise, reverse=True)


def test_pictures_are_drawn(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "figures"))
    import learn_papers
    import matplotlib.pyplot as plt

    assert learn_papers.draw().axes and learn_papers.samples().axes
    plt.close("all")
