"""The tables of the documentation, and the results that benchmarks have left."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def text_of(page: str) -> str:
    """The page in one line."""
    return " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())


def table_of(page: str, head: str) -> list[list[str]]:
    """The cells of the page's table that begins with ``head``, line by line, the head first."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    first, _, *lines = text[text.index(head) :].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (first, *lines)]


def lines_of(page: str, head: str) -> list[list[str]]:
    """The same without the head."""
    return table_of(page, head)[1:]


def rows_of(page: str, head: str) -> dict[str, list[str]]:
    """The lines by the first of their cells."""
    return {name: numbers for name, *numbers in lines_of(page, head)}


def result(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text(encoding="utf-8"))


def numbers(text: str) -> list[float]:
    return [float(word) for word in re.findall(r"\d*\.?\d+(?:e-?\d+)?", text)]


def agrees(cell: str, value: float) -> bool:
    """Whether a cell gives the value, to a unit of its last digit."""
    mantissa, _, exponent = cell.rstrip(" %").partition("e")
    places = len(mantissa.partition(".")[2])
    unit = 10.0 ** (int(exponent or 0) - places)
    return abs(float(mantissa) * 10.0 ** int(exponent or 0) - value) <= 1.001 * unit


def all_agree(cells: list[str], values: list[float]) -> bool:
    return all(agrees(cell, value) for cell, value in zip(cells, values, strict=True))
