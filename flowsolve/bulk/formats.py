"""The formats of shards: safetensors, pictures in a tar, an array of zarr."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import require
from ..output import write
from ..pictures import depictable
from .samples import Column, Format, Samples


class Safetensors(Format):
    """``000000.safetensors``: the tensor "x", a tensor for each column of numbers; columns of
    strings are in the metadata.

    Examples:
        >>> from safetensors.torch import load_file
        >>> model = flowsolve.exact.Dirac(flowsolve.VP(), [1.0])
        >>> _ = flowsolve.generate(model, 3, "points", nfe=1)
        >>> load_file("points/000000.safetensors")["x"].shape
        torch.Size([3, 1])
    """

    extra, needs = "run", ("safetensors.torch",)

    def write(
        self, folder: Path, k: int, start: int, first: int, x: Tensor, columns: Mapping[str, Column]
    ) -> list[str]:
        save = require("safetensors.torch", "run", "the format 'safetensors'").save
        tensors = {"x": x.contiguous()}
        words: dict[str, Any] = {"first": first}
        for name, column in columns.items():
            if isinstance(column, list):
                words[name] = column
            else:
                tensors[f"conditions.{name}"] = torch.from_numpy(np.array(column))
        # One entry, since safetensors writes several in no particular order.
        content = save(tensors, metadata={"flowsolve": json.dumps(words)})
        write(folder / f"{k:06d}.safetensors", lambda file: file.write(content))
        return [f"{k:06d}.safetensors"]

    def read(self, folder: Path, files: Sequence[str], start: int, first: int, n: int) -> Samples:
        opened = require("safetensors", "run", "the format 'safetensors'").safe_open
        with opened(folder / files[0], "pt") as file:
            found = {name: file.get_tensor(name) for name in sorted(file.keys())}
            words = json.loads(file.metadata()["flowsolve"])
        x, words = found.pop("x"), {k: v for k, v in words.items() if k != "first"}
        numbers = {name.removeprefix("conditions."): value for name, value in found.items()}
        return Samples(first, x, {**numbers, **words})


class Pictures(Format):
    """``000000.tar``: WebDataset's: a PNG for each sample, of values in [−1, 1] in 256 steps, named
    by its number, and what it was told beside it, as JSON.

    Examples:
        >>> import tarfile
        >>> _ = flowsolve.generate(flowsolve.digits(), 2, "digits", nfe=1, format="png")
        >>> with tarfile.open("digits/000000.tar") as tar:
        ...     tar.getnames()
        ['000000000000.png', '000000000001.png']
    """

    extra, needs = "run", ("PIL",)

    def check(self, shape: Sequence[int]) -> None:
        if not depictable(shape):
            raise ValueError(
                f"format='png': samples of shape {tuple(shape)} are not pictures; expected "
                "(1, height, width) or (3, height, width), or format='safetensors'"
            )

    def write(
        self, folder: Path, k: int, start: int, first: int, x: Tensor, columns: Mapping[str, Column]
    ) -> list[str]:
        image = require("PIL.Image", "run", "the format 'png'")
        pixels = _steps(x).byte().permute(0, 2, 3, 1)
        whole = io.BytesIO()
        with tarfile.open(fileobj=whole, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for i, picture in enumerate(pixels.numpy()):
                one = io.BytesIO()
                image.fromarray(picture[..., 0] if len(x[0]) == 1 else picture).save(one, "PNG")
                _add(tar, f"{first + i:012d}.png", one.getvalue())
                if columns:
                    row = {name: _plain(column[i]) for name, column in columns.items()}
                    _add(tar, f"{first + i:012d}.json", json.dumps(row).encode())
        write(folder / f"{k:06d}.tar", lambda file: file.write(whole.getbuffer()))
        return [f"{k:06d}.tar"]

    def kept(self, x: Tensor) -> Tensor:
        return _steps(x) / 127.5 - 1.0

    def read(self, folder: Path, files: Sequence[str], start: int, first: int, n: int) -> Samples:
        image = require("PIL.Image", "run", "the format 'png'")
        pictures, rows = [], []
        with tarfile.open(folder / files[0]) as tar:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None
                if member.name.endswith(".png"):
                    with image.open(content) as picture:
                        pixels = torch.from_numpy(np.array(picture, dtype=np.float32))
                    pictures.append(pixels if pixels.ndim == 3 else pixels[..., None])
                else:
                    rows.append(json.load(content))
        columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
        x = torch.stack(pictures).permute(0, 3, 1, 2).contiguous() / 127.5 - 1.0
        return Samples(first, x, {name: _tensor(column) for name, column in columns.items()})


def _steps(x: Tensor) -> Tensor:
    return x.float().clamp(-1.0, 1.0).add(1.0).mul(127.5).round()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """A member that says nothing of when and by whom it was made."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _tensor(column: list[Any]) -> Tensor | list[str]:
    return column if isinstance(column[0], str) else torch.tensor(column)


class Zarr(Format):
    """``samples.zarr``: a group with the array "x", (n, *shape), a chunk for each shard, and an
    array for each column of numbers.

    Examples:
        >>> import zarr
        >>> model = flowsolve.exact.Dirac(flowsolve.VP(), [1.0])
        >>> _ = flowsolve.generate(model, 3, "chunks", nfe=1, format="zarr")
        >>> zarr.open_group("chunks/samples.zarr", mode="r")["x"].shape
        (3, 1)
    """

    extra, needs = "bulk", ("zarr",)

    def prepare(
        self, folder: Path, n: int, shard: int, like: Tensor, columns: Mapping[str, Column]
    ) -> None:
        group = require("zarr", "bulk", "the format 'zarr'").open_group(folder / NAME, mode="w")
        for name, rows in {"x": like[None].numpy(), **columns}.items():
            if isinstance(rows, list):
                raise ValueError(
                    f"format='zarr': the column {name!r} has strings; expected numbers, or "
                    "format='safetensors'"
                )
            group.create_array(
                name,
                shape=(n, *rows.shape[1:]),
                chunks=(min(shard, n), *rows.shape[1:]),
                dtype=rows.dtype,
                config={"write_empty_chunks": True},
            )

    def write(
        self, folder: Path, k: int, start: int, first: int, x: Tensor, columns: Mapping[str, Column]
    ) -> list[str]:
        zarr = require("zarr", "bulk", "the format 'zarr'")
        # What an empty chunk is, is said anew by whoever opens the array.
        with zarr.config.set({"array.write_empty_chunks": True}):
            group, files = zarr.open_group(folder / NAME, mode="r+"), []
            for name, rows in {"x": x.numpy(), **columns}.items():
                group[name][start : start + len(x)] = rows
                files.append("/".join([NAME, name, "c", str(k), *"0" * (rows.ndim - 1)]))
        return files

    def read(self, folder: Path, files: Sequence[str], start: int, first: int, n: int) -> Samples:
        zarr = require("zarr", "bulk", "the format 'zarr'")
        group = zarr.open_group(folder / NAME, mode="r")
        found: dict[str, Any] = {name: group[name][start : start + n] for name in sorted(group)}
        found = {name: torch.from_numpy(rows) for name, rows in found.items()}
        return Samples(first, found.pop("x"), found)


NAME = "samples.zarr"
FORMATS: dict[str, Format] = {"safetensors": Safetensors(), "png": Pictures(), "zarr": Zarr()}
