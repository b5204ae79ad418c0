"""The shapes that annotations name are the shapes there are, and no public tensor is without."""

from __future__ import annotations

import functools
import inspect
import re
import runpy
import subprocess
import sys
import tempfile
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import beartype
import jaxtyping
import problems
import pytest
import torch
from torch import Tensor

import flowsolve
from flowsolve import comparison, exact, training
from flowsolve.integrations import clients, flows
from flowsolve.typing import Float

#: The checker at run time; an int is a float to it, as to the others.
STRICT = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
#: What modules import for type checkers alone.
NAMES = {"Self": Any, "Solver": flowsolve.solvers.Solver}


class Function(NamedTuple):
    """A public function, or what a public class has of them, and its annotations as objects."""

    owner: Any
    name: str
    function: Any
    hints: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.owner.__name__}.{self.name}"


def public() -> Iterator[Function]:
    """Every public function, and every public method, property and constructor of a class."""
    modules = [flowsolve, comparison, training]
    modules += filter(inspect.ismodule, (getattr(flowsolve, name) for name in flowsolve.__all__))
    known = [getattr(module, name) for module in modules for name in getattr(module, "__all__", ())]
    classes = {base: None for cls in known if inspect.isclass(cls) for base in cls.__mro__}
    for function in dict.fromkeys(filter(inspect.isfunction, known)):
        module = sys.modules[function.__module__]
        yield Function(module, function.__name__, function, hints(function, vars(module)))
    for cls in classes:
        if not cls.__module__.startswith("flowsolve."):
            continue
        # A dataclass's constructor has fields of bases from other modules.
        names = {
            k: v for c in cls.__mro__[::-1] for k, v in vars(sys.modules[c.__module__]).items()
        }
        for name, member in list(vars(cls).items()):
            if name[0] != "_" or name in ("__new__", "__init__", "__call__"):
                for wrapped in ("__func__", "fget", "func"):
                    member = getattr(member, wrapped, member)
                if inspect.isfunction(member):
                    yield Function(cls, name, member, hints(member, names))


def hints(function: Any, names: dict[str, Any]) -> dict[str, Any]:
    return typing.get_type_hints(function, names, NAMES)


def parts(hint: Any) -> Iterator[Any]:
    """A type and all that it is made of."""
    yield hint
    for inner in hint if isinstance(hint, list) else typing.get_args(hint):
        yield from parts(inner)


def shaped(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)


PUBLIC = [*public()]
SHAPED = [
    each
    for each in PUBLIC
    if any(shaped(part) for hint in each.hints.values() for part in parts(hint))
]


def test_every_public_tensor_has_a_shape() -> None:
    bare = [
        f"{each}: {name}"
        for each in PUBLIC
        for name, hint in each.hints.items()
        if any(part is Tensor for part in parts(hint))
    ]
    assert bare == []
    assert {"sample", "score", "rmse", "encode", "simple"} <= {each.name for each in SHAPED}


def checked(function: Any, hints: dict[str, Any], told: Callable[[], Any] = int) -> Any:
    """The function, its annotations checked at every call, of which ``told`` is told."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        told()
        return function(*args, **kwargs)

    call.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            each.replace(annotation=hints.get(name, each.empty))
            for name, each in signature.parameters.items()
        ],
        return_annotation=hints.get("return", signature.empty),
    )
    return jaxtyping.jaxtyped(call, typechecker=STRICT)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the functions with shapes that have been called. As long as the test runs, the
    library has them in the form that checks."""
    names: set[str] = set()
    for each in SHAPED:
        strict = checked(each.function, each.hints, functools.partial(names.add, str(each)))
        if inspect.isclass(each.owner):
            member = vars(each.owner)[each.name]
            kind = next((k for k in (property, classmethod) if isinstance(member, k)), None)
            monkeypatch.setattr(each.owner, each.name, kind(strict) if kind else strict)
            continue
        for module in [m for name, m in sys.modules.items() if name.startswith("flowsolve")]:
            if vars(module).get(each.name) is each.function:
                monkeypatch.setattr(module, each.name, strict)
    return names


def use(model: exact.Mixture) -> None:
    """Everything that takes and gives tensors, on a process of any kind."""
    process, shape = model.process, model.shape
    t = 0.5 * (process.t_min + process.t_max) if process.entries is None else 300
    x = model.draw(3, level=t)
    x0 = model.draw(3)
    model.score(x, t)
    model.log_density(x, t)
    assert process.data(process.state(x0)).shape == x0.shape
    kept = flowsolve.solve(model, solver="ddim", nfe=4, n=3, seed=0, keep=("path", "x0"))
    assert kept.path is not None and kept.x0_path is not None
    noise = torch.zeros(9, *x.shape)
    flowsolve.solve(model, solver="ddpm", nfe=3, start=x, span=(t, None), noise=noise)
    flowsolve.solve(model, nfe=3, n=2, seed=0, callback=lambda state: state.step == 2)
    flowsolve.sample(model, nfe=3, n=3, seed=0, batch_size=2)
    flowsolve.encode(model, x0, nfe=3)
    flowsolve.reconstruct(model, x0, nfe=3)
    flowsolve.interpolate(model, x0, x0.flip(0), 2, nfe=3)
    run = flowsolve.plan("ddpm", process, nfe=3).push(model, start=kept.path[0], noise=noise)
    run.replace(run.x)
    while not run.done:
        run.tell(model.net(run.input, run.time))
    measured = flowsolve.compare(model, solvers=("ddim", "ddpm"), nfe=(2, 3), n=3)
    assert measured.rmse.shape == measured.median.shape == (2, 2)
    flowsolve.compare(model, solvers=("ddim",), nfe=(2,), start=kept.path[0], reference=x0)
    for correct in (flowsolve.clip(), flowsolve.dynamic_threshold()):
        network = flowsolve.Denoiser(problems.elementwise, process, "x0", shape, correct_x0=correct)
        network.given(y=torch.arange(3), per_sample=["y"]).rows(torch.tensor([0, 2]))
        network(x, t)
    levels = [process.level(time) for time in process.training_times(torch.rand(3)).tolist()]
    training.simple(model, x0, torch.randn(3, *model.state_shape, dtype=x0.dtype), levels)


def use_numbers() -> None:
    """What there is on processes of numbers alone, and what is raised."""
    model = problems.mixture(flowsolve.VP())
    found = flowsolve.log_likelihood(model, model.draw(3), nfe=24, divergence="hutchinson")
    assert found.bits(1.0).shape == (3,)
    flowsolve.Latent.of(model, model.draw(3), 3, "data").encode(model).decode(model).x.sum()
    flowsolve.sample(model, nfe=3, n=2, seed=0, parallel=True)
    flowsolve.sample(model, nfe=3, n=2, seed=0, differentiable=True, memory="checkpoint")
    flowsolve.guided(model, other=model, scale=torch.ones(2))
    # Looked up where the checked forms are, since the package keeps no names of its own.
    clients.kdiffusion("ddim", flow=True)(lambda x, s: 0.5 * x, model.draw(2), [1.0, 0.5, 0.0])
    flows.odeint(lambda t, y: -y, model.draw(2), [0.0, 0.5, 1.0], method="euler")
    for solver in ("adaptive", "torchdiffeq:dopri5", "scipy:RK45"):
        flowsolve.solve(model, solver=solver, n=3, seed=0)
    with pytest.raises(flowsolve.BudgetExceeded):
        flowsolve.sample(model, solver="adaptive", nfe=5, rtol=1e-8, atol=1e-8)
    broken = flowsolve.Denoiser(lambda x, t: x * torch.nan, flowsolve.VP(), "eps", (2,))
    with pytest.raises(flowsolve.NonFiniteError):
        flowsolve.sample(broken, nfe=3)
    law = exact.Gaussian(flowsolve.VP(), torch.zeros(1, 3, 3))
    law.flow(law.draw(3, level=0.5), 0.5, 0.1)
    levels = [flowsolve.VP().level(t) for t in (1.0, 0.5, 0.1)]
    bound = training.bound(law, torch.linspace(-1, 1, 9).view(1, 1, 3, 3), levels, bins=9)
    assert bound.total.shape == (1,)
    net = problems.Tanh(torch.nn.Linear(2, 2))
    small = flowsolve.Denoiser(net, flowsolve.VP(), "eps", (2,))
    assert training.train(small, torch.randn(8, 2), steps=2, batch_size=4).losses.shape == (2,)
    flowsolve.sample(flowsolve.digits(torch.tensor([1, 2])), nfe=2, n=2, seed=0)
    flowsolve.sample(flowsolve.fashion(torch.tensor([1, 2])), nfe=2, n=2, seed=0)
    x, mask, y = model.draw(3), torch.tensor([True, False]), torch.tensor([0.5])
    flowsolve.edit(model, x, strength=0.5, nfe=2)
    flowsolve.tune(model, 2, effort="search", start=model.draw(8, level=1.0), reference=4)
    flowsolve.inpaint(model, x, mask, nfe=2)
    flowsolve.capture(model, n=2, nfe=2)(seed=0)
    with tempfile.TemporaryDirectory() as place:
        flowsolve.generate(model, 3, place, nfe=2)
        assert next(flowsolve.bulk.read(place)).x.shape == (3, 2)
    flowsolve.sample(flowsolve.posterior(model, y, mask, noise=0.1), nfe=2)
    assert flowsolve.smc(model, y, torch.ones(1, 2), noise=0.1, nfe=2, particles=3).ess.shape == (
        2,
    )


@pytest.mark.late
def test_shapes_are_what_they_say(called: set[str]) -> None:
    """Every public function with tensors is called, with its annotations checked."""
    for name, process in problems.EXAMPLES.items():
        use(problems.mixture(process) if process.scalar else problems.matrix_mixture(name))
    use_numbers()
    abstract = {
        str(each) for each in SHAPED if getattr(each.function, "__isabstractmethod__", False)
    }
    assert {str(each) for each in SHAPED} - called == abstract


def test_a_wrong_shape_is_caught(called: set[str]) -> None:
    """The negative control: of an argument, of one beside another, of a field, of a result."""
    model, two, three = problems.mixture(flowsolve.VP()), torch.zeros(2, 2), torch.zeros(3, 2)
    flowsolve.Prediction(two, two)
    for wrong in (
        lambda: flowsolve.Prediction(two, three),
        lambda: flowsolve.Solution(two, 1, (), None, path=torch.zeros(4, 3, 2)),
        lambda: model.score(torch.tensor(0.0), 0.5),
        lambda: model.evaluate(two, model.process.level(0.5), torch.zeros(3)),
        lambda: training.simple(model, two, three, []),
        lambda: model.process.training_times(torch.arange(3)),
    ):
        with pytest.raises(jaxtyping.TypeCheckError):
            wrong()


@pytest.mark.parametrize("axes", ["n", "n n", "n 1 *state"])
def test_a_wrong_annotation_is_caught(axes: str) -> None:
    (draw,) = (each for each in SHAPED if str(each) == "Exact.draw")
    model = problems.mixture(flowsolve.VP())
    checked(draw.function, draw.hints)(model, 3)
    with pytest.raises(jaxtyping.TypeCheckError):
        checked(draw.function, draw.hints | {"return": Float[Tensor, axes]})(model, 3)


def test_users_code_runs() -> None:
    """What a type checker is told of it is true; ``make lint`` asks the type checker."""
    runpy.run_path(str(Path(__file__).with_name("typed_usage.py")))


def test_jaxtyping_is_not_needed(request: pytest.FixtureRequest) -> None:
    """One module asks for it. That of the schedulers imports diffusers, which takes its time."""
    package = Path(flowsolve.__file__).parent
    texts = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    asking = [path for path, text in texts.items() if re.search(r"(from|import) jaxtyping", text)]
    assert asking == [package / "typing.py"]
    paths = [path.relative_to(package.parent).with_suffix("") for path in sorted(texts)]
    skipped = {"__main__"} | ({"diffusers"} if not request.config.option.full else set())
    names = [".".join(path.parts) for path in paths if not skipped & {*path.parts}]
    script = """
import importlib, sys
sys.modules["jaxtyping"] = None
import flowsolve
flowsolve.sample
for name in sys.argv[1:]:
    importlib.import_module(name.removesuffix(".__init__"))
from torch import Tensor
from flowsolve.typing import Float, Int
assert Float[Tensor, "n *shape"] is Int[Tensor, "n"] is Tensor
model = flowsolve.Denoiser(lambda x, t: x, flowsolve.VP(), "eps", (2,))
print(*flowsolve.sample(model, nfe=2, n=3, seed=0).shape)
"""
    run = subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True)
    assert run.stdout == "3 2\n", run.stderr
