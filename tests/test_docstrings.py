"""What the API's entries show: every docstring's examples run and print what they say; every public
name has some, and says what it returns and what it raises."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import flowsolve

PACKAGE = Path(flowsolve.__file__).parent
PAGES = PACKAGE.parent / "docs" / "api"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstrings(path: Path) -> Iterator[tuple[str, str, int]]:
    """(name, docstring, line) of what is defined in a file. Read from the source: doctest's finder
    leaves out what is decorated, as most functions here are."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", path.stem), text, getattr(node, "lineno", 1)


def with_examples() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*.py")) if ">>> " in p.read_text(encoding="utf-8")]


def required(text: str) -> set[str]:
    """What the examples of a docstring import from outside the standard library."""
    named = set(re.findall(r"^ *(?:>>>|\.\.\.) +(?:from|import) (\w+)", text, re.MULTILINE))
    return named - sys.stdlib_module_names


@pytest.mark.parametrize("path", with_examples(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by itself, after ``import flowsolve`` and ``import torch``; torch's modes are as they
    were."""
    monkeypatch.chdir(tmp_path)
    parser, missing, failures = doctest.DocTestParser(), set[str](), list[str]()
    modes = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_default_device())
    for name, text, line in docstrings(path):
        if ">>> " not in text:
            continue
        if lacking := {m for m in required(text) if importlib.util.find_spec(m) is None}:
            missing |= lacking
            continue
        names = {"flowsolve": flowsolve, "torch": torch}
        test = parser.get_doctest(text, names, name, str(path), line)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            doctest.DocTestRunner(verbose=False, optionflags=OPTIONS).run(test, out=failures.append)
    assert not failures, "".join(failures)
    after = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_default_device())
    assert after == modes
    if missing:
        pytest.skip(f"without {', '.join(sorted(missing))}")


def found(dotted: str) -> Any:
    """The object of a dotted name; None without the optional dependency that it needs."""
    parts = dotted.split(".")
    for k in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:k]))
        except ImportError as error:
            if not str(error.name).startswith("flowsolve"):
                return None  # an optional dependency is missing
            continue
        for part in parts[k:]:
            value = getattr(value, part)
        return value
    raise LookupError(dotted)


def entries() -> dict[str, Path]:
    """The full name of every class and function that the API's pages have an entry for, and the
    page."""
    names: dict[str, Path] = {}
    for page in sorted(PAGES.glob("*.md")):
        module = ""
        text = page.read_text(encoding="utf-8")
        for kind, name, options in re.findall(
            r"^\.\. (\w+):: ([\w.]+)((?:\n   .*)*)", text, re.MULTILINE
        ):
            if kind in ("currentmodule", "automodule"):
                module = name
            if kind == "automodule" and (said := re.search(r":members:(.*)", options)):
                own = found(name)
                members = said[1].replace(",", " ").split() or getattr(own, "__all__", None) or [
                    k for k, v in vars(own).items()
                    if not k.startswith("_") and getattr(v, "__module__", None) == name
                ]  # fmt: skip
                names |= {f"{name}.{member}": page for member in members}
            elif kind in ("autoclass", "autofunction", "autoexception"):
                names[name if name.startswith("flowsolve.") else f"{module}.{name}"] = page
    return names


def code_of(value: Any) -> Any:
    """A class as it is, a function as it was written; None for numbers, modules, kinds of types."""
    value = value if isinstance(value, type) else inspect.unwrap(value)
    return value if isinstance(value, type) or inspect.isfunction(value) else None


ENTRIES = entries()
#: What a caller may name: all of the face, and what the pages have besides.
NAMES = sorted({*ENTRIES, *(f"flowsolve.{name}" for name in flowsolve.__all__)})
PUBLIC = {name: code for name in NAMES if (code := code_of(found(name))) is not None}
FUNCTIONS = [name for name, code in PUBLIC.items() if not isinstance(code, type)]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_is_shown(name: str) -> None:
    """In an example of its own, or in one of its page."""
    value = PUBLIC[name]
    text = inspect.getdoc(value) or ""
    assert text and text != inspect.getdoc(object), f"{name} has no docstring"
    if re.search(r"^ *Examples:\n+ +>>> ", text, re.MULTILINE):
        return
    page = ENTRIES.get(name)
    text = page.read_text(encoding="utf-8") if page else ""
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert any(re.search(rf"\b{value.__name__}\b", block) for block in blocks), (
        f"{name} has no example: expected a section Examples in its docstring, or {value.__name__} "
        "in a python block of its page in docs/api"
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_what_comes_of_it(name: str) -> None:
    """What it returns, a tensor with its shape; and what it raises, if it does."""
    function = PUBLIC[name]
    text, (node,) = inspect.getdoc(function) or "", ast.parse(inspect.getsource(function)).body
    assert isinstance(node, ast.FunctionDef)
    gives = ast.unparse(node.returns) if node.returns else "Any"
    # Of the face, whatever takes arguments; of the rest, what is documented at length.
    face = name.count(".") == 1 and bool(node.args.args or node.args.kwonlyargs)
    if gives != "None" and (face or "Args:" in text):
        assert "\nReturns:\n" in text, f"{name} does not say what it returns"
    if "Tensor" in gives:
        assert re.search(r"\(\w+,", text), f"{name}: a tensor of what shape?"
    raising = any(isinstance(each, ast.Raise) for each in ast.walk(node))
    if raising or face:
        assert re.search(r"\bRaises\b", text), f"{name} does not say what it raises"
