"""Every public callable with every argument odd, one at a time: what is answered?

A call is a line of Python. :func:`calls` makes them all: the public callables are found by
importing, their arguments by their signatures; :data:`ARGUMENTS` has a good value for each name,
:data:`ODD` the odd ones, each with what it may pass for. :func:`judge` makes the call and says what
came of it. It is right to return a finite result, the plain value's where another spelling of it
was given, and to raise flowsolve's own ValueError or TypeError that names the argument; all else is
in :data:`BAD`, as is taking what no reading of the annotation allows.

``python tests/fuzzing.py [--sample N] [--seed N] [WORD]`` prints what was tried, callable by
callable, and a line for each bad answer; ``python tests/fuzzing.py --call 'LINE'`` makes one call.
"""

from __future__ import annotations

import argparse
import collections.abc
import contextlib
import dataclasses
import dis
import functools
import inspect
import io
import os
import random
import re
import signal
import sys
import threading
import time
import traceback
import types
import typing
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jaxtyping
import numpy as np
import odd
import torch
from odd import (
    ALWAYS,
    ARGUMENTS,
    CONTRADICTIONS,
    DAMAGED,
    MODULES,
    NOT_CALLED,
    NOT_THESE,
    ODD,
    RECEIVERS,
    SPECIAL,
    TURNED,
    USES,
)
from torch import Tensor

import flowsolve
from flowsolve import Denoiser, grids, processes, solvers
from flowsolve.errors import Unsuited

HOME = str(Path(flowsolve.__file__).parent)
#: A call may take so much of a processor's time, in seconds.
LIMIT = 5.0


#: Free text, in an annotation that says str.
FREE_TEXT = {"path", "out", "checkpoint", "weights", "name", "source"}
#: Finite or not.
ENDLESS = {"seconds", "sigma", "value", "t"}
#: Words that say the same as an argument's name.
SYNONYMS = {
    "net": "network", "rows": "row solver name family source", "each": "level", "solvers": "solver",
    "level": "t", "value": "sigma lambda flow_time t", "s": "level t", "t": "level",
    "levels": "level t", "x": "among y", "x0": "eps", "out": "network", "options": "option",
    "model": "x0 start data",
}  # fmt: skip


# Calls. ------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """A line to be run, and what is asked of it."""

    label: str
    argument: str
    given: str
    line: str
    #: A line that has the same result; empty where there is none.
    plain: str = ""
    #: Whether a result may be right.
    may: bool = True

    def __str__(self) -> str:
        return f"python tests/fuzzing.py --call {self.line!r}"


def evaluate(line: str) -> Any:
    return eval(line, vars(odd))


def called(value: Any) -> bool:
    """Whether it is a function, or a class that has instances."""
    return inspect.isfunction(value) or (inspect.isclass(value) and not inspect.isabstract(value))


@functools.cache
def public() -> dict[str, Any]:
    """The public callables that are called here, by the expression that is called."""
    found: dict[str, Any] = {}
    seen: set[Any] = set()
    for where, module in MODULES.items():
        own = [n for n, v in vars(module).items() if getattr(v, "__module__", 0) == module.__name__]
        for name in getattr(module, "__all__", own):
            value = getattr(module, name)
            if name[0] == "_" or name in NOT_CALLED or id(value) in seen or not called(value):
                continue
            if f"{where}.{name}" in NOT_THESE:
                continue
            if inspect.signature(value).parameters:
                seen.add(id(value))
                found[f"{where}.{name}"] = value
    for receiver in RECEIVERS:
        of = evaluate(receiver)
        for name in dir(type(of)):
            if (name[0] == "_" and name != "__call__") or name in NOT_CALLED:
                continue
            member = inspect.getattr_static(type(of), name)
            if not callable(getattr(member, "__func__", member)) or inspect.isclass(member):
                continue
            method = getattr(of, name)
            if inspect.signature(method).parameters:
                found[f"{receiver}.{name}"] = method
    return found


def arguments(label: str, function: Any) -> tuple[dict[str, str], dict[str, inspect.Parameter]]:
    """The good arguments of a callable's base call, and all its parameters."""
    parameters = {
        name: each
        for name, each in inspect.signature(function).parameters.items()
        if each.kind is not each.VAR_KEYWORD
    }
    needed = [name for name, each in parameters.items() if each.default is each.empty]
    return {name: good(label, name) for name in (*needed, *ALWAYS.get(label, ()))}, parameters


def good_call(label: str) -> str:
    """The line that a callable's odd values are put into."""
    function = public()[label]
    return written(label, function, arguments(label, function)[0])


def good(label: str, name: str) -> str:
    """A good value for an argument, empty where none is written down."""
    method = re.sub(r"^.*\)\.|^(TABLE|LAW|MIXTURE)\.", "VP.", label)
    for key in (label, method):
        if name in SPECIAL.get(key, {}):
            return SPECIAL[key][name]
    if name in ("x", "x0", "eps") and "Blurring(4)" in label:
        return "torch.linspace(-1, 1, 32).view(2, 4, 4)"
    if name in ("level", "s", "t", "levels") and re.match(r"(processes|flowsolve)\.|TABLE", label):
        of = label.rpartition(".")[0]
        if of not in MODULES:
            return f"{of}.level({'10' if of == 'TABLE' else '0.4' if name == 't' else '0.5'})"
    return ARGUMENTS.get(name, "")


def written(label: str, function: Any, given: dict[str, str]) -> str:
    """A call as a line."""
    name = "add" if label == "solvers.add" else label.removesuffix(".__call__")
    parameters = inspect.signature(function).parameters
    var = [n for n, each in parameters.items() if each.kind is each.VAR_POSITIONAL]
    inside = [f"{'' if n in var else n + '='}{value}" for n, value in given.items()]
    return f"{name}({', '.join(inside)})"


def passes_for(label: str, name: str, hint: Any) -> set[str]:
    """What values of an annotation are: words of :data:`ODD`."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        endless = any(getattr(must, "infinite", False) for must in parts[1:])
        return passes_for(label, name, parts[0]) | ({"infinite"} if endless else set())
    if origin in (typing.Union, types.UnionType):
        return set().union(*(passes_for(label, name, part) for part in parts))
    if origin is typing.Literal:
        return set()
    if hint in (Any, object, inspect.Parameter.empty) or isinstance(hint, (str, typing.TypeVar)):
        return {"any"}
    kind = origin or hint
    if kind is float:
        return {"number", "infinite"} if name in ENDLESS else {"number"}
    simple = {int: "integer", bool: "flag", type(None): "none", torch.dtype: "dtype"}
    if kind in simple:
        return {simple[kind]}
    if kind in (str, Path, os.PathLike):
        return {"text"} if name in FREE_TEXT or kind is not str else set()
    if kind is torch.device:
        return {"device"}
    if not isinstance(kind, type):
        return {"any"}
    if issubclass(kind, (Tensor, jaxtyping.AbstractArray)):
        return {"tensor", "array"}
    if kind is Denoiser:
        return {"model"}
    if kind is processes.Process:
        return {"process"}
    if kind is collections.abc.Callable:
        return {"function"}
    if issubclass(kind, collections.abc.Mapping):
        return {"mapping"}
    if issubclass(kind, (tuple, list, collections.abc.Iterable)) and origin is not None:
        return {"sequence", "array", *({"text"} if str in parts and name == "keep" else ())}
    return set()


def holds(hint: Any, value: Any) -> bool:
    """Whether a number is in the range that an annotation declares."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(holds(part, value) for part in typing.get_args(hint))
    tests = [must.test for must in getattr(hint, "__metadata__", ()) if hasattr(must, "test")]
    return all(test(value) for test in tests)


def hints(function: Any) -> dict[str, Any]:
    """Annotations as objects, of functions and of classes' constructors."""
    known = {"Solver": solvers.Solver, "Self": Any}
    of = inspect.unwrap(getattr(function, "__func__", function))
    if inspect.isclass(function):
        init = inspect.unwrap(function.__init__)
        made = getattr(init, "__code__", None)  # by a person, not by dataclass or NamedTuple
        of = init if made and made.co_filename != "<string>" else function
    elif not inspect.isroutine(function):
        of = inspect.unwrap(type(function).__call__)
    return typing.get_type_hints(of, None, known, include_extras=True)


def may_be(label: str, name: str, hint: Any, given: str, passes: str) -> bool:
    """Whether an odd value may be right, as far as the argument's annotation says."""
    kinds, words = passes_for(label, name, hint), passes.split()
    if not kinds & {*words, "any"}:
        return False
    if "number" in words and not kinds & {"any", "tensor", "sequence", "array"}:
        value = evaluate(given)
        return holds(hint, value.item() if hasattr(value, "item") else value)
    return True


def calls() -> list[Call]:
    """All of them."""
    return [*each_argument(), *options(), *misspelt(), *contradictory()]


def each_argument() -> Iterator[Call]:
    """Every argument of every public callable."""
    for label, function in public().items():
        base, parameters = arguments(label, function)
        known = hints(function)
        for name in parameters:
            here = good(label, name)
            plain = written(label, function, base | {name: here}) if here else ""
            callback = "function" in passes_for(label, name, known.get(name, Any))
            for given, passes, same in odd_values(here, callback):
                if given in odd.LONG.get(f"{label} {name}", ()):
                    continue
                line = written(label, function, base | {name: given})
                may = passes is None or may_be(label, name, known.get(name, Any), given, passes)
                yield Call(label, name, given, line, plain if same else "", may)


def odd_values(here: str, takes_functions: bool) -> Iterator[tuple[str, str | None, bool]]:
    """Odd values in the place of a good one: each with what it passes for (None: who knows), and
    whether it is the same value."""
    for given, passes in ODD.items():
        if not (given == "MODEL" and takes_functions):  # it may be called, with other arguments
            yield given, passes, False
    value = evaluate(here) if here else None
    for kind, turned in TURNED.items():
        if isinstance(value, kind) and not isinstance(value, bool):
            for how, same in turned.items():
                given = how.format(here)
                try:
                    made = evaluate(given)
                except (TypeError, ValueError):  # there is no array of ragged rows
                    continue
                equal = kind is not float or float(made) == value
                yield given, None, same and equal and "np.array(('" not in given
    for name in DAMAGED:
        if f"copied('{name}')" == here:
            stem, suffix = name.split(".")
            for k in range(24):
                yield f"copied('{stem}-{k}.{suffix}')", None, False


def options() -> Iterator[Call]:
    """Options of the zoo's rows, a row of each class, and of grids, in their names."""
    classes = {type(row.solver): row for row in reversed(flowsolve.solver_table())}
    for kind, row in classes.items():
        label, known = f"flowsolve.solve(solver={row.name!r})", hints(kind)
        nfe = 6 if row.solver.fixed else 4000
        start = f"flowsolve.solve(MODEL, solver={row.name!r}, nfe={nfe}, n=2, seed=0"
        for name, value in solvers.options_of(row.solver).items():
            plain = f"{start}, {name}={value!r})"
            callback = "function" in passes_for(label, name, known[name])
            for given, passes, same in odd_values(repr(value), callback):
                line = f"{start}, {name}={given})"
                may = passes is None or may_be(label, name, known[name], given, passes)
                yield Call(label, name, given, line, plain if same else "", may)
    for grid, kind in grids.GRIDS.items():
        for field in dataclasses.fields(kind):
            for text in odd.TEXTS:
                line = f"flowsolve.plan('ddim', VP, nfe=4, grid='{grid}({field.name}={text})')"
                yield Call(f"grid={grid!r}", field.name, text, line)


def misspelt() -> Iterator[Call]:
    """Every argument's name with two letters swapped, or one missing."""
    for label, function in public().items():
        base, parameters = arguments(label, function)
        for name, each in parameters.items():
            wrong = name[0] + name[2:] if len(name) > 2 else name + "q"
            if each.kind is each.VAR_POSITIONAL or wrong in parameters:
                continue
            if label.endswith(".given"):
                continue  # takes every name
            line = written(label, function, base | {wrong: good(label, name) or "1"})
            yield Call(label, wrong, "(misspelt)", line, "", False)


def contradictory() -> Iterator[Call]:
    for line, name in CONTRADICTIONS:
        yield Call(line.split("(")[0], name, "(contradictory)", line, "", False)


# Answers. --------------------------------------------------------------------------------------

Answer = tuple[Call, str, str]


class Kinds:
    """What is not right."""

    def __contains__(self, kind: str) -> bool:
        return kind not in ("right", "refused", "allowed")


BAD = Kinds()


class Hang(BaseException):
    pass


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """In a folder where files may be written: some odd values are names of files."""
    before = os.getcwd()
    os.chdir(odd.fresh())
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    """Raise Hang after so much of the processor's time, where there are signals."""
    if not hasattr(signal, "setitimer") or threading.current_thread() != threading.main_thread():
        yield  # pytest has a timeout of its own
        return

    def stop(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


#: What of a result is no number of its own: measured, or where a run is missing NaN; the network.
PASSED_OVER = {"seconds", "errors", "net"}


def leaves(value: Any, where: str = "", depth: int = 6) -> Iterator[tuple[str, Any]]:
    """The numbers and strings in a result, each with where it is."""
    if isinstance(value, (Tensor, np.ndarray, float, int, str, np.generic, type(None))):
        yield where, value
        return
    parts: Any = ()
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        parts = value._asdict().items()
    elif isinstance(value, collections.abc.Mapping):
        parts = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    elif dataclasses.is_dataclass(value) and type(value).__module__.startswith("flowsolve"):
        parts = [(each.name, getattr(value, each.name)) for each in dataclasses.fields(value)]
    elif type(value).__module__.startswith("flowsolve"):
        slots = getattr(type(value), "__slots__", ())
        names = [*slots, *getattr(value, "__dict__", ())]
        parts = [(name, getattr(value, name)) for name in names if hasattr(value, name)]
    for key, each in parts if depth else ():
        if key not in PASSED_OVER:
            yield from leaves(each, f"{where}.{key}", depth - 1)


def spoilt(result: Any) -> str:
    """Where a result is not finite; empty where it is."""
    for where, leaf in leaves(result):
        if isinstance(leaf, Tensor) and leaf.device.type == "meta":
            return f"{where} is on no device"
        if isinstance(leaf, Tensor) and leaf.layout is not torch.strided:
            return f"{where} is sparse"
        if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex()):
            if not torch.isfinite(leaf).all():
                return f"{where} is not finite"
        elif isinstance(leaf, (float, np.floating, np.ndarray)):
            numbers = np.asarray(leaf)
            if numbers.dtype.kind == "f" and np.isnan(numbers).any():
                return f"{where} is NaN"
    return ""


def same(a: Any, b: Any) -> bool:
    """Whether two results are equal, to the bit; of runs that were pushed, what they came to."""
    if isinstance(a, odd.Push) and isinstance(b, odd.Push):
        a, b = a.x, b.x
    one, two = [*leaves(a)], [*leaves(b)]
    if [where for where, _ in one] != [where for where, _ in two]:
        return False
    for (_, x), (_, y) in zip(one, two, strict=True):
        if isinstance(x, Tensor) and isinstance(y, Tensor):
            if not torch.equal(x, y):
                return False
        elif not np.array_equal(np.asarray(x), np.asarray(y)):
            return False
    return True


def use(result: Any) -> Any:
    """What is done with a result."""
    for kind, how in USES:
        if isinstance(result, kind):
            return eval(how.format("_"), {**vars(odd), "_": result})
    return None


def mapped(call: Call) -> bool:
    """Whether a result is as the tensor that was given."""
    tensor = re.search(r"math\.nan\)?$|math\.inf$|1e30$|meta|sparse", call.given)
    return tensor is not None and call.label.rpartition(".")[2] in odd.MAPS


def shown(value: Any) -> str:
    try:
        return repr(value)[:80]
    except Exception as error:  # of an object with an absurd value in it
        return f"<{type(value).__name__}, which has no repr: {error!r}>"


def judge(call: Call) -> tuple[str, str]:
    """What came of a call: a kind of answer, and what was said."""
    result = error = None
    with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("always")
        try:
            with elsewhere(), watchdog(LIMIT):
                result = evaluate(call.line)
                made = use(result)
        except Hang:
            return "hang", ""
        except (SystemExit, Exception) as raised:
            error = raised
        told = [str(w.message) for w in warned]
    if error is not None:
        return refused(call, error)
    if any(not intended(text) for text in told):
        return "warning", told[0]
    bad = spoilt(result) or spoilt(made)
    if bad and not mapped(call):
        return "not finite", bad
    if not call.may:
        return "accepted", shown(result)
    if call.plain:
        plain = evaluate(call.plain)
        if isinstance(plain, odd.Push):  # which the result has been to its end
            use(plain)
        if not same(result, plain):
            return "differs", shown(result)
    return "right", ""


#: Warnings that are meant.
INTENDED = ("training mode", "variance")


def intended(text: str) -> bool:
    return any(word in text for word in INTENDED)


def refused(call: Call, error: BaseException) -> tuple[str, str]:
    """What is to be said of an error."""
    text = f"{type(error).__name__}: {error}"[:500]
    if isinstance(error, (flowsolve.NonFiniteError, flowsolve.BudgetExceeded)):
        cap = call.argument in ("nfe", "rtol", "atol") and isinstance(
            error, flowsolve.BudgetExceeded
        )
        return ("refused" if cap else "blames the network"), text
    if isinstance(error, FileNotFoundError) and call.argument in odd.FILES:
        return "refused", text  # as documented, and as everywhere in Python
    if isinstance(error, ImportError) and call.argument == "ray" and "flowsolve[ray]" in text:
        return "refused", text
    own = type(error) in (ValueError, TypeError, Unsuited) and raised_by_us(error)
    if call.given == "(misspelt)":
        named = isinstance(error, TypeError) and call.argument in str(error)
        return ("refused" if named else "unnamed"), text
    if not own:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"raw {type(error).__name__}", f"{text} ({Path(frame.filename).name}:{frame.lineno})"
    names = {call.argument, *SYNONYMS.get(call.argument, "").split()}
    if not any(re.search(rf"\b{re.escape(name)}\b", str(error)) for name in names):
        return "unnamed", text
    if call.given == "(contradictory)":
        return "refused", text  # what contradicts is what was not expected
    if not (any(word in str(error) for word in EXPECTED) or call.given.strip("'") in str(error)):
        return "vague", text
    return "refused", text


#: Words that say what was expected.
EXPECTED = ("expected", "Did you mean", "Known:", "cannot", "must", "; use", "need", "wrap", "only",
            "at most", "outside", "unless", "instead", "move", "is no", "is empty")  # fmt: skip


def raised_by_us(error: BaseException) -> bool:
    """Whether a ``raise`` of flowsolve's made it, not an operation that failed there."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or not last.tb_frame.f_code.co_filename.startswith(HOME):
        return False
    code = last.tb_frame.f_code.co_code[last.tb_lasti]
    return dis.opname[code] in ("RAISE_VARARGS", "RERAISE")


def counted(answers: Iterable[Answer]) -> dict[str, dict[str, int]]:
    """How many answers of each kind, callable by callable."""
    rows: dict[str, Counter[str]] = {}
    for call, kind, _ in answers:
        rows.setdefault(call.label, Counter())[kind] += 1
    return {label: dict(row) for label, row in rows.items()}


def summary(parts: Iterable[dict[str, dict[str, int]]]) -> list[str]:
    """What was tried in a few lines, from what :func:`counted` said of its parts."""
    rows = [(label, row) for part in parts for label, row in part.items()]
    total = sum((Counter(row) for _, row in rows), Counter[str]())
    tried, bad = sum(total.values()), sum(total[kind] for kind in total if kind in BAD)
    kinds = ", ".join(f"{count} {kind}" for kind, count in total.most_common())
    return [f"fuzz: {tried} odd calls of {len({*dict(rows)})} callables, {bad} not answered", kinds]


def report(answers: Iterable[Answer]) -> str:
    """What was tried: a line for each callable, with how many answers of each kind."""
    rows = counted(answers)
    wrong = {label: sum(row[kind] for kind in row if kind in BAD) for label, row in rows.items()}
    lines = summary([rows])
    for label in sorted(rows, key=lambda label: -wrong[label]):
        kinds = ", ".join(f"{kind} {count}" for kind, count in rows[label].items())
        lines.append(f"{wrong[label]:5} of {sum(rows[label].values()):5}  {label}: {kinds}")
    return "\n".join(lines)


def main() -> None:
    begin = time.perf_counter()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("word", nargs="?", default="", help="only calls with this in their line")
    parser.add_argument("--sample", type=int, metavar="N", help="so many calls, drawn")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--call", metavar="LINE", help="make one call and show what it does")
    parser.add_argument("--out", type=argparse.FileType("w"), default=sys.stdout)
    asked = parser.parse_args()
    if asked.call:
        print(result := evaluate(asked.call), use(result), sep="\n")
        return
    every = [call for call in calls() if asked.word in call.line]
    if asked.sample:
        every = random.Random(asked.seed).sample(every, min(asked.sample, len(every)))
    answers = [(call, *judge(call)) for call in every]
    print(report(answers), file=asked.out)
    print(f"{time.perf_counter() - begin:.0f} s", file=asked.out)
    for call, kind, said in answers:
        if kind in BAD:
            print(
                f"{kind}: {call.argument}={call.given}\n    {call.line}\n    {said}"[:600],
                file=asked.out,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
