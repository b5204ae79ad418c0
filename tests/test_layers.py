"""Imports point one way: a file may import only what stands above it, whether at its head, inside a
function or for types alone."""

import ast
import re
from pathlib import Path

import flowsolve

ROOT = Path(flowsolve.__file__).parent
#: Every module of the package. A star is where new files of a package stand, without being named.
LAYERS = """
typing errors about named readers checked caching output philox quantile noise brownian
operators.base operators.scalars operators.block operators.spectral operators
processes.tables processes.levels processes.variables processes.base processes.scalar
processes.discrete processes.vp processes.sigma processes.flow
processes.matrix processes.langevin processes.blurring processes.* processes
coordinates linear parametrizations network conditioning denoiser around corrections starts finite
grids.base grids.explicit grids.in_time grids.in_sigma grids.lookup grids.shift grids.* grids
solvers.ode solvers.base solvers.budget solvers.ddim solvers.weights solvers.multistep
solvers.runge_kutta solvers.exponential solvers.wrapper solvers.descent solvers.staged_sde
solvers.churn solvers.restart solvers.score_sde solvers.ends solvers.walk solvers.adaptive
solvers.bridges solvers.torchdiffeq solvers.scipy
solvers.aliases solvers.zoo solvers.auto solvers.lookup solvers.* solvers
plans.program plans.trace plans.equality plans.table plans.files
plans.bind plans.loop plans.push plans.rest plans.plan plans.tuned plans
run.record run.layout run.live run.integrate run
checks continuing planning leapfrog latents gradients parallel sampling recorded
encoding interpolation
volume likelihood doubling guides guidance cfgpp
measurements krylov posteriors particles editing inpainting
exact.given exact.reduction exact.laws exact.base exact.mixtures exact
pictures
training.objectives training.streams training.bounds training.checkpoints training.loop training
models models.data models.files models.unet models.preconditioned models.recipes models.shipped
models.training models.digits models.fashion models.quality
comparison.rows comparison.result comparison.figures comparison.measure comparison
tuning.rows tuning.problem tuning.search tuning.fitting tuning.tune tuning.figure tuning
bulk.samples bulk.formats bulk.folder bulk.tables bulk.shards bulk.engines bulk.fingerprint
bulk.settings bulk.generating bulk.reading bulk
integrations.diffusers.classes integrations.diffusers.clocks integrations.diffusers.read
integrations.diffusers.levels
integrations.diffusers.laying integrations.diffusers.stepping integrations.diffusers.scheduler
integrations.diffusers.conversation integrations.diffusers.pipeline integrations.diffusers.networks
integrations.diffusers integrations.loading integrations.clients integrations.flows
integrations.conventions integrations
cli.streams cli.options cli.model cli.data cli.sample cli.generate cli.compare cli.inpaint
cli.encode cli.interpolate cli.likelihood cli.train cli.tune cli.solvers cli.main cli
"""
PLACES = LAYERS.split()
FACE = {"__init__", "__main__"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}


def unnamed(package: str) -> list[str]:
    return sorted(m for m in MODULES if m.rpartition(".")[0] == package and m not in PLACES)


ORDER = [m for p in PLACES for m in (unnamed(p[:-2]) if p.endswith(".*") else [p])]


def imports(module: str) -> set[str]:
    """The modules of flowsolve that ``module`` imports, anywhere in it."""
    path, found = MODULES[module], set()
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("flowsolve")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flowsolve"):
            found.add(str(node.module))
        elif isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - node.level + 1]
            target = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                full = f"{target}.{alias.name}".strip(".")
                found.add(full if full in MODULES else target)
    return found


def test_every_module_has_its_place():
    assert sorted(MODULES.keys() - FACE) == sorted(ORDER)


def test_imports_point_up():
    for k, module in enumerate(ORDER):
        for other in imports(module) - {""}:  # "" is the version, which the face has
            # Commands use the library as everybody does.
            fine = other in ORDER[:k] or (other == "flowsolve" and module.startswith("cli."))
            assert fine, f"flowsolve.{module} imports {other}, which does not stand above it"


def test_no_file_is_long():
    for path in ROOT.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        reason = re.match(r'r?"""(?:(?!""").)*long because', text, re.DOTALL)
        assert len(text.splitlines()) <= 250 or reason, path
