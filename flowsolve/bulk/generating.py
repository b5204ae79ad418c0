"""Many samples, into a folder: the call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from ..checked import Count, OneSeed, checked
from ..checks import AnyGrid, AnySolver
from ..readers import Later
from ..sampling import DEFAULT_SOLVER
from ..starts import Number, Samples
from .engines import bar_of, by_processes, by_ray, check_workers, part_here
from .folder import Folder, Part
from .settings import Wanted, begin
from .shards import Factory, Job, work

#: A table, in memory or in a file.
Conditions = Annotated[Mapping[str, Any] | os.PathLike[str] | str, Later("table_of")]


class Generated(NamedTuple):
    """What is in a folder.

    Examples:
        >>> model = flowsolve.exact.Dirac(flowsolve.VP(), [1.0])
        >>> found = flowsolve.generate(model, 3, "points", nfe=1)
        >>> found.folder.name, found.done == found.n
        ('points', True)

    Attributes:
        folder: where it is.
        done: the samples that are there, of all processes.
        n: the samples that there are to be.
    """

    folder: Path
    done: int
    n: int


@checked
def generate(
    model: Factory,
    n: Samples | None = None,
    out: os.PathLike[str] | str = "samples",
    *,
    conditions: Conditions | None = None,
    solver: AnySolver = DEFAULT_SOLVER,
    nfe: Count | None = None,
    grid: AnyGrid = None,
    seed: OneSeed = 0,
    first: Number = 0,
    batch_size: Count = 64,
    shard: Count | None = None,
    format: Literal["safetensors", "png", "zarr"] = "safetensors",
    noise: Literal["brownian"] | None = None,
    workers: Count | None = None,
    ray: bool = False,
    capture: bool = False,
    progress: bool = False,
    **options: Any,
) -> Generated:
    """Fill a folder with ``n`` samples, in shards that appear whole or not at all. The same call
    again goes on where it was ended, on whatever machine, by however many processes.

    Sample i depends on (seed, i) alone: it is the one that ``flowsolve.sample(..., first=i, n=1)``
    draws. On one kind of device, with one ``batch_size`` and ``shard``, its bits depend on nothing
    else either; elsewhere it is the same but for the rounding of the network.

    Under ``torchrun``, or wherever the environment has RANK and WORLD_SIZE, every process calls
    this and makes each WORLD_SIZE-th shard. They do not talk to each other.

    Args:
        model: a :class:`~flowsolve.Denoiser`, or a function that returns one, which is called in
            every process that samples. It has to be picklable for ``workers`` and ``ray``.
        n: the number of samples; by default the rows of ``conditions``, or as many as the model has
            rows of its own.
        out: the folder. It is made, or is one that this run began.
        conditions: what each sample is told, columns with a row for each: a mapping of names to
            arrays, tensors or lists of strings, or a file: .csv with a head, .parquet, .npz, or
            .npy (a column with the file's name). Sample i has row i. They are written beside the
            samples.
        solver, nfe, grid, noise, options: as in :func:`~flowsolve.solve`.
        seed: of the starts and the noise.
        first: the number of the first sample.
        batch_size: the samples that the network sees at a time.
        shard: the samples of a file; by default 1,024, or what 64 MiB hold if that is less.
        format: "safetensors"; "png", a tar of pictures, WebDataset's; "zarr", one array.
        workers: processes on this machine, each with a graphics card of its own as far as there
            are; by default one, this one, or what RANK and WORLD_SIZE say. A script that asks for
            more runs this under ``if __name__ == "__main__":``.
        ray: let Ray do the shards, on its cluster, or on this machine if there is none; all of it
            sees ``out``. ``workers`` is then how many there are.
        capture: play the run of a batch as one CUDA graph (:func:`flowsolve.capture`), where that
            can be; else a warning says why not.
        progress: show a bar (tqdm), of all processes' samples.

    Returns:
        What is in the folder now. Of a process under torchrun: perhaps not all of it yet.

    Raises:
        TypeError, ValueError: for arguments that do not fit, and for a folder that another run
            began, naming what is not the same.
        BlockingIOError: if another run is filling the folder.
        OSError: if the disk is full; what is finished stays.
        RuntimeError: if a worker was killed.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> flowsolve.generate(model, 300, "samples", nfe=5, shard=128)[1:]
        (300, 300)
        >>> [len(part.x) for part in flowsolve.bulk.read("samples")]
        [128, 128, 44]
    """
    wanted = Wanted(n, solver, nfe, grid, seed, first, batch_size, shard, format, noise, options)
    how = {"workers": workers, "ray": ray, "capture": capture, "progress": progress}
    return fill(model, out, conditions, wanted, **how)


def fill(
    model: Factory,
    out: os.PathLike[str] | str,
    conditions: Any,
    wanted: Wanted,
    *,
    workers: int | None,
    ray: bool,
    capture: bool,
    progress: bool,
) -> Generated:
    """:func:`generate`, told in one."""
    path = Path(out)
    job = Job(os.fspath(path), "out", model, conditions, {}, capture)
    if workers is not None and workers > 1 and not ray:
        many = check_workers(workers)
        by_processes(partial(_begun, job, wanted), many, path, progress)
    else:
        # Alone if that was asked for, whatever the environment says.
        part = Part(0, 1) if workers or ray else part_here()
        _begun(job, wanted, part, workers, ray, progress and part.rank == 0)
    folder = Folder(path, "out")
    return Generated(path, folder.samples(folder.done()), folder.n)


def _begun(
    job: Job,
    wanted: Wanted,
    part: Part,
    workers: int | None = None,
    ray: bool = False,
    progress: bool = False,
) -> None:
    """One process's work, from the beginning: each begins the folder, or finds it begun."""
    here = job.opened()
    folder, solving = begin(here, wanted)
    if ray:
        by_ray(job._replace(solving=solving), folder, workers, progress)
        return
    with bar_of(folder.path, progress) as show:
        work(here._replace(solving=solving), part, show)
