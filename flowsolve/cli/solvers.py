"""``flowsolve solvers``: the table of solvers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

HELP = "print the table of solvers"
EXAMPLES = None


def add_arguments(add: Callable[..., Any]) -> None:
    """The arguments of the command."""
    add("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    from ..solvers import options_of, solver_table

    table = solver_table()
    if not arguments.json:
        print(table)
        return 0

    def facts(row: Any) -> dict[str, Any]:
        solver = {
            "order": row.solver.order,
            "evaluations": row.solver.evaluations,
            "options": options_of(row.solver),
        }
        return {
            "name": row.name,
            "aliases": list(row.aliases),
            "family": row.family,
            **solver,
            "source": row.source,
        }

    rows = [facts(row) for row in table]
    print(json.dumps(rows, indent=2))
    return 0
