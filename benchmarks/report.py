"""What a benchmark says while it runs and what it found: progress lines, rows of the one summary
table, and the files in results/."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inside import columns
from timing import Spread

RESULTS = Path(__file__).with_name("results")
#: Seconds between lines that only count.
BETWEEN = 10.0
HEAD = ("benchmark", "measured", "target", "spread", "")


def rounded(content: Any, digits: int = 4) -> Any:
    """``content`` as JSON gives it back, its numbers with as many digits as mean something."""
    return json.loads(
        json.dumps(content), parse_float=lambda text: float(f"{float(text):.{digits}g}")
    )


def number(x: float) -> str:
    return f"{x:.0f}" if x >= 100 else f"{x:.3g}"


@dataclass(frozen=True)
class Row:
    """A line of the summary.

    Attributes:
        measured: one number, or the median of rounds with the least and the most.
        target: the most it should be; None if nothing was set.
        unit: of both.
    """

    name: str
    measured: float | Spread
    target: float | None = None
    unit: str = ""

    @property
    def value(self) -> float:
        return self.measured.median if isinstance(self.measured, Spread) else self.measured

    @property
    def verdict(self) -> str:
        if self.target is None:
            return "-"
        return "met" if self.value <= self.target else "missed"

    @property
    def cells(self) -> tuple[str, ...]:
        m, unit = self.measured, f" {self.unit}" if self.unit else ""
        return (
            self.name,
            number(self.value) + unit,
            "-" if self.target is None else f"<= {number(self.target)}{unit}",
            f"{number(m.least)} to {number(m.most)}" if isinstance(m, Spread) else "-",
            self.verdict,
        )


@dataclass
class Report:
    """Collects what all benchmarks of a session found. Of a small run nothing is kept or said."""

    full: bool
    say: Callable[[str], None]
    begin: float = field(default_factory=time.monotonic)
    rows: list[Row] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    place: str = ""
    said: float = 0.0

    def doing(self, what: str, *, counting: bool = False) -> None:
        """A line on the terminal: which benchmark, the time since the session began, and what.
        Lines that are ``counting`` are left out if they come fast."""
        now = time.monotonic()
        if not self.full or (counting and now - self.said < BETWEEN):
            return
        self.said = now
        minutes, seconds = divmod(int(now - self.begin), 60)
        self.say(f"{self.place}{minutes:3d}:{seconds:02d}  {what}")

    def row(
        self,
        name: str,
        measured: float | Spread,
        target: float | None = None,
        unit: str = "",
    ) -> None:
        if self.full:
            self.rows.append(Row(name, measured, target, unit))

    def save(self, name: str, content: Any, digits: int = 4) -> None:
        """Write a file of results: text as it is, else JSON."""
        if not self.full:
            return
        path = self.file(name)
        if isinstance(content, str):
            path.write_text(content.rstrip() + "\n", encoding="utf-8")
            return
        text = json.dumps(rounded(content, digits), indent=1)
        # What holds nothing but numbers and names is one line.
        text = re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda leaf: " ".join(leaf[0].split()), text)
        path.write_text(text + "\n", encoding="utf-8")

    def file(self, name: str) -> Path:
        """The path of a file of results that is about to be written."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / name
        if path not in self.files:
            self.files.append(path)
        return path

    def table(self) -> list[str]:
        """The summary, a string a line."""
        return columns([HEAD, *(row.cells for row in self.rows)], "<>>><").splitlines()
