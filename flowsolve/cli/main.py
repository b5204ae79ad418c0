"""The command line: ``flowsolve sample`` and the other :data:`COMMANDS`.

Exit status: 0 done, 1 failed while running, 2 asked for something that does not exist, 130
interrupted (143 and 129 by SIGTERM and SIGHUP), with what was finished on disk; 141 if nobody reads
what is said. Heavy imports happen inside the commands, so ``--help`` comes at once.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from . import (
    compare,
    encode,
    generate,
    inpaint,
    interpolate,
    likelihood,
    sample,
    solvers,
    train,
    tune,
)
from .model import Foreign
from .options import Usage
from .streams import signals, status_of, streams

COMMANDS = {
    "sample": sample,
    "generate": generate,
    "compare": compare,
    "encode": encode,
    "interpolate": interpolate,
    "likelihood": likelihood,
    "inpaint": inpaint,
    "train": train,
    "tune": tune,
    "solvers": solvers,
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Usage(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; ``argv`` without the program's name. Returns the exit status."""
    with streams() as out:
        try:
            with signals():
                status = _run(argv)
        except KeyboardInterrupt as interrupt:
            print("flowsolve: interrupted", file=sys.stderr)
            status = status_of(interrupt)
        out.flush()
        if status != 0 or out.failed is None:
            return status
        if isinstance(out.failed, BrokenPipeError):
            return 141  # whoever read us has had enough
        return _complain(f"stdout: {out.failed}", 1)


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = _parser().parse_args(argv)
    except Usage as error:
        return _complain(error, 2)
    try:
        return arguments.run(arguments)
    except Usage as error:
        return _complain(error, 2)
    except Foreign as error:
        traceback.print_exception(type(error.cause), error.cause, error.where, file=sys.stderr)
        return _complain(error, 1)
    except SystemExit as error:
        return _complain(f"the model's code called exit({error.code!r})", 1)
    except ImportError as error:
        return _complain(
            f"{error.name} is not installed: pip install 'flowsolve[run]'"
            if error.name in ("PIL", "tqdm")
            else error,
            1,
        )
    except MemoryError as error:
        return _complain(f"not enough memory: {error}; fewer samples at a time need less", 1)
    except (ArithmeticError, OSError, RuntimeError, TypeError, ValueError) as error:
        return _complain(error, 1)


def _complain(error: object, status: int) -> int:
    print("flowsolve: error: " + " ".join(str(error).split()), file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="flowsolve",
        description="Sample from diffusion and flow models.",
        epilog=sample.EXAMPLES,
        formatter_class=plain,
    )
    parser.add_argument("--version", action="version", version=f"flowsolve {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, dest="command"
    )
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=command.HELP,
            description=command.HELP[0].upper() + command.HELP[1:] + ".",
            epilog=command.EXAMPLES,
            formatter_class=plain,
        )
        command.add_arguments(sub.add_argument)
        sub.set_defaults(run=command.run)
    return parser
