"""The tables of docs/benchmarks.md about time, settings and the shipped network give what the
benchmarks found; tests/test_tables.py has the others."""

from __future__ import annotations

import pytest
from tables import lines_of, numbers, result, rows_of, text_of

PAGE = "benchmarks.md"


def test_overhead() -> None:
    found = [shape["overhead_in_floors"] for shape in result("overhead.json").values()]
    for name, cells in rows_of(PAGE, "| solver | 16×3×32×32: ε |").items():
        measured = [shape[name].get(kind) for shape in found for kind in ("eps", "v", "x0")]
        said = [f"{ratio[0]:.1f}" if ratio else "" for ratio in measured]
        assert cells == said, name


def test_time_of_an_evaluation() -> None:
    found = result("overhead.json").values()
    slowest = max(
        (us[0], name)
        for name, us in next(iter(found))["us_per_evaluation"].items()
        if not name.endswith("Scheduler")
    )[1]
    for row, cells in rows_of(PAGE, "| | 16×3×32×32 | own floors |").items():
        name = row.replace("diffusers' ", "diffusers'").split(",")[0].split("'")[-1]
        assert name == slowest or ", the slowest" not in row
        for shape, cell, own in zip(found, cells[::2], cells[1::2], strict=True):
            assert cell == f"{shape['us_per_evaluation'][name][0]:.0f}", name
            floors = shape["overhead_in_own_floors"].get(name)
            assert own == (f"{floors[0]:.1f}" if floors else "")


def test_first_calls() -> None:
    found = result("first_calls.json")["first_run"]
    rows = rows_of(PAGE, "| | extra time of the first run, ms |")
    assert rows.keys() == found.keys()
    for name, cells in rows.items():
        for cell, (median, low, high) in zip(
            cells, (found[name]["ms_extra"], found[name]["ms_next"]), strict=True
        ):
            said = numbers(cell)
            assert said == pytest.approx([median, low, high][: len(said)], rel=0.06)


def test_steps_with_matrices() -> None:
    found = result("step_cost.json")
    rows = lines_of(PAGE, "| state | network | CLD: ddim |")
    assert len(rows) == len(found)
    for shape, dtype, *cells in rows:
        measured = found[f"{shape.replace('×', 'x')}, {dtype} network"]
        ratios = [
            measured[solver][process]["ratio"][0]
            for process in ("cld", "blurring")
            for solver in ("ddim", "etd3", "unipc3")
        ]
        assert cells == [f"{ratio:.2g}" for ratio in ratios], (shape, dtype)
    text = text_of(PAGE)
    step = found["16x4x64x64, float32 network"]["ddim"]["blurring"]["us_per_evaluation"]
    assert f"a step of `ddim` on 64×64 is {step / 1000:.1f} ms" in text
    for process, said in (
        ("cld", "takes up to {:.0f} ms for `ddim`, and {:.0f} for `etd3` and `unipc3`"),
        ("blurring", "takes up to {:.0f} ms for `ddim`, and {:.0f} for the others"),
    ):
        first = {
            solver: max(shape[solver][process]["ms_first"] for shape in found.values())
            for solver in ("ddim", "etd3", "unipc3")
        }
        assert said.format(first.pop("ddim"), max(first.values())) in text


def test_best_settings() -> None:
    found = result("settings.json")
    named = {"`VP.cosine()`": "cosine", "`RectifiedFlow()`": "flow", "all": "all"}
    for process, cells in rows_of(PAGE, "| process | nfe = 10 | nfe = 20 |").items():
        for nfe, cell in zip(("10", "20"), cells, strict=True):
            each = found[nfe][named.get(process, process.strip("`()"))]
            best = sorted(each.items(), key=lambda item: item[1]["mean"])[:3]
            assert cell == "; ".join(f"{name} ({e['mean']:.1f})" for name, e in best)


def test_few_evaluations_of_the_shipped_network() -> None:
    found = rows_of("../benchmarks/results/few_step_network.md", "| evaluations |")
    rows = rows_of(PAGE, "| evaluations | 5 | 6 | 8 | 10 | 12 | 15 | 20 | 30 |\n")
    assert rows.pop("ab3, default grid") == found["default"]
    for name, cells in rows.items():
        assert cells == found[name]
