"""The tables of the documentation, and the results that benchmarks have left."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def rows_of(page: str, head: str) -> dict[str, list[str]]:
    """The cells of the page's table that begins with ``head``, by the first of their row."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    lines = text[text.index(head) :].split("\n\n", 1)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name: numbers for name, *numbers in cells}


def result(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text(encoding="utf-8"))


def numbers(text: str) -> list[float]:
    return [float(word) for word in re.findall(r"\d*\.?\d+(?:e-?\d+)?", text)]
