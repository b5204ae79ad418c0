"""What divides the shards among processes: torch's, or Ray's. Neither lets them talk to each other,
so that none waits for one that was killed."""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import os
import pickle
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from ..errors import abroad, refused, require
from ..output import write
from .folder import Folder, Part
from .shards import Job, Maker, missing

#: How often a bar is drawn, in seconds.
OFTEN = 0.3


class Remote(Exception):
    """The traceback of an error in another process, as text: its cause in this one. ``abroad`` says
    whether the user's own code raised it."""

    def __init__(self, text: str, abroad: bool) -> None:
        super().__init__(text)
        self.abroad = abroad


def part_here() -> Part:
    """The part that the environment asks this process for, by RANK and WORLD_SIZE: all of it, if it
    does not.

    Raises:
        ValueError: if they are no numbers that fit.
    """
    said = [os.environ.get(key) for key in ("RANK", "WORLD_SIZE")]
    if None in said:
        return Part(0, 1)
    try:
        rank, world = (int(value or "") for value in said)
        if not 0 <= rank < world:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"RANK={said[0]!r} and WORLD_SIZE={said[1]!r} in the environment: expected integers, "
            "0 <= RANK < WORLD_SIZE"
        ) from None
    own_card(int(os.environ.get("LOCAL_RANK", rank)))
    return Part(rank, world)


def check_workers(workers: int) -> int:
    """``workers``. Raises ValueError for more than this machine has cores or cards for; eight are
    always allowed."""
    most = max(8, os.cpu_count() or 1, torch.cuda.device_count())
    if workers > most:
        raise ValueError(refused("workers", workers, f"at most {most}, for cores and cards"))
    return workers


def own_card(rank: int) -> None:
    """Let "cuda" be a card of this process's own, as far as there are."""
    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())


class Bar:
    """Progress in samples, of all processes that fill a folder."""

    def __init__(self, path: Path) -> None:
        self.path, self.bar, self.drawn = path, None, -math.inf

    def show(self, more: int = 0) -> None:
        """Draw it: what is in the folder, and ``more`` samples that are made but not there yet."""
        if time.monotonic() < self.drawn + OFTEN:  # there may be many thousand files to count
            return
        self.drawn = time.monotonic()
        if self.bar is None:
            try:
                folder = Folder(self.path)
            except (FileNotFoundError, ValueError):  # not begun
                return
            tqdm = require("tqdm", "run", "a progress bar").tqdm
            done = folder.samples(folder.done())
            self.folder = folder
            self.bar = tqdm(total=folder.n, initial=done, unit="sample", file=sys.stderr)
        done = self.folder.samples(self.folder.done())
        self.bar.update(min(done + more, self.folder.n) - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.drawn = -math.inf
            self.show()
            self.bar.close()


@contextlib.contextmanager
def bar_of(path: Path, progress: bool) -> Iterator[Callable[[int], None]]:
    """What draws a bar if one was asked for: a function of the samples that are not there yet."""
    if not progress:
        yield lambda more: None
        return
    with contextlib.closing(Bar(path)) as bar:
        yield bar.show


def by_processes(target: Callable[[Part], None], workers: int, path: Path, progress: bool) -> None:
    """Call ``target(part)`` in so many new processes. They end with this one.

    Raises:
        Exception: the first that one of them raised; the others are ended.
        RuntimeError: if one was killed; so too.
    """
    from torch.multiprocessing.spawn import ProcessExitedException, start_processes

    threads = max(1, torch.get_num_threads() // workers)
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # we say it ourselves
    with tempfile.TemporaryDirectory() as errors:
        arguments = (target, workers, threads, errors)
        running = start_processes(
            _child, arguments, workers, join=False, daemon=True, start_method="spawn"
        )
        assert running is not None
        try:
            with bar_of(path, progress) as show:
                while not running.join(OFTEN):
                    show(0)
        except ProcessExitedException as exit:
            for said in Path(errors).glob("*.pickle"):  # the first to fail ended the others
                error, *where = pickle.loads(said.read_bytes())
                raise error from Remote(*where)
            name = exit.signal_name or f"status {exit.exit_code}"
            raise RuntimeError(
                f"worker {exit.error_index} of {workers} was ended ({name}); what is finished "
                "stays, and the same call goes on"
            ) from None
        finally:
            processes: list[Any] = running.processes
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()


def _child(
    rank: int, target: Callable[[Part], None], workers: int, threads: int, errors: str
) -> None:
    threading.Thread(target=_orphaned, daemon=True).start()
    torch.set_num_threads(threads)
    own_card(rank)
    try:
        target(Part(rank, workers))
    except Exception as error:
        where = traceback.format_exc(), abroad(error) is not None
        try:
            content = pickle.dumps((error, *where))
            pickle.loads(content)
        except Exception:  # one that cannot be pickled
            content = pickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), *where))
        # In a file: an error may have a state with it, and a pipe would be full.
        write(Path(errors) / f"{rank}.pickle", lambda file: file.write(content))
        sys.exit(1)


def _orphaned() -> None:
    """End this process when its parent ends, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def by_ray(job: Job, folder: Folder, workers: int | None, progress: bool) -> None:
    """Let Ray make what is missing of a folder: it starts again what dies."""
    data = require("ray.data", "ray", "ray=True")
    with folder.alone(Part(0, 1)), bar_of(folder.path, progress) as show:
        left = missing(folder, Part(0, 1))
        if not left:
            return
        size = {"size": min(workers, len(left))} if workers else {"max_size": len(left)}
        shards = data.from_items([{"shard": k} for k in left], override_num_blocks=len(left))
        made = shards.map_batches(
            RayMaker,
            fn_constructor_args=(job,),
            batch_size=1,
            num_gpus=1 if torch.cuda.is_available() else 0,
            compute=data.ActorPoolStrategy(**size),
        )
        for _ in made.iter_batches(batch_size=1, prefetch_batches=0):
            show(0)


class RayMaker:
    """Holds the model in a process of Ray's, and makes shards there."""

    def __init__(self, job: Job) -> None:
        self.make = Maker(job)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Make the shards of a batch {"shard": numbers}."""
        for k in batch["shard"]:
            self.make(int(k))
        return batch
