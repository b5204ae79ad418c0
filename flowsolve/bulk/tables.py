"""Conditions: what each sample is told, a row for each."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..conditioning import Picked, Rows
from ..errors import refused, require
from .samples import Column

KINDS = (".csv", ".parquet", ".npz", ".npy")
EXPECTED = "a table (.csv with a head, .parquet, .npz, .npy) or a mapping of names to arrays"


class Table:
    """Columns with a row for each sample, from number ``start`` on. They are read when a run asks
    for them, so that arrays in a .npy file are never in memory as a whole."""

    def __init__(self, columns: Mapping[str, Column], start: int = 0) -> None:
        self.columns, self.start = dict(columns), start

    def rows(self, samples: range) -> dict[str, Column]:
        """What samples with these numbers are told."""
        i, j = samples.start - self.start, samples.stop - self.start
        return {name: column[i:j] for name, column in self.columns.items()}

    def given(self, device: torch.device | None) -> dict[str, Rows]:
        """The columns as conditioning of a network on ``device``."""
        return {name: _Told(column, self.start, device) for name, column in self.columns.items()}

    def digest(self, n: int) -> str:
        """A checksum of the first n rows of all columns."""
        found = hashlib.sha256()
        for name, column in self.columns.items():
            found.update(f"{name}\0".encode())
            for i in range(0, n, 2**16):
                piece = column[i : min(i + 2**16, n)]
                if isinstance(piece, list):
                    found.update("\0".join(piece).encode())
                else:
                    found.update(f"{piece.dtype.str}{piece.shape[1:]}".encode())
                    found.update(np.ascontiguousarray(piece).tobytes())
        return f"sha256:{found.hexdigest()}"


class _Told(Rows):
    """A column, whose rows are tensors on a device once they are cut out."""

    def __init__(self, column: Column, start: int, device: torch.device | None) -> None:
        self.column, self.start, self.device = column, start, device

    def __len__(self) -> int:
        return self.start + len(self.column)

    def __getitem__(self, rows: Picked) -> Tensor | list[str]:
        samples = range(len(self))[rows] if isinstance(rows, slice) else rows.tolist()
        places = [i - self.start for i in samples]
        if isinstance(self.column, list):
            return [self.column[i] for i in places]
        return torch.from_numpy(np.array(self.column[places])).to(self.device or "cpu")


def table_of(conditions: Any, name: str = "conditions") -> Table:
    """The table that a user gave: a file, or a mapping of names to arrays, tensors and lists.

    Raises:
        FileNotFoundError: if there is no such file.
        TypeError, ValueError: for what is no table, naming it.
    """
    if isinstance(conditions, Table):
        return conditions
    if isinstance(conditions, (str, os.PathLike)):
        columns = _read(Path(conditions), f"{name}={os.fspath(conditions)!r}")
    elif isinstance(conditions, Mapping) and conditions:
        columns = dict(conditions)
    else:
        raise TypeError(refused(name, conditions, EXPECTED))
    found = {str(key): _column(f"{name}[{str(key)!r}]", value) for key, value in columns.items()}
    rows = {key: len(column) for key, column in found.items()}
    if len(set(rows.values())) != 1 or not all(rows.values()):
        have = ", ".join(f"{key} {n}" for key, n in rows.items())
        raise ValueError(f"{name}: expected as many rows in each column, but there are {have}")
    return Table(found)


def _read(path: Path, said: str) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{said}: there is no such file; expected {EXPECTED}")
    try:
        if path.suffix == ".csv":
            return _csv(path)
        if path.suffix == ".parquet":
            read = require("pyarrow.parquet", "bulk", "a .parquet table").read_table
            table = read(path)
            return {
                name: _arrow(column)
                for name, column in zip(table.column_names, table.columns, strict=True)
            }
        if path.suffix == ".npy":
            return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False)}
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
    except ImportError:
        raise
    except Exception as error:  # whatever parsing makes of damaged files
        raise ValueError(f"{said} cannot be read ({error}); expected {EXPECTED}") from None
    raise ValueError(f"{said}: expected a name ending in one of {', '.join(KINDS)}")


def _arrow(column: Any) -> Any:
    values = column.to_pylist()
    return values if any(isinstance(value, str) for value in values) else np.array(values)


def _csv(path: Path) -> dict[str, Any]:
    """Columns of whole numbers, of numbers, or of strings, whichever is the first that fits."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        head = next(reader, [])
        if not head or len(set(head)) != len(head) or not all(head):
            raise ValueError("its first line is to have the columns' names, each once")
        columns: list[list[str]] = [[] for _ in head]
        for row in reader:
            if len(row) != len(head):
                raise ValueError(f"line {reader.line_num} has {len(row)} values, not {len(head)}")
            for column, value in zip(columns, row, strict=True):
                column.append(value)
    return {name: _numbers(column) for name, column in zip(head, columns, strict=True)}


def _numbers(column: list[str]) -> Any:
    for kind in (np.int64, np.float32):
        try:
            return np.array(column, dtype=kind)
        except (ValueError, OverflowError):
            continue
    return column


def _column(said: str, value: Any) -> Column:
    """A column of numbers or of strings. Raises TypeError for another."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, (list, tuple)):
        value = list(value)
        if value and all(isinstance(each, str) for each in value):
            return value
        try:
            value = np.array(value)
        except ValueError:  # rows of different lengths
            value = np.array(None)
    if isinstance(value, np.ndarray) and value.dtype.kind == "U" and value.ndim == 1:
        return value.tolist()
    if not (isinstance(value, np.ndarray) and value.ndim and value.dtype.kind in "biuf"):
        raise TypeError(refused(said, value, "numbers or strings, one for each sample"))
    return value
