"""What a folder of samples is made with: found from a call, kept in its manifest, compared with
what a later call says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import __version__, checks
from ..denoiser import Denoiser
from ..errors import require, shown
from ..plans import Plan
from ..plans.files import dumps, loads
from . import fingerprint
from .folder import Folder, begun
from .formats import FORMATS
from .shards import Job, model_of, told
from .tables import Table

#: The samples of a shard, and the most bytes of them.
SHARD, BYTES = 1024, 2**26


class Wanted(NamedTuple):
    """What a call says: see :func:`flowsolve.generate`; ``command`` is what a command line said."""

    n: int | None
    solver: Any
    nfe: int | None
    grid: Any
    seed: int
    first: int
    batch_size: int
    shard: int | None
    files: str
    noise: str | None
    options: dict[str, Any]
    command: dict[str, Any] | None = None


def begin(job: Job, wanted: Wanted) -> tuple[Folder, dict[str, Any]]:
    """The folder of an opened job, begun or found, and the arguments of :func:`~flowsolve.solve`
    that make its samples. Raises what :func:`flowsolve.generate` says."""
    kind, path = FORMATS[wanted.files], Path(job.folder)
    model, table = model_of(job.model), job.table
    for module in kind.needs:
        require(module, kind.extra, f"format={wanted.files!r}")
    kind.check(model.data_shape)
    how = (wanted.solver, wanted.nfe, wanted.grid, (None, None), wanted.options)
    layout = checks.check_layout(model.process, *how, arguments=Wanted._fields, about=model.about)
    weights, model = fingerprint.weights(model), told(model, table)
    settings = _settings(model, table, wanted)
    settings["plan"] = None if layout.plan is None else _numbers(layout.plan)
    settings["model"] = {
        "process": type(model.process).__name__,
        "predicts": type(model.parametrization).__name__,
        "weights": weights,
        "answer": fingerprint.answer(model, wanted.first, wanted.seed),
    }

    def prepare() -> None:
        columns = table.rows(range(wanted.first, wanted.first + 1)) if table else {}
        like = torch.zeros(model.data_shape, dtype=model.state_dtype)
        kind.prepare(path, settings["n"], settings["shard"], like, columns)

    folder = begun(path, job.name, settings, prepare)
    compare(folder, settings)
    return folder, solving(folder, wanted)


def _numbers(plan: Plan) -> Any:
    """A plan as a manifest has it; None for one in coordinates that have no name."""
    try:
        return json.loads(dumps(plan.program))
    except ValueError:
        return None


def _settings(model: Denoiser, table: Table | None, wanted: Wanted) -> dict[str, Any]:
    """All that can be said before there is a plan."""
    n = _count(model, table, wanted)
    checks.check_rows(model, wanted.first, n)
    shape, dtype = model.data_shape, model.state_dtype
    size = math.prod(shape) * dtype.itemsize
    return {
        "n": n,
        "first": wanted.first,
        "seed": wanted.seed,
        "shard": wanted.shard or max(1, min(SHARD, BYTES // size)),
        "batch_size": wanted.batch_size,
        "files": wanted.files,
        "shape": list(shape),
        "dtype": str(dtype).removeprefix("torch."),
        "solver": _said(wanted.solver),
        "nfe": wanted.nfe,
        "grid": _said(wanted.grid),
        "noise": wanted.noise,
        "options": {name: _said(value) for name, value in wanted.options.items()},
        "conditions": table
        and {
            "columns": [*table.columns],
            "checksum": table.digest(wanted.first + n),
        },
        "versions": {"flowsolve": __version__},
        "command": wanted.command,
    }


def _count(model: Denoiser, table: Table | None, wanted: Wanted) -> int:
    if wanted.n is not None:
        return wanted.n
    if table is None and not model.per_sample:
        raise TypeError("n=None: expected the number of samples, or conditions with a row for each")
    return checks.samples_of(model, wanted.first)


def _said(value: Any) -> Any:
    """An argument as a manifest has it."""
    if isinstance(value, (list, tuple)):
        return [_said(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def compare(folder: Folder, settings: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the first that is not the same, if these are not the settings that a
    folder was begun with. Solver, nfe, grid and options may be said otherwise if the plan is the
    same; versions do not count, nor what a command line said."""
    was = dict(folder.manifest)
    now = json.loads(json.dumps(settings))
    names = ["n", "first", "seed", "shard", "batch_size", "files", "shape", "dtype", "noise"]
    if not (was["plan"] and now["plan"] and plan_of(was) == plan_of(now)):
        names += ["solver", "nfe", "grid", "options"]
    for name in names:
        if was[name] != now[name]:
            said = (f"{name}={shown(each[name])}" for each in (was, now))
            _refuse(folder, "it was begun with {}, not {}".format(*said))
    if was["conditions"] != now["conditions"]:
        _refuse(folder, "it was begun with other conditions")
    old, new = was["model"], now["model"]
    for name in ("process", "predicts", "weights"):
        if old[name] != new[name]:
            what = "other weights" if name == "weights" else f"{name} {old[name]}, not {new[name]}"
            _refuse(folder, f"it was begun with another model ({what})")
    if not fingerprint.near(old["answer"], new["answer"]):
        _refuse(folder, "it was begun with another model (other answers)")


def _refuse(folder: Folder, why: str) -> None:
    raise ValueError(
        f"{folder.name}={str(folder.path)!r} is another run's: {why}; expected the same call, or "
        "another folder"
    )


def plan_of(manifest: Mapping[str, Any]) -> Plan:
    """The plan in a manifest."""
    return Plan(loads(json.dumps(manifest["plan"])))


def solving(folder: Folder, wanted: Wanted | None = None) -> dict[str, Any]:
    """The arguments of :func:`~flowsolve.solve` that make a folder's samples: the plan in its
    manifest, so that another version makes the same; else what was ``wanted``, as the manifest has
    it if nobody says."""
    manifest = folder.manifest
    noise = {"noise": manifest["noise"]} if manifest["noise"] else {}
    if manifest["plan"] is not None:
        return {"solver": plan_of(manifest), **noise}
    asked = wanted or Wanted(*(manifest[name] for name in Wanted._fields))
    how = {"solver": asked.solver, "nfe": asked.nfe, "grid": asked.grid}
    return {**how, **asked.options, **noise}
