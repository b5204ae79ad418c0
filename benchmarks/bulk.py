"""What generate costs, and what two processes are worth: ``python -m benchmarks.bulk``.

Writes benchmarks/results/bulk.json:

* ``two_over_one``: samples a second of two processes over those of one, one thread each, between
  the first and the last shard that is there, in one run, ``REPEATS`` times;
* ``start``: seconds until a worker has begun, on an idle machine mostly the import of torch;
* ``shards``: seconds of processor time to write a shard of 1,024 samples, in each format, and
  bytes; ``check``: bytes a second of the checksum;
* ``disk``: bytes a second that are on the disk (fsync) in shards of 64 MiB.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import flowsolve
from flowsolve.bulk.folder import digest
from flowsolve.bulk.formats import FORMATS
from flowsolve.noise import normal
from flowsolve.pictures import depictable

RESULTS = Path(__file__).parent / "results" / "bulk.json"
REPEATS, N, NFE = 3, 16384, 10
#: Of CIFAR's pictures, and of latents of 512×512 pictures.
SHAPES = {"3x32x32": (3, 32, 32), "4x64x64": (4, 64, 64)}


def model() -> flowsolve.Denoiser:
    torch.set_num_threads(1)
    return flowsolve.digits()


def rate(workers: int, n: int, place: Path) -> float:
    """Samples a second, once all workers are at work: between the moments at which every worker
    has written its first shard and at which the first one has written its last."""
    shard = 256
    flowsolve.generate(model, n, place, nfe=NFE, shard=shard, workers=workers)
    ends = [(place / "done" / f"{k:06d}.json").stat().st_mtime for k in range(n // shard)]
    begin = max(min(ends[r::workers]) for r in range(workers))
    end = min(max(ends[r::workers]) for r in range(workers))
    return shard * sum(begin < t <= end for t in ends) / (end - begin)


def ratio(n: int) -> float:
    """Two processes over one."""
    found = []
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as place:
            found.append(rate(workers, n, Path(place) / "samples"))
    return found[1] / found[0]


def started() -> float:
    """Seconds from the call to the manifest, of one new worker."""
    with tempfile.TemporaryDirectory() as place:
        begin = time.time()
        flowsolve.generate(model, 64, Path(place) / "s", nfe=1, workers=2)
        return (Path(place) / "s" / "manifest.json").stat().st_mtime - begin


def written(shape: tuple[int, ...], kind: str, n: int = 1024) -> dict[str, float]:
    """What a shard takes. PNGs of noise, which cannot be compressed: the worst case."""
    x = normal(0, range(n), 0, shape, torch.float32, None) * 0.5
    form = FORMATS[kind]
    with tempfile.TemporaryDirectory() as place:
        form.prepare(Path(place), n, n, x[0], {})
        begin = time.process_time()
        names = form.write(Path(place), 0, 0, 0, x, {})
        took = time.process_time() - begin
        size = sum((Path(place) / name).stat().st_size for name in names)
    return {"seconds": round(took, 4), "bytes": size}


def disk(pieces: int = 8) -> dict[str, float]:
    """Bytes a second onto the disk, and through the checksum."""
    x = torch.rand(pieces, 2**24)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        begin = time.perf_counter()
        for k in range(pieces):
            FORMATS["safetensors"].write(Path(place), k, 0, 0, x[k][None], {})
        took = time.perf_counter() - begin
        begin = time.process_time()
        digest(Path(place) / "000000.safetensors")
        check = time.process_time() - begin
    return {"disk": round(x.nbytes / took), "check": round(x[0].nbytes / check)}


def measured(repeats: int = REPEATS, n: int = N) -> dict[str, Any]:
    torch.set_num_threads(1)
    ratios = [round(ratio(n), 3) for _ in range(repeats)]
    shards = {
        name: {kind: written(shape, kind) for kind in FORMATS if kind != "png" or depictable(shape)}
        for name, shape in SHAPES.items()
    }
    return {
        "command": "python -m benchmarks.bulk",
        "torch": torch.__version__,
        "device": "cpu, two cores",
        "two_over_one": sorted(ratios),
        "median": statistics.median(ratios),
        "start": round(started(), 2),
        "shards": shards,
        **disk(),
    }


def table(found: dict[str, Any]) -> list[str]:
    """What was measured, as the page's table."""
    shards = found["shards"]

    def shard(shape: str, kind: str) -> str:
        row = shards[shape][kind]
        return f"{row['seconds']:.2f} s, {row['bytes'] / 1e6:.1f} MB"

    rows = [
        ("two processes over one, samples a second", f"{found['median']:.2f}"),
        ("until a new process has begun, mostly the import of torch", f"{found['start']:.1f} s"),
        *(
            (f"1,024 samples {shape.replace('x', '×')}, {kind}", shard(shape, kind))
            for shape in shards
            for kind in shards[shape]
        ),
        ("onto this machine's disk", f"{found['disk'] / 1e6:.0f} MB a second"),
        ("checksums", f"{found['check'] / 1e9:.1f} GB a second"),
    ]
    return ["| what | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]


#: Samples, shape, and the seconds of an evaluation that are assumed.
CASES = ((50_000, "3x32x32", 2e-4), (10**7, "4x64x64", 5e-3))


def paper(found: dict[str, Any], nfe: int = 10) -> list[str]:
    """What runs would take, as the page's table."""
    lines = [
        "| samples | one card | 8 cards | 64 cards | files | a card writes "
        "| cards that fill this disk |",
        "|---|---|---|---|---|---|---|",
    ]
    for n, name, seconds in CASES:
        each, size = nfe * seconds, 4 * math.prod(SHAPES[name])
        times = (duration(found["start"] + n * each / cards) for cards in (1, 8, 64))
        total = n * size
        files = f"{total / 1e9:.1f} GB" if total < 1e11 else f"{total / 1e9:.0f} GB"
        rate = size / each
        lines.append(
            f"| {n:,} of {name.replace('x', '×')} | {' | '.join(times)} | {files} | "
            f"{rate / 1e6:.1f} MB/s | {found['disk'] / rate:.0f} |"
        )
    return lines


def duration(seconds: float) -> str:
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    result = measured()
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join([*table(result), "", *paper(result)]))
