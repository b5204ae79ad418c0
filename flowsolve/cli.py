"""The command line: ``flowsolve sample``, ``flowsolve compare``, ``flowsolve train``, ``flowsolve solvers``.

Exit status: 0 done, 1 failed while running, 2 asked for something that does not exist, 130 interrupted (with what was
finished on disk). Heavy imports happen inside the commands, so ``--help`` comes at once.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import arguments as shared
from . import cli_compare
from .arguments import Usage

if TYPE_CHECKING:
    from torch import Tensor

    from .denoiser import Denoiser

INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Usage(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; ``argv`` without the program's name. Returns the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the table has Greek letters, the terminal may not
    try:
        arguments = _parser().parse_args(argv)
        status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except Usage as error:
        return _complain(error, 2)
    except KeyboardInterrupt:
        print("flowsolve: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has had enough. Python would complain once more when it flushes stdout on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ImportError as error:
        return _complain(f"{error.name} is not installed: pip install 'flowsolve[run]'" if error.name in ("PIL", "tqdm") else error, 1)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        return _complain(error, 1)


def _complain(error: object, status: int) -> int:
    print("flowsolve: error: " + " ".join(str(error).split()), file=sys.stderr)
    return status


def _sample(arguments: argparse.Namespace) -> int:
    options = dict(arguments.option)
    if arguments.eta is not None:
        options["eta"] = arguments.eta
    import torch

    import flowsolve

    from . import pictures

    model = shared.model(arguments)
    output = shared.picture_file(arguments.output, "samples.png", model.shape, "--save-tensor")
    if arguments.save_tensor:
        shared.check_file(arguments.save_tensor, pictures.TENSORS)
    elif output is None:
        raise Usage(f"samples of shape {model.shape} are not pictures: say where the numbers go, with --save-tensor")
    try:
        flowsolve.solvers.resolve(arguments.solver, options)
        flowsolve.grids.resolve(arguments.grid, model.process)
    except (TypeError, ValueError) as error:
        raise Usage(error) from error
    which = arguments.model or ("any digit" if arguments.label is None else f"the digit {arguments.label}")
    budget = "" if arguments.nfe is None else f", at most {arguments.nfe} evaluations"
    shared.say(arguments, f"sampling {arguments.n} of {which} with {arguments.solver}{budget}, seed {arguments.seed}")
    begin = time.perf_counter()
    parts, spent, interrupted = _run(model, arguments, options)
    seconds = time.perf_counter() - begin
    if not parts:
        print("flowsolve: interrupted before the first batch was finished; nothing was written", file=sys.stderr)
        return INTERRUPTED
    x = torch.cat(parts)
    evaluations = f"{spent[0]}" if len(set(spent)) == 1 else f"{min(spent)} to {max(spent)}"
    facts = {"solver": arguments.solver, "evaluations": evaluations, "seed": arguments.seed, **options}
    if arguments.save_tensor:
        pictures.save_tensor(arguments.save_tensor, x)
    if output:
        pictures.save_sheet(output, x, facts)
    files = " and ".join(str(file) for file in (output, arguments.save_tensor) if file)
    line = f"{arguments.solver}, {evaluations} evaluations, {len(x)} samples, {seconds:.2f} s, {files}"
    if interrupted:
        print(f"flowsolve: interrupted after {len(x)} of {arguments.n} samples, which were written: {line}", file=sys.stderr)
        return INTERRUPTED
    shared.say(arguments, line)
    return 0


def _run(model: Denoiser, arguments: argparse.Namespace, options: dict[str, Any]) -> tuple[list[Tensor], list[int], bool]:
    """The batches that were finished, what each cost, and whether the user stopped it there."""
    import flowsolve

    parts: list[Tensor] = []
    spent: list[int] = []
    bar = _Bar(arguments)
    wanted: dict[str, Any] = {key: getattr(arguments, key) for key in ("solver", "nfe", "grid", "seed")} | options
    try:
        for i in range(0, arguments.n, arguments.batch_size):
            n = min(arguments.batch_size, arguments.n - i)
            solution = flowsolve.solve(model, n=n, first=i, callback=bar.step, **wanted)
            parts.append(solution.x)
            spent.append(solution.nfe)
            bar.finished(n)
    except KeyboardInterrupt:
        return parts, spent, True
    except (TypeError, ValueError) as error:
        if bar.moved or isinstance(error, flowsolve.NonFiniteError):
            raise
        raise Usage(error) from error  # before the first step: the arguments were at fault
    finally:
        bar.close()
    return parts, spent, False


class _Bar:
    """Progress in samples, a batch's share growing with its evaluations; shown on a terminal unless told otherwise."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.bar, self.moved, self.done, self.nfe = None, False, 0, arguments.nfe or 20
        if shared.wants_bar(arguments):
            from tqdm import tqdm

            self.bar = tqdm(total=arguments.n, unit="sample", leave=False, file=sys.stderr)

    def step(self, state: Any) -> None:
        self.moved = True
        self._show(self.done + int(len(state.x) * min(1.0, state.nfe / self.nfe)))

    def finished(self, n: int) -> None:
        self.done += n
        self._show(self.done)

    def _show(self, samples: int) -> None:
        if self.bar is not None:
            self.bar.update(samples - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _train(arguments: argparse.Namespace) -> int:
    import torch

    from .models import digits

    torch.set_num_threads(1)
    if arguments.seconds is not None and arguments.steps is not None:
        raise Usage("--seconds and --steps cannot be combined: give one of the two")
    try:
        recipe = digits.recipe(arguments.process or "cosine")
    except ValueError as error:
        raise Usage(error) from error
    out = arguments.out or Path("runs", Path(recipe.file).stem)
    given: dict[str, Any] = {key: value for key in ("process", "seconds", "steps") if (value := getattr(arguments, key)) is not None}
    result = digits.train_digits(out, **given, seed=arguments.seed, resume=not arguments.fresh, progress=not arguments.quiet)
    shared.say(arguments, f"{result['steps']} steps, {result['seconds']:.0f} s, loss {result['loss']:.4f}, weights in {result['weights']}")
    return 0


def _solvers(arguments: argparse.Namespace) -> int:
    import flowsolve

    table = flowsolve.solvers.table()
    if not arguments.json:
        print(table)
        return 0
    import json

    from .solvers.zoo import options_of

    def facts(row: Any) -> dict[str, Any]:
        solver = {"order": row.solver.order, "evaluations": row.solver.evaluations, "options": options_of(row.solver)}
        return {"name": row.name, "aliases": list(row.aliases), "family": row.family, **solver, "source": row.source}

    rows = [facts(row) for row in table]
    print(json.dumps(rows, indent=2))
    return 0


_EXAMPLES = """\
examples:
  flowsolve sample --solver ddim --nfe 20 -o samples.png
  flowsolve sample --solver ab2 --nfe 10 --grid karras --label 3 -o threes.png
  flowsolve sample --solver ddim --eta 1 --nfe 100 --seed 7 --save-tensor samples.npz
  flowsolve sample --solver dopri5 --option rtol=1e-3 --option atol=1e-3
  flowsolve sample --model mine.py:denoiser --save-tensor mine.npz
  flowsolve compare --solvers ddim,heun,ab3 --nfe 5,8,10,20 -o compare.png
  flowsolve sample --process cld --solver unipc3 --nfe 20
  flowsolve train --seconds 60 --out runs/digits
  flowsolve solvers
"""


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    def command(name: str, run: Any, text: str, epilog: str | None = None) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=epilog, formatter_class=plain)
        sub.set_defaults(run=run)
        return sub

    plain = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="flowsolve", description="Sample from diffusion and flow models.", epilog=_EXAMPLES, formatter_class=plain)
    parser.add_argument("--version", action="version", version=f"flowsolve {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")

    sample = command("sample", _sample, "draw samples into a picture: digits from the shipped model, or from your own", _EXAMPLES)
    add = sample.add_argument
    add("-o", "--output", type=Path, metavar="FILE", help="the picture (default: samples.png, if the samples are pictures)")
    add("--solver", default="ddim", metavar="NAME", help="one of `flowsolve solvers` (default: ddim)")
    add("--nfe", type=shared.positive, metavar="N", help="at most N evaluations of the network (default: 20; none for adaptive solvers)")
    add("-n", "--n", type=shared.positive, default=64, metavar="N", help="how many samples (default: 64)")
    add("--seed", type=shared.seed, default=0, metavar="S", help="sample number i depends on S and i alone (default: 0)")
    add("--grid", metavar="NAME", help="where the noise levels lie: uniform, karras, logsnr, ... (default: the process's own)")
    add("--eta", type=float, metavar="E", help="noise of the DDIM family: 0 deterministic, 1 DDPM")
    add("--option", type=shared.option, action="append", default=[], metavar="KEY=VALUE", help="any option of the solver; may be repeated")
    add(
        "--batch-size",
        type=shared.positive,
        default=64,
        metavar="B",
        help="samples at a time; Ctrl-C keeps the finished ones (default: 64)",
    )
    add("--save-tensor", type=Path, metavar="FILE", help="also write the samples as numbers: .pt, .npy or .npz")
    shared.add_model(add)
    shared.add_saying(add)

    compare = command("compare", cli_compare.run, "compare solvers from the same starts", cli_compare.EXAMPLES)
    cli_compare.add_arguments(compare.add_argument)

    train = command("train", _train, "train a digits model again")
    add = train.add_argument
    add("--process", metavar="NAME", help="which one: cosine, cld or blurring (default: cosine)")
    add("--out", type=Path, metavar="DIR", help="where weights and state go (default: runs/digits, runs/digits_cld, ...)")
    add("--seconds", type=shared.seconds, metavar="S", help="train for about S seconds")
    add("--steps", type=shared.positive, metavar="N", help="train for N steps")
    add("--seed", type=shared.seed, default=0, metavar="S", help="the run's seed (default: 0)")
    add("--fresh", action="store_true", help="start again, even if DIR holds an unfinished run")
    add("-q", "--quiet", action="store_true", help="say nothing unless it fails")

    table = command("solvers", _solvers, "print the table of solvers")
    table.add_argument("--json", action="store_true", help="as JSON")
    return parser
