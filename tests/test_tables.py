"""The tables and sentences of the documentation give what the benchmarks found."""

from __future__ import annotations

import importlib
import re
import statistics
from collections import Counter
from typing import Any

import pytest
from tables import ROOT, numbers, result, rows_of, text_of

from flowsolve.solvers import auto


def test_memory_is_what_the_benchmark_found() -> None:
    found = result("memory.json")
    assert rows_of("benchmarks.md", "| | ddim | ddpm |") == {
        f"predicts {kind}": [str(counts[kind]) for counts in found.values()]
        for kind in ("eps", "v", "x0")
    }


def test_bulk_is_what_the_benchmark_found() -> None:
    bulk = importlib.import_module("benchmarks.bulk")
    page, found = (ROOT / "docs" / "bulk.md").read_text(encoding="utf-8"), result("bulk.json")
    for line in (*bulk.table(found), *bulk.paper(found)):
        assert line in page.splitlines()
    assert found["median"] >= 1.8 and min(found["two_over_one"]) > 1.5


def test_benchmarks_says_what_was_found() -> None:
    """Numbers that stand in sentences of the page."""
    text = text_of("benchmarks.md")
    needed = []
    for found in result("work_precision.json")["problems"].values():
        least = {run["nfe"]: run["median"] for run in found["grids"]["quadratic"]["ab3"]}[20]
        needed += [
            min(run["nfe"] for run in runs if run["median"] <= least)
            for runs in found["adaptive"].values()
        ]
    assert f"torchdiffeq need {min(needed)} to {max(needed)} evaluations for what ab3" in text
    floors = [f"{found['us_floor'][0]:.0f} µs" for found in result("overhead.json").values()]
    assert f"{floors[0]} for 16×3×32×32 and {floors[1]} for 1×4×64×64" in text
    single = [
        (which, measure, row[measure]["single_peer_name"], row[measure]["auto/single_peer"])
        for which, rows in result("few_step.json").items()
        for row in rows.values()
        for measure in ("rmse", "median")
    ]
    best = Counter(re.split(r"[ ,]", name)[0] for _, _, name, _ in single)
    assert best == {"azula": 20, "iPNDM": 13, "UniPC": 2, "DEIS": 1}
    assert "are ahead in 20, iPNDM in 13; UniPC in two, and DEIS in one." in text
    for kind, said in (("rmse", "RMSE"), ("median", "median")):
        ratios = [ratio for *key, _, ratio in single if key == ["checking", kind]]
        assert f"{min(ratios):.2f} to {max(ratios):.2f} of the {said}" in text


def mean_of(rows: dict[str, Any], nfe: str, who: str, measure: str) -> float:
    """The geometric mean over problems of an error over the oracle's."""
    each = [row[nfe] for name, row in rows.items() if name != "single"]
    found = [e[who][0] if isinstance(e[who], list) else e[who] for e in each]
    ratios = [f[measure] / e["oracle"][measure] for f, e in zip(found, each, strict=True)]
    return statistics.geometric_mean(ratios)


def test_tuned_plans_and_auto_are_what_the_benchmark_found() -> None:
    found, budgets = result("tuning.json"), ("5", "6", "8", "10", "12")
    rows = rows_of("tuning.md", "| evaluations | 5 | 6 | 8 | 10 | 12 |")
    measures = {"RMSE": "rmse", "median": "median", "both": "both"}
    for name, who in (("auto", "auto"), ("search", "search"), ("tuned", "full")):
        for said, measure in measures.items():
            cells = [mean_of(found["bench"], nfe, who, measure) for nfe in budgets]
            assert [float(c) for c in rows[f"{name}: {said}"]] == pytest.approx(cells, abs=0.0051)
    for name, who in (("auto", "auto"), ("tuned", "full")):
        worst = [
            max(
                (e[who][0] if isinstance(e[who], list) else e[who])["both"] / e["oracle"]["both"]
                for problem, row in found["bench"].items()
                if problem != "single" and (e := row[nfe])
            )
            for nfe in budgets
        ]
        row = rows[f"{name}: both, the worst problem"]
        assert [float(c) for c in row] == pytest.approx(worst, abs=0.0051)
    rows = rows_of("tuning.md", "| evaluations | 4 | 5 | 6 | 8 | 10 | 12 |")
    for said, measure in measures.items():
        cells = [mean_of(found["checking"], nfe, "auto", measure) for nfe in ("4", *budgets)]
        assert [float(c) for c in rows[said]] == pytest.approx(cells, abs=0.0051)
        assert max(cells) < 1.2


def test_what_a_fit_asks_is_what_the_benchmark_found() -> None:
    runs = result("tuning.json")["networks"]["digits"].values()
    said = {}
    for who, digits in (("full", -4), ("search", -3)):
        asked = [each["evaluations"] for row in runs for each in row.get(who, ())]
        said[who] = f"{round(min(asked), digits):,} to {round(max(asked), digits):,}"
    assert said["full"] in text_of("which.md") and said["search"] in text_of("which.md")
    assert said["full"] in text_of("tuning.md") and said["search"] in text_of("tuning.md")


def test_auto_beside_one_setting_is_what_the_benchmark_found() -> None:
    found, head = (
        result("few_step.json"),
        "| evaluations | 5 | 6 | 8 | 10 | 12 | 15 | 20 | 30 | 50 |",
    )
    here = rows_of("benchmarks.md", f"{head}\n{'|---' * 10}|\n| first set")
    there = rows_of("which.md", head)
    for which, name in (("choosing", "first set"), ("checking", "second set")):
        for measure, said in (("rmse", "RMSE"), ("median", "median")):
            cells = [row[measure]["auto/single_peer"] for row in found[which].values()]
            assert [float(c) for c in here[f"{name}: {said}"]] == pytest.approx(cells, abs=0.0051)
    assert there["`auto`"] == here["second set: RMSE"]


def test_plans_on_networks_are_what_the_benchmark_found() -> None:
    found, budgets = result("tuning.json"), ("5", "6", "8", "10", "12")
    rows = rows_of("tuning.md", "| network | 5 | 6 | 8 | 10 | 12 |")
    labels = {"digits 8×8": "digits", "clothes": "fashion", "digits 28×28": "digits-flow"}
    for row, cells in rows.items():
        name, said = row.split(": ")
        who = "full" if said == "tuned" else said
        for nfe, cell in zip(budgets, cells, strict=True):
            if cell:
                measured = found["networks"][labels[name]][nfe]
                each = measured[who] if isinstance(measured[who], list) else [measured[who]]
                ratios = [e["both"] / measured["oracle"]["both"] for e in each]
                ends = [float(number) for number in cell.split(" to ")]
                assert [ends[0], ends[-1]] == pytest.approx([min(ratios), max(ratios)], abs=0.0051)
                assert said != "tuned" or max(ratios) <= 0.6
    rows = rows_of("tuning.md", "| | auto | search | tuned without | tuned there |")
    for row, cells in rows.items():
        name, _, nfe = row.rpartition(", ")
        measured = found["transfer"][name][nfe]
        each = [measured[who]["both"] for who in ("auto", "search", "full", "fitted there")]
        assert [float(cell) for cell in cells] == pytest.approx(each, abs=5.1e-5)
        assert measured["full"]["both"] < measured["auto"]["both"]
    rows = rows_of("tuning.md", "| samples of |")
    for k, name in enumerate(found["frechet"]):
        measured = found["frechet"][name]
        for row, cells in rows.items():
            if cells[k]:
                key = row.replace("tuned", "full")
                if key.startswith("the nearest peer, "):
                    nfe = key.rpartition(", ")[2]
                    key = f"{found['networks'][name][nfe]['oracle']['names']['both']}, {nfe}"
                assert float(cells[k]) == pytest.approx(measured[key], rel=6e-4, abs=5.1e-4)


def test_tuning_on_a_gpu_is_what_the_benchmark_found() -> None:
    found = result("tuning_gpu.json")
    assert found["device"] == "NVIDIA H200"
    rows = rows_of("tuning.md", "| network | seconds | `auto` | tuned |")
    for name, key in (("fashion", "fashion"), ("photographs", "photos-vp")):
        for dtype in ("float32", "bfloat16")[: 1 + (key == "fashion")]:
            row, measured = rows[f"{name}, {dtype}"], found[f"{key}, {dtype}, 8"]
            assert float(row[0]) == pytest.approx(measured["seconds"], abs=0.051)
            for cell, kind in zip(row[1:], ("auto", "tuned"), strict=True):
                numbers = [float(number) for number in cell.split(", ")]
                assert numbers == pytest.approx(measured[kind], abs=0.00051)


def test_auto_is_what_the_page_says() -> None:
    for head, table in (
        ("| evaluations | solver | c | low, high |", auto.STEADY),
        ("| evaluations, ε | solver | c | low, high |", auto.AMPLIFIED),
    ):
        said = [
            [
                f"`{each.solver}`" + ", held" * (not each.finish),
                f"{each.center:g}",
                f"{each.low:g}, {each.high:g}",
            ]
            for each in table
        ]
        assert list(rows_of("tuning.md", head).values()) == said


def test_starts_are_what_the_benchmark_found() -> None:
    found = result("starts.json")["ratios"]
    rows = rows_of("benchmarks.md", "| solver, process, grid | 5 |")
    assert rows.keys() == found.keys()
    for name, ratios in found.items():
        assert [float(cell) for cell in rows[name]] == pytest.approx(ratios, abs=0.0051)
        assert min(ratios[:6]) > 0.96


def test_default_grids_are_what_the_benchmark_found() -> None:
    found = result("default_grids.json")
    rows = rows_of("benchmarks.md", "| evaluations a step | power 1 |")
    grids = ["trailing", *(f"trailing(power={p})" for p in ("2", "2.5", "3", "3.5"))]
    for kind, by in found["by_kind"].items():
        for cell, grid in zip(rows[kind], [*grids, "linspace", "logsnr"], strict=True):
            mean, worse = cell.rstrip(")").split(" (")
            assert float(mean) == pytest.approx(by[grid][0], rel=0.06)
            assert int(worse) == by[grid][1]
    for name, cells in rows_of("benchmarks.md", "| solver | 5 | 10 | 20 | 50 |").items():
        for nfe, cell in zip(("5", "10", "20", "50"), cells, strict=True):
            parts = (found[part].get(name, {}) for part in ("chosen_on", "checked_on"))
            means = [part["default"][nfe][0] for part in parts if nfe in part.get("default", {})]
            assert [float(one) for one in cell.split(", ") if one] == pytest.approx(means, rel=0.06)
    checked = [by["default"] for by in found["checked_on"].values()]
    assert all(mean <= 1.0 for by in checked for mean, _ in by.values())
    assert sum(most > 1.005 for by in checked for _, most in by.values()) == 28
    assert sum(map(len, checked)) == 122


def test_starts_with_matrices_are_what_the_benchmark_found() -> None:
    """The bounds that docs/gddim.md gives."""
    for name, ratios in result("matrices.json")["runge_kutta_start"].items():
        early, late = ([ratios[n] for n in ns] for ns in (("10", "20", "40"), ("80", "160", "320")))
        assert min(early) > 1.04 and max(early) < 51 and min(late) > 0.8
        if "ab3" not in name and "CLD" in name:
            low, high = (11, 236) if "unipc3" in name else (8, 10.5)
            assert low < min(early + late) and max(early + late) < high


def test_table_2_is_what_the_benchmark_found() -> None:
    found = result("table2.json")
    rows = rows_of("encoding.md", "| S | 10 | 20 | 50 | 100 | 200 | 500 | 1000 |\n|---")
    for row, grid in (("ddim, uniform τ", "uniform"), ("ddim, default grid", "default")):
        errors = list(found["ddim"][grid].values())
        assert [float(cell) for cell in rows[row]] == pytest.approx(errors, rel=0.05)
        assert errors == sorted(errors, reverse=True)
    rows = rows_of("encoding.md", "| as good as ddim's |")
    for row, cells in rows.items():
        least = found["least"][row.split("`")[1]]
        assert [int(cell) for cell in cells] == list(least.values())
    ten = f"`auto` with 10 evaluations has {found['others']['auto']['10']:.4f}"
    assert ten in text_of("learn/code.md")
    for steps, least in found["least"]["auto"].items():
        assert least <= int(steps) / (8 if int(steps) >= 50 else 2)
    figure = result("figure5.json")
    head = "| S | 10 | 20 | 50 | 100 | 200 | 500 | 1000 |\n" + "|---" * 8 + "|\n| distance"
    cells = rows_of("encoding.md", head)
    distances = list(figure["distance"].values())
    assert [float(cell) for cell in cells["distance"]] == pytest.approx(distances, rel=0.05)
    assert distances == sorted(distances, reverse=True)
    assert distances[1] < 0.15 * figure["another_start"]


def test_bits_are_what_the_benchmark_found() -> None:
    found = result("likelihood.json")
    rows = rows_of("likelihood.md", "| | bits per dimension |")
    for row, key in (("with their labels", "with_labels"), ("without", "without")):
        want = [found[key]["bits"], found[key]["error"]]
        assert numbers(rows[row][0]) == pytest.approx(want, abs=6e-4)
    assert numbers(rows["variational bound, with their labels"][0]) == pytest.approx(
        [found["bound"]], abs=6e-4
    )


def test_rounds_are_what_the_benchmark_found() -> None:
    found = result("parallel.json")
    text = (ROOT / "docs" / "gradients.md").read_text(encoding="utf-8")
    for run, settings in found.items():
        name, n = run.split()
        ratio = settings.pop("time_ratio of 64 digits, tol=0.001", None)
        assert ratio is None or f"{ratio:.1f}" in text
        lines = re.findall(rf"^\| `{name}`, {n} \|.*$", text, re.MULTILINE)
        assert len(lines) == len(settings)
        for line, each in zip(lines, settings.values(), strict=True):
            *_, rounds, evaluations, error, time = (cell.strip() for cell in line.split("|")[1:-1])
            assert (int(rounds), int(evaluations)) == (each["rounds"], each["evaluations"])
            assert float(error) == pytest.approx(each["error"], rel=0.06)
            assert time == f"{each['time_ratio']:.2f}"
    for setting, each in found["ddim 100"].items():
        assert each["rounds"] <= 16 or "memory=0" in setting or "window" in setting
        assert each["error"] < 10 * float(setting.split("=")[1].split(",")[0])


def test_schedulers_are_what_the_benchmarks_found() -> None:
    """docs/diffusers.md: errors, Fréchet distances, the time of a step."""
    found = result("pipeline.json")
    errors = {k.replace("flowsolve ", "flowsolve: "): v for k, v in found["error"].items()}
    rows = rows_of("diffusers.md", "| scheduler | 4 | 5 |")
    assert rows.keys() == errors.keys()
    for name, cells in rows.items():
        assert [float(c) for c in cells] == pytest.approx(
            [*errors[name].values()], abs=6e-4, rel=2e-2
        )
    ours, theirs = (
        [min(v[n] for k, v in errors.items() if k.startswith("flowsolve") is mine) for n in cells]
        for mine, cells in ((True, errors["DDIM"]), (False, errors["DDIM"]))
    )
    gains = [1.0 - a / b for a, b in zip(ours, theirs, strict=True)]
    assert all(abs(gain) < 2e-3 for gain in gains[:2])
    assert min(gains[2:]) > 0.028 and max(gains[2:]) < 0.365
    behind = [a / b - 1.0 for a, b in zip(errors["flowsolve: auto"].values(), theirs, strict=True)]
    assert min(behind[3:]) > 0.055 and max(behind[3:]) < 0.2 < min(behind[:3])
    for name, cells in rows_of("diffusers.md", "| scheduler | 5 | 8 |").items():
        known = found["frechet"][name.replace("flowsolve: ", "flowsolve ")]
        assert [float(c) for c in cells] == pytest.approx([*known.values()], abs=0.051)
    steps = result("scheduler_step.json")
    names = ("ddim", "dpmpp2m", "unipc3", "auto", "DDIMScheduler", "UniPCMultistepScheduler")
    for shape, cells in rows_of("diffusers.md", "| state | `ddim` |").items():
        ratios = [steps[shape.replace("×", "x")][name]["ratio"][0] for name in names]
        assert [float(c) for c in cells] == pytest.approx(ratios, rel=0.03)
