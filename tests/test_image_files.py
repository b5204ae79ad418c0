"""Labelled images in files: what is read, and what is said of files that are none."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowsolve.models.files import EXPECTED, read_images

DRAW = np.random.Generator(np.random.PCG64(0))
IMAGES = DRAW.integers(0, 256, (20, 28, 28), dtype=np.uint8)
LABELS = np.arange(20, dtype=np.uint8) // 2
WANT = torch.from_numpy(IMAGES.astype(np.float64) / 127.5 - 1.0).float()[:, None]


def idx(values: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    return head + values.tobytes()


def write_idx(folder: Path, images: bytes, labels: bytes | None) -> Path:
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(images))
    if labels is not None:
        (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return file


def write_npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


def write_classes(folder: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def of_classes() -> dict[str, str]:
    rows = {k: (IMAGES[k == LABELS] / 255.0).ravel().tolist() for k in range(10)}
    texts = {f"{k}.json": json.dumps({"data": row}) for k, row in rows.items()}
    return {**texts, "names.json": "[]", "README.md": "of another kind"}


@pytest.mark.parametrize("packed", [True, False])
def test_idx_packed_or_not_under_both_names(tmp_path: Path, packed: bool) -> None:
    pack = gzip.compress if packed else bytes
    for middle in ("-idx", ".idx"):
        file = tmp_path / f"train-images{middle}3-ubyte"
        file.write_bytes(pack(idx(IMAGES)))
        file.with_name(f"train-labels{middle}1-ubyte").write_bytes(pack(idx(LABELS)))
        x, labels = read_images(file)
        torch.testing.assert_close(x, WANT, rtol=0, atol=1e-6)
        assert x.dtype == torch.float32 and labels.dtype == torch.int64
        assert labels.tolist() == LABELS.tolist()
        assert x.min() >= -1 and x.max() <= 1


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": IMAGES, "labels": LABELS},
        {"images": IMAGES[:, None], "labels": LABELS.astype(np.int32)},
        {"images": IMAGES / 255.0, "labels": LABELS.astype(np.int64), "other": LABELS},
        {"images": (IMAGES / 255.0).astype(np.float32), "labels": LABELS},
    ],
)
def test_npz_of_bytes_or_numbers(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    x, labels = read_images(str(write_npz(tmp_path, **arrays)))
    torch.testing.assert_close(x, WANT, rtol=0, atol=1e-6)
    assert labels.tolist() == LABELS.tolist()


def test_a_folder_of_classes_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    texts = of_classes()
    texts["10.json"] = texts.pop("9.json")  # after "2.json", not before it
    x, labels = read_images(write_classes(tmp_path, texts))
    torch.testing.assert_close(x, WANT, rtol=0, atol=1e-6)
    assert labels.tolist() == [10 if label == 9 else label for label in LABELS.tolist()]


def test_torch_s_modes_do_not_reach_the_images(tmp_path: Path) -> None:
    file = write_npz(tmp_path, images=IMAGES, labels=LABELS)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.device("meta"):
            x, labels = read_images(file)
    finally:
        torch.set_default_dtype(torch.float32)
    assert not (x.is_inference() or x.is_meta or labels.is_inference())
    torch.testing.assert_close(x, WANT, rtol=0, atol=1e-6)


Made = Callable[[Path], Path]


def damaged(change: Callable[[bytes], bytes]) -> Made:
    def make(folder: Path) -> Path:
        file = write_npz(folder, images=IMAGES, labels=LABELS)
        file.write_bytes(change(file.read_bytes()))
        return file

    return make


def packed_idx(change: Callable[[bytes], bytes]) -> Made:
    def make(folder: Path) -> Path:
        file = write_idx(folder, idx(IMAGES), idx(LABELS))
        file.write_bytes(change(file.read_bytes()))
        return file

    return make


def one_class(text: str) -> Made:
    return lambda folder: write_classes(folder, {"0.json": text})


def npz(**arrays: np.ndarray) -> Made:
    return lambda folder: write_npz(folder, **arrays)


WRONG: dict[str, tuple[Made, str]] = {
    "no labels beside": (
        lambda folder: write_idx(folder, idx(IMAGES), None),
        "no labels 'train-labels-idx1-ubyte.gz' beside it",
    ),
    "labels for images": (
        lambda folder: write_idx(folder, idx(LABELS), idx(LABELS)),
        "images of shape (20,)",
    ),
    "fewer labels": (
        lambda folder: write_idx(folder, idx(IMAGES), idx(LABELS[:-1])),
        "labels of shape (19,)",
    ),
    "no idx": (lambda folder: write_idx(folder, b"text", idx(LABELS)), "is no idx file of bytes"),
    "floats in idx": (
        lambda folder: write_idx(folder, b"\0\0\x0d\3" + bytes(99), idx(LABELS)),
        "is no idx file of bytes",
    ),
    "half an idx": (lambda folder: write_idx(folder, idx(IMAGES)[:999], idx(LABELS)), "reshape"),
    "half a gzip": (packed_idx(lambda raw: raw[:-50]), "ended before"),
    "a changed gzip": (packed_idx(lambda raw: raw[:40] + b"~" * 40 + raw[80:]), "CRC check"),
    "no zip": (damaged(lambda raw: b"PK\3\4" + b"~" * 99), "not a zip file"),
    "half a zip": (damaged(lambda raw: raw[: len(raw) // 2]), "not a zip file"),
    "an empty npz": (damaged(lambda raw: b""), "No data left"),
    "other names": (npz(x=IMAGES, y=LABELS), "images"),
    "no images": (npz(images=IMAGES[:0], labels=LABELS[:0]), "images of shape (0, 28, 28)"),
    "labels of floats": (npz(images=IMAGES, labels=LABELS / 1.0), "labels are float64"),
    "negative labels": (
        npz(images=IMAGES, labels=LABELS.astype(int) - 1),
        "labels are int64, from -1",
    ),
    "values to 255 in floats": (npz(images=IMAGES / 1.0, labels=LABELS), "not in [0, 1]"),
    "NaN": (npz(images=IMAGES * np.nan, labels=LABELS), "not in [0, 1]"),
    "text in an npz": (
        npz(images=np.full((2, 1, 1), "a"), labels=np.arange(2)),
        "could not convert",
    ),
    "an empty folder": (lambda folder: folder, "no file of a class"),
    "no JSON": (one_class("{"), "Expecting"),
    "JSON of something else": (one_class("[1, 2]"), "list"),
    "JSON without data": (one_class('{"pixels": []}'), "data"),
    "part of an image": (one_class('{"data": [0.5, 0.5]}'), "reshape"),
    "deep JSON": (one_class("[" * 100_000), "recursion"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, name: str) -> None:
    make, message = WRONG[name]
    path = make(tmp_path)
    with pytest.raises(ValueError) as caught:
        read_images(path)
    told = str(caught.value)
    assert told.startswith(f"path={str(path)!r} cannot be read (") and told.endswith(EXPECTED)
    assert message in told


def test_a_missing_file_is_named() -> None:
    for path in ("nowhere.npz", "null\0character"):
        with pytest.raises(FileNotFoundError) as caught:
            read_images(path)
        assert str(caught.value).startswith(f"path={path!r}: there is no such file or folder; exp")
    with pytest.raises(TypeError, match="path=5: expected a path"):
        read_images(5)  # type: ignore[arg-type]
