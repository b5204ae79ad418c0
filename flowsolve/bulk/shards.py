"""Shards made and written: the work of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import __version__
from ..about import check_scale
from ..denoiser import Denoiser
from ..errors import warn
from ..plans import Plan
from ..recorded import Captured
from ..sampling import DEFAULT_SOLVER, solve
from .folder import Folder, Part
from .tables import Table, table_of

#: What makes the model.
Factory = Denoiser | Callable[[], Denoiser]


class Job(NamedTuple):
    """All that a process needs: the folder, what makes the model, and how to run it.

    Attributes:
        folder: where the samples go.
        name: how the caller knows the folder.
        model: the model, or what makes it.
        conditions: what the samples are told, as the caller said it: every process reads a file
            for itself.
        solving: solver, and other arguments of :func:`~flowsolve.solve`.
        capture: record the run of a batch, see :func:`flowsolve.capture`.
    """

    folder: str
    name: str
    model: Factory
    conditions: Any
    solving: dict[str, Any]
    capture: bool = False

    @property
    def table(self) -> Table | None:
        """The columns of the conditions."""
        return None if self.conditions is None else table_of(self.conditions)

    def opened(self) -> Job:
        """The same in one process: with its model, and its table read."""
        return self._replace(model=model_of(self.model), conditions=self.table)


class Maker:
    """Makes the shards of a job."""

    def __init__(self, job: Job) -> None:
        job = job.opened()
        self.folder = Folder(Path(job.folder), job.name)
        self.table, self.solving = job.table, job.solving
        self.model = told(model_of(job.model), self.table)
        self.recorded = self._recorded() if job.capture else None

    def __call__(self, k: int, show: Callable[[int], None] = lambda more: None) -> None:
        """Make shard k and say that it is there; ``show`` is told how many samples are made."""
        rows, first = self.folder.rows(k), self.folder.first
        numbers = range(first + rows.start, first + rows.stop)
        parts: list[Tensor] = []
        for batch in self.batches(numbers):
            parts.append(batch.cpu())
            show(sum(map(len, parts)))
        x = torch.cat(parts)
        if k == 0:
            self._look(x)
        columns = self.table.rows(numbers) if self.table else {}
        made = self.folder.format.write(self.folder.path, k, rows.start, numbers.start, x, columns)
        self.folder.commit(k, made, self.by())

    def batches(self, numbers: range) -> Iterator[Tensor]:
        """The samples with these numbers, a batch at a time."""
        size, seed = self.folder.manifest["batch_size"], self.folder.manifest["seed"]
        for i in range(numbers.start, numbers.stop, size):
            n = min(size, numbers.stop - i)
            if self.recorded is not None and n == size:
                yield self.recorded(seed=seed, first=i)
            else:
                yield solve(self.model, n=n, first=i, seed=seed, **self.solving).x

    def _recorded(self) -> Captured | None:
        plan = self.solving["solver"]
        if "noise" in self.solving:
            reason = "of a Brownian path nothing is recorded"
        else:
            size = self.folder.manifest["batch_size"]
            found = Captured(
                self.model, plan if isinstance(plan, Plan) else None, size, how=self.solving
            )
            if found.reason is None:
                return found
            reason = found.reason
        warn(f"capture=True: {reason}; runs are made in the ordinary way")
        return None

    def _look(self, x: Tensor) -> None:
        """As :func:`~flowsolve.solve` does where "auto" chose."""
        plan, model = self.solving["solver"], self.model
        chose = self.folder.manifest["solver"] == DEFAULT_SOLVER and isinstance(plan, Plan)
        if chose and model.data_scale is None and model.process.scalar:
            check_scale(x, plan.nfe)

    def by(self) -> dict[str, str]:
        """What makes them: samples are the same to the bit where this is."""
        device = self.model.device or torch.device("cpu")
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return {"device": name, "torch": torch.__version__, "flowsolve": __version__}


def model_of(model: Factory) -> Denoiser:
    """The model. Raises TypeError if what is to make it makes something else."""
    found = model if isinstance(model, Denoiser) else model()
    if not isinstance(found, Denoiser):
        raise TypeError(f"model: it returned a {type(found).__name__}; expected {Denoiser.such_as}")
    return found


def told(model: Denoiser, table: Table | None) -> Denoiser:
    """The model, told the columns of a table."""
    if table is None:
        return model
    return model.given(per_sample=[*table.columns], **table.given(model.device))


def work(job: Job, part: Part, show: Callable[[int], None]) -> None:
    """Make what is missing of a part of the folder, and ``show`` the samples of the shard so far.
    Shards that are damaged are made again."""
    maker: Maker | None = None
    folder = Folder(Path(job.folder), job.name)
    with folder.alone(part):
        for k in missing(folder, part):
            maker = maker or Maker(job)
            maker(k, show)


def missing(folder: Folder, part: Part) -> list[int]:
    """The shards of a part that are to be made: those that have no record or are not what it
    says."""
    records = folder.records()
    left = []
    for k in part.of(folder.shards):
        damage = folder.damage(k, records[k]) if k in records else None
        if damage is not None:
            warn(f"{folder.name}={str(folder.path)!r}: {damage}; the shard is made again")
            folder.forget(k)
        if damage is not None or k not in records:
            left.append(k)
    return left
