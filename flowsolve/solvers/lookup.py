"""From what a user writes to a solver: a name, a name from elsewhere, "auto", an object,
options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from ..about import NOTHING, About
from ..checked import Count, checked
from ..errors import closest, unknown
from ..grids import Grid
from ..processes import Process
from ..readers import Later
from . import aliases
from .auto import auto
from .base import Solver
from .zoo import by_name, options_of, solver_table

#: Evaluations of a fixed-step solver when neither nfe nor an explicit grid says otherwise.
DEFAULT_NFE = 20


@checked
def find_solver(
    solver: Annotated[Solver | str, Later("find_solver")],
    options: Mapping[str, Any] | None = None,
    nfe: Count = DEFAULT_NFE,
    process: Process | None = None,
    arguments: Sequence[str] = (),
    about: About = NOTHING,
) -> tuple[Solver, Grid | str | None]:
    """The solver meant by a name, with ``nfe`` evaluations on ``process`` (None: a scalar one), or
    by an object, with ``options`` set on it; and the grid if the name stands for both.
    ``arguments`` are what the caller's function has besides options, for who misspelt one;
    ``about`` is what is known of the data, for "auto".

    Returns:
        The solver, and the grid that the name stands for, None if it stands for none.

    Raises:
        ValueError: for an unknown name, or an option's value out of range.
        TypeError: for an option the solver does not have, or something that is no solver.

    Examples:
        >>> flowsolve.solvers.find_solver("ddim", {"eta": 0.5})
        (DDIM(eta=0.5, large=False, coordinates=NOISE), None)
        >>> flowsolve.solvers.find_solver("DPM++ 2M Karras")[1]
        'karras'
    """
    found, grid = _named(solver, nfe, process, about) if isinstance(solver, str) else (solver, None)
    if not isinstance(found, Solver):
        raise TypeError(
            f"solver={found!r}: expected a name such as 'ddim' or a flowsolve.solvers object"
        )
    own = vars(type(found))
    if "__init__" in own and "__dataclass_fields__" not in own:
        raise TypeError(
            f"solver={found!r}: its class has an __init__ of its own, so that solvers with other "
            "options would be taken for equal; expected a frozen dataclass"
        )
    if not options:
        return found, grid
    known = [f.name for f in dataclasses.fields(found)]
    for key in options:
        if key not in known:
            choices = [*(options_of(found) or known or ["(none)"])]
            if closest(key, choices, 0.75) is None and closest(key, arguments, 0.75) is not None:
                raise TypeError(unknown("argument", key, arguments))
            owner = f" (an option of {type(found).__name__})"
            if arguments:
                owner = f"{owner[:-1]}; arguments are {', '.join(arguments)})"
            raise TypeError(unknown("option", key, choices) + owner)
    return dataclasses.replace(found, **options), grid


def _named(
    name: str, nfe: int, process: Process | None, about: About
) -> tuple[Solver, Grid | str | None]:
    known = by_name()
    name = name if name in known else name.removeprefix("sample_")  # k-diffusion's functions
    if name in known:
        return known[name], None
    if name == "auto":
        return auto(nfe, process, about, known)
    elsewhere = aliases.known(name)
    if elsewhere is None:
        pairs = (f"{label} {word}" for label in aliases.LABELS for word in aliases.SCHEDULES)
        choices = ["auto", *known, *aliases.LABELS, *aliases.CLASSES, *aliases.FUNCTIONS]
        raise ValueError(unknown("solver", name, choices, pairs))
    meant, on = elsewhere
    return (known[meant] if isinstance(meant, str) else meant), on


@checked
def name_of(solver: Solver) -> str | None:
    """The name of a solver in the table, None if it is not there.

    Examples:
        >>> flowsolve.solvers.name_of(flowsolve.solvers.DDIM(eta=1.0))
        'ddpm'
    """
    return next((row.name for row in solver_table() if row.solver == solver), None)
