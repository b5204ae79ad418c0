"""The command line: ``flowsolve sample``, ``flowsolve compare``, ``flowsolve train``, ``flowsolve
solvers``.

Exit status: 0 done, 1 failed while running, 2 asked for something that does not exist, 130
interrupted (with what was finished on disk). Heavy imports happen inside the commands, so
``--help`` comes at once.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from . import compare, sample, solvers, train
from .options import INTERRUPTED, Usage

COMMANDS = {"sample": sample, "compare": compare, "train": train, "solvers": solvers}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Usage(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; ``argv`` without the program's name. Returns the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The table has Greek letters, the terminal may not.
        sys.stdout.reconfigure(errors="replace")
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
        # Whoever read us has had enough. Python would complain once more when it flushes stdout on
        # the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ImportError as error:
        return _complain(
            f"{error.name} is not installed: pip install 'flowsolve[run]'"
            if error.name in ("PIL", "tqdm")
            else error,
            1,
        )
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
