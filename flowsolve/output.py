"""What leaves the library: files that appear complete or not at all, and tables in columns."""

from __future__ import annotations

import os
import secrets
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

Rows = Sequence[Sequence[str]]


def write(path: Path, save: Callable[[BinaryIO], object]) -> None:
    """Let ``save`` write a file that appears at ``path`` complete or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as file:
            save(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def columns(rows: Rows, align: str = "", *, gap: int = 2, width: int | None = None) -> str:
    """Rows of cells, all of one length, as lines; every column is as wide as its widest cell.

    Args:
        rows: the cells, the head's among them.
        align: "<" or ">" for each column; those it does not reach are "<".
        gap: spaces between columns.
        width: where lines end: the last column's cells go on below themselves. They have 40
            characters even if the other columns leave less.
    """
    if width is not None:
        rows = list(_wrapped(rows, gap, width))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = align.ljust(len(widths), "<")
    return "\n".join(
        (" " * gap).join(map("{:{}{}}".format, row, sides, widths)).rstrip() for row in rows
    )


def _wrapped(rows: Rows, gap: int, width: int) -> Iterator[Sequence[str]]:
    others = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    room = max(40, width - sum(others) - gap * len(others))
    for *cells, last in rows:
        parts = textwrap.wrap(last, room, break_long_words=False, break_on_hyphens=False)
        for k, part in enumerate(parts or [""]):
            yield [*(cell if k == 0 else "" for cell in cells), part]
