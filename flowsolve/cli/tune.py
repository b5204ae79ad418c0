"""``flowsolve tune``: plans fitted to a model, a file for each number of evaluations."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options
from .model import add_model, load_model, running
from .options import Usage

if TYPE_CHECKING:
    from ..plans import Tuned

HELP = "fit plans to a model"
EXAMPLES = """\
examples:
  flowsolve tune --nfe 4,6,8,12 -o plans/
  flowsolve tune --model mine.py:denoiser --nfe 8 --effort search -o plans/
  flowsolve sample --solver plans/ --nfe 8
"""


def add_arguments(add: Callable[..., Any]) -> None:
    """The arguments of the command."""
    add(
        "-o",
        "--output",
        type=Path,
        default=Path("plans"),
        metavar="FOLDER",
        help="where the files go: nfe8.json, ..., tuned.json and tuned.png (default: plans)",
    )
    add(
        "--nfe",
        type=options.budgets,
        default=(4, 6, 8, 12),
        metavar="N,M,...",
        help="the numbers of evaluations (default: 4,6,8,12)",
    )
    add(
        "--effort",
        choices=("full", "search"),
        default="full",
        help="search: without the fit, for networks that are dear (default: full)",
    )
    add(
        "-n",
        "--n",
        type=options.positive,
        metavar="N",
        help="starts, at least 8 (default: 96, 16 for a search)",
    )
    add("--batch-size", type=options.positive, metavar="N", help="samples in one network call")
    options.add_seed(add, "of the starts")
    add_model(add)
    options.add_saying(add)


def run(arguments: argparse.Namespace) -> int:
    """Fit the plans one after another; each is written when it is there."""
    import flowsolve

    from ..tuning.tune import LEAST

    model, folder = load_model(arguments), arguments.output
    if not model.process.scalar:
        raise Usage(f"A and R of {model.process!r} are matrices, and a fit needs numbers")
    if arguments.n is not None and arguments.n < LEAST:
        raise Usage(f"--n {arguments.n}: expected {LEAST} starts at least")
    if max(arguments.nfe) > 100:
        raise Usage(f"--nfe {max(arguments.nfe)}: expected at most 100")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Usage(f"--output {str(folder)!r}: {error.strerror}") from error
    options.check_file(folder / "tuned.json", (".json",))
    found: list[Tuned] = []
    wanted: dict[str, Any] = {"effort": arguments.effort, "n": arguments.n, "seed": arguments.seed}
    wanted |= {"batch_size": arguments.batch_size, "progress": options.wants_bar(arguments)}
    try:
        for nfe in sorted(arguments.nfe):
            with running():
                tuned = flowsolve.tune(model, nfe, **wanted)
            found.append(tuned)
            tuned.save(folder / f"nfe{nfe}.json")
            options.say(arguments, f"{tuned}\n")
            if tuned.interrupted:
                raise tuned.interrupted
    finally:
        if found:
            options.say(arguments, f"{len(found)} plans in {folder}{_write(folder, found)}")
    return 0


def _write(folder: Path, found: list[Tuned]) -> str:
    from ..output import write
    from ..tuning import plot

    said = {
        str(each.nfe): {
            "from": each.name,
            "error": each.error._asdict(),
            "auto": each.auto_error._asdict(),
            "held_back": each.held_back,
            "evaluations": each.evaluations,
            "seconds": round(each.seconds, 3),
        }
        for each in found
    }
    text = json.dumps(said, indent=1) + "\n"
    write(folder / "tuned.json", lambda file: file.write(text.encode()))
    try:
        plot(found, folder / "tuned.png")
    except ImportError:  # the plans are there all the same
        return ""
    return f", and {folder / 'tuned.png'}"
