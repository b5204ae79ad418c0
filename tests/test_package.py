"""What is shipped and what is said of it: one version, every file, every tool of one version."""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

import flowsolve

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).parent.parent
PACKAGE = Path(flowsolve.__file__).parent
TABLES: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = TABLES["project"]
PINNED = dict(
    re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
)


def cited(key: str) -> str:
    """The value of a one-line entry of CITATION.cff."""
    found = re.search(rf"^{key}: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert found, f"CITATION.cff has no {key}"
    return found[1]


def test_versions_agree() -> None:
    assert cited("version") == flowsolve.__version__
    newest = re.search(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest and newest[1] == flowsolve.__version__


def test_citation_says_what_the_project_says() -> None:
    text = " ".join((ROOT / "CITATION.cff").read_text("utf-8").split())
    assert cited("title") == PROJECT["name"] == "flowsolve"
    assert cited("license") == PROJECT["license"]
    assert PROJECT["description"] in text
    for author in PROJECT["authors"]:
        assert f"- name: {author['name']}" in text
    for keyword in PROJECT["keywords"]:
        assert f"- {keyword}" in text


def test_every_file_of_the_package_is_shipped() -> None:
    """setuptools takes modules by itself; other files need a pattern of package-data."""
    assert (PACKAGE / "py.typed").is_file()
    patterns = TABLES["tool"]["setuptools"]["package-data"]["flowsolve"]
    files = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    ]
    assert [name for name in files if not any(fnmatch(name, p) for p in patterns)] == []
    assert [p for p in patterns if not any(fnmatch(name, p) for name in files)] == []


def test_every_folder_of_the_package_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_oldest_python_is_said_once() -> None:
    minors = [
        int(found[1])
        for line in PROJECT["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: 3\.(\d+)", line))
    ]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert PROJECT["requires-python"] == f">=3.{minors[0]}"
    assert TABLES["tool"]["ruff"]["target-version"] == f"py3{minors[0]}"
    assert TABLES["tool"]["pyright"]["pythonVersion"] == f"3.{minors[0]}"


@pytest.mark.parametrize("extra", ["test", "dev"])
def test_tools_are_pinned(extra: str) -> None:
    """What decides whether the tests pass is one version; the library's own needs are ranges."""
    library = {"flowsolve", "mpmath"}
    names = {re.match(r"[\w-]+", line)[0] for line in PROJECT["optional-dependencies"][extra]}
    assert names - library - set(PINNED) == set()


def test_pre_commit_has_the_pinned_ruff() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    assert set(re.findall(r"ruff==([\w.]+)", text)) == {PINNED["ruff"]}


def test_makefile_names_every_target() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert targets
    assert set(targets[1].split()) == set(re.findall(r"^# make ([\w-]+) ", text, re.MULTILINE))
