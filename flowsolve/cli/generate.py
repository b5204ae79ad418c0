"""``flowsolve generate``: many samples, into a folder, by any number of processes."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options
from .model import add_guidance, add_model, guided_model, running
from .options import Usage

if TYPE_CHECKING:
    from ..bulk.folder import Folder
    from ..denoiser import Denoiser

HELP = "fill a folder with many samples, by any number of processes"
EXAMPLES = """\
examples:
  flowsolve generate -n 50000 --out samples/ --nfe 10
  flowsolve generate --resume samples/
  flowsolve generate --verify samples/
  flowsolve generate --model mine.py:model -n 50000 --workers 2 --out mine/
  flowsolve generate --conditions classes.csv --format png --out pictures/
  torchrun --nproc-per-node 4 -m flowsolve generate --model mine.py:model -n 50000 --out mine/
"""
#: What the manifest keeps of a command, for --resume and --verify.
MODEL = ("model", "process", "label", "weights", "device", "guidance", "conditions")


def add_arguments(add: Callable[..., Any]) -> None:
    """The arguments of the command."""
    add(
        "-n",
        "--n",
        type=options.positive,
        metavar="N",
        help="how many samples (default: as many as --conditions has rows)",
    )
    add(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where they go; the same command again goes on (default: samples)",
    )
    add(
        "--resume",
        type=Path,
        metavar="FOLDER",
        help="go on with a folder, as its manifest says; another --model, --device, --weights or "
        "--conditions says where the same one is now",
    )
    add(
        "--verify",
        type=Path,
        metavar="FOLDER",
        help="compare the checksums of a folder's files, make some of its samples again",
    )
    add("--solver", default="auto", metavar="NAME", help="one of `flowsolve solvers`, or auto")
    add("--nfe", type=options.positive, metavar="N", help="evaluations at most (default: 20)")
    add("--grid", metavar="NAME", help="where the noise levels lie (default: the solver's own)")
    options.add_option(add)
    options.add_seed(add, "sample number i depends on S and i alone")
    add("--first", type=int, default=0, metavar="I", help="number of the first (default: 0)")
    add(
        "--conditions",
        metavar="FILE",
        help="what the network is told, a row for each sample: .csv, .parquet, .npz or .npy",
    )
    add("--batch-size", type=options.positive, default=64, metavar="B", help="default: 64")
    add(
        "--shard",
        type=options.positive,
        metavar="N",
        help="samples in a file (default: 1024, or what 64 MiB hold)",
    )
    add("--format", choices=("safetensors", "png", "zarr"), default="safetensors")
    add("--workers", type=options.positive, metavar="N", help="processes on this machine")
    add("--ray", action="store_true", help="let Ray start the workers, on its cluster")
    add("--capture", action="store_true", help="play each batch's run as one CUDA graph")
    add_guidance(add)
    add_model(add)
    options.add_saying(add)


def run(arguments: argparse.Namespace) -> int:
    """Generate, go on, or verify."""
    given = [f"--{name}" for name in ("out", "resume", "verify") if getattr(arguments, name)]
    if len(given) > 1:
        raise Usage(f"{given[0]} and {given[1]} cannot be combined: each names the folder")
    if arguments.verify is not None:
        return _verify(arguments)
    arguments.out = arguments.out or Path("samples")
    if arguments.resume is not None:
        _recalled(arguments, arguments.resume)
        arguments.out = arguments.resume
    from ..bulk.generating import fill
    from ..bulk.settings import Wanted

    command = {name: _plain(getattr(arguments, name)) for name in MODEL}
    wanted = Wanted(
        n=arguments.n,
        solver=arguments.solver,
        nfe=arguments.nfe,
        grid=arguments.grid,
        seed=arguments.seed,
        first=arguments.first,
        batch_size=arguments.batch_size,
        shard=arguments.shard,
        files=arguments.format,
        noise=None,
        options=dict(arguments.option),
        command=command,
    )
    first_of_all = os.environ.get("RANK", "0") == "0"
    how = {name: getattr(arguments, name) for name in ("workers", "ray", "capture")}
    how["progress"] = options.wants_bar(arguments) and first_of_all
    begin = time.perf_counter()
    try:
        found = _asked(fill, _model(arguments), arguments.out, arguments.conditions, wanted, **how)
    except BaseException:
        line = _left(arguments.out)
        if line:
            print(f"flowsolve: {line}", file=sys.stderr)
        raise
    seconds = time.perf_counter() - begin
    if first_of_all:
        of = "" if found.done == found.n else f" of {found.n}"
        options.say(arguments, f"{found.done}{of} samples in {found.folder}, {seconds:.2f} s")
    return 0


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _asked(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """What a function of flowsolve returns; what it refuses is a usage error, and what the model's
    code raised, here or in another process, the model's."""
    from ..bulk.engines import Remote
    from ..finite import NonFiniteError

    try:
        with running():
            return function(*args, **named)
    except Exception as error:
        if isinstance(error.__cause__, Remote) and error.__cause__.abroad:
            print(error.__cause__, file=sys.stderr)
            said = f"the model's code raised {type(error).__name__}: {error}"
            raise RuntimeError(said) from None
        refused = isinstance(error, (TypeError, ValueError, FileNotFoundError))
        if refused and not isinstance(error, NonFiniteError):
            raise Usage(error) from error
        raise


def _model(arguments: argparse.Namespace) -> Callable[[], Denoiser]:
    """What makes the model, in whatever process."""
    kept = argparse.Namespace(**{name: getattr(arguments, name) for name in MODEL})
    return partial(guided_model, kept)


def _left(path: Path) -> str:
    """What there is of a folder that was not finished."""
    from ..bulk.folder import Folder

    try:
        folder = Folder(path)
    except (OSError, ValueError):
        return ""
    done = folder.samples(folder.done())
    return f"{done} of {folder.n} samples are in {path}; flowsolve generate --resume {path} goes on"


def _recalled(arguments: argparse.Namespace, path: Path) -> Folder:
    """The folder, and of its manifest the arguments that were not given."""
    from ..bulk.folder import Folder
    from ..bulk.settings import solving

    try:
        folder = Folder(path)
    except (FileNotFoundError, ValueError) as error:
        raise Usage(error) from error
    manifest, command = folder.manifest, folder.manifest["command"]
    if command is None:
        raise Usage(
            f"{str(path)!r} was begun by a call in Python: expected the same call again, or "
            "flowsolve.bulk.verify"
        )
    for name in ("n", "first", "seed", "shard", "batch_size"):
        setattr(arguments, name, manifest[name])
    how = solving(folder)
    for name in ("solver", "nfe", "grid"):
        setattr(arguments, name, how.pop(name, None))
    arguments.format, arguments.option = manifest["files"], [*how.items()]
    for name in MODEL:
        if getattr(arguments, name) is None:
            value = command[name]
            setattr(arguments, name, Path(value) if name == "weights" and value else value)
    return folder


def _verify(arguments: argparse.Namespace) -> int:
    from ..bulk import verify

    _recalled(arguments, arguments.verify)
    found = _asked(verify, arguments.verify, _model(arguments))
    for k, damage in found.damaged.items():
        print(f"flowsolve: shard {k}: {damage}", file=sys.stderr)
    if found.missing:
        print(f"flowsolve: {len(found.missing)} shards are missing", file=sys.stderr)
    good = found.shards - len(found.missing) - len(found.damaged)
    options.say(
        arguments,
        f"{good} of {found.shards} shards as they were written; {found.samples} samples made again,"
        f" largest difference {found.largest:.2g} (an entry is {found.scale:.2g})",
    )
    return 0 if found.whole else 1
