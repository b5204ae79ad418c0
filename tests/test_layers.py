"""Imports point one way: a file may import only what stands above it."""

import ast
from pathlib import Path

import flowsolve

ORDER = [
    "errors",
    "files",
    "operators",
    "matrices",
    "processes.tables",
    "processes.base",
    "processes.scalar",
    "processes.matrix",
    "processes.langevin",
    "processes.blurring",
    "processes",
    "coordinates",
    "grids.base",
    "grids.in_time",
    "grids.in_sigma",
    "grids",
    "denoiser",
    "flow",
    "program",
    "notation",
    "plans",
    "solvers.base",
    "solvers.multistep",
    "solvers.singlestep",
    "solvers.exponential",
    "solvers.adaptive",
    "solvers.stochastic",
    "solvers.excursions",
    "solvers.bridges",
    "solvers.names",
    "solvers.zoo",
    "solvers",
    "noise",
    "run",
    "sampling",
    "encoding",
    "reduction",
    "exact",
]
ROOT = Path(flowsolve.__file__).parent
OUTER = {"objectives", "training", "models", "comparison", "figures", "pictures", "arguments", "cli", "cli_compare", "integrations"}


def imports(module: str) -> set[str]:
    """The modules of flowsolve that ``module`` imports when it is imported."""
    path = ROOT / (module.replace(".", "/") + ".py")
    package = module.split(".")[:-1]
    if not path.exists():
        path, package = ROOT / module / "__init__.py", module.split(".")
    found = set()
    tree = ast.parse(path.read_text())
    guarded = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and node not in guarded:
            base = package[: len(package) - (node.level - 1)]
            target = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                full = ".".join([*target, alias.name])
                exists = (ROOT / (full.replace(".", "/") + ".py")).exists() or (ROOT / full.replace(".", "/")).is_dir()
                found.add(full if exists else ".".join(target))
    return found


def test_every_core_file_has_its_place():
    files = {str(p.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__") for p in ROOT.rglob("*.py")}
    core = {f for f in files if f.split(".")[0] not in OUTER and f not in ("__init__", "__main__")}
    assert core == set(ORDER)


def test_imports_point_up():
    for k, module in enumerate(ORDER):
        for other in imports(module):
            assert other in ORDER[:k], f"flowsolve.{module} imports flowsolve.{other}, which stands below it"


def test_no_file_is_long():
    for path in ROOT.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 330, path
