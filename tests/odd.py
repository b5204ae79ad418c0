"""What odd calls are made of: the names in their lines, good values, and odd ones."""

from __future__ import annotations

import contextlib
import fractions
import functools
import importlib
import io
import math
import pickle
import random
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import flowsolve
from flowsolve import (
    Denoiser,
    coordinates,
    exact,
    grids,
    operators,
    parametrizations,
    processes,
    solvers,
    training,
)
from flowsolve.integrations import clients, conventions, flows
from flowsolve.models import data, digits, fashion, files, preconditioned, quality, unet
from flowsolve.plans.push import Push
from flowsolve.processes import tables
from flowsolve.solvers import zoo

#: What is named in lines alone.
NAMED = (coordinates, fractions, math, np, operators)


def net(x: Tensor, t: Tensor, **conditioning: Any) -> Tensor:
    return 0.9 * torch.tanh(0.7 * x) + 0.1 * torch.cos(x + t.view(-1, *[1] * (x.ndim - 1)).to(x))


class Net(torch.nn.Module):
    """A network to train."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(2, 2)
        with torch.no_grad():
            self.inner.weight.copy_(torch.tensor([[0.5, 0.1], [-0.2, 0.4]]))
            self.inner.bias.zero_()

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.tanh(self.inner(x))


def trainable() -> Denoiser:
    return Denoiser(Net(), VP, "eps", (2,))


def add(*rows: Any) -> None:
    """:func:`flowsolve.solvers.add`; the table is as before afterwards."""
    known = dict(zoo._KNOWN)
    try:
        solvers.add(*rows)
    finally:
        zoo._KNOWN.clear()
        zoo._KNOWN.update(known)


def on(process: Any) -> Tensor:
    """A run on a process."""
    shape = (4, 4) if isinstance(process, processes.Blurring) else (2,)
    law = exact.Gaussian(process, torch.full(shape, 0.5), 0.25)
    return flowsolve.sample(law, solver="ddim", nfe=4, n=2, seed=0)


def ran(model: Any, **arguments: Any) -> Tensor:
    """A short run of a model."""
    return flowsolve.sample(model, **{"solver": "ddim", "nfe": 3, "n": 2, "seed": 0} | arguments)


def solved(solver: Any) -> Any:
    """A run of a solver."""
    nfe = 5 if solver.fixed else 4000
    return flowsolve.solve(MODEL, solver=solver, nfe=nfe, n=2, seed=0)


def pushed(run: Push) -> Tensor:
    """A run that is asked from outside, to its end."""
    while not run.done:
        run.tell(net(run.input, run.time))
    return run.x


def apart(x: Tensor) -> Tensor:
    """The same numbers, not contiguous."""
    return torch.stack([x, torch.zeros_like(x)], -1)[..., 0]


VP = flowsolve.VP()
X = torch.tensor([[0.3, -0.7], [1.1, 0.2]])
PIXELS = (torch.arange(32) % 9 / 4 - 1).view(2, 1, 4, 4)
MODEL = Denoiser(net, VP, "eps", (2,))
PICTURES = Denoiser(net, VP, "eps", (1, 4, 4))
LAW = exact.Gaussian(VP, torch.tensor([0.5, -0.5]), 0.25)
MIXTURE = exact.Mixture(VP, [0.3, 0.7], [[1.0, 0.5], [-1.0, 0.3]], 0.2)
LEVEL, QUIET = VP.level(0.5), VP.level(0.25)
LEVELS = [LEVEL, QUIET]
TABLE = processes.VP.discrete(tables.linear(20))
PLAN = flowsolve.plan("ddim", VP, nfe=3)
NOISE = torch.linspace(-1, 1, 16).view(4, 2, 2)
LATENT = flowsolve.Latent.of(MODEL, X, 3)
DIFFUSION = types.SimpleNamespace(
    model=net, betas=torch.tensor(tables.linear(20)), objective="pred_noise", channels=1,
    image_size=2, self_condition=False,
)  # fmt: skip
FEW = {"solvers": ("ddim",), "nfe": (2,), "n": 2, "seed": 0}


@functools.cache
def comparison() -> Any:
    return flowsolve.compare(PICTURES, **FEW)


_FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True)


@functools.cache
def folder() -> Path:
    """A folder with good files, and damaged ones."""
    place = Path(_FOLDER.name)
    PLAN.save(place / "plan.json")
    LATENT.save(place / "latent.pt")
    with contextlib.redirect_stderr(io.StringIO()):
        training.train(trainable(), X, steps=2, batch_size=2, checkpoint=place / "run.pt")
    for name in ("digits.safetensors", "fashion.safetensors"):
        weights = Path(flowsolve.__file__).parent / "models" / name
        (place / name).write_bytes(weights.read_bytes())
    squares = np.arange(4 * 28 * 28, dtype=np.uint8).reshape(4, 28, 28)
    np.savez(place / "squares.npz", images=squares, labels=np.arange(4))
    draw = random.Random(0)
    for name in sorted(DAMAGED):
        good, (stem, suffix) = (place / name).read_bytes(), name.split(".")
        for k in range(24):
            (place / f"{stem}-{k}.{suffix}").write_bytes(damaged(good, k, draw))
    return place


def damaged(good: bytes, k: int, draw: random.Random) -> bytes:
    """What may become of a file: nothing, another, a part, a part missing, bytes changed."""
    at, size = draw.randrange(len(good)), len(good)
    if k < 6:
        other = ({"a": 1}, [1.0])[k % 2]
        pickled = io.BytesIO()
        torch.save(other, pickled)
        return (b"", b"{}", b"\0" * 99, pickle.dumps(other), pickled.getvalue(), b"[" * 9999)[k]
    if k < 10:
        return good[: (1, 8, size // 2, size - 1)[k - 6]]
    if k < 14:
        return good[:at] + good[at + draw.randrange(1, 40) :]
    if k < 20:
        return good[:at] + bytes([draw.randrange(256)]) + good[at + 1 :]
    head = draw.randrange(min(size, 300))
    return good[:head] + draw.choice([b"9", b"-", b"e9", b"null", b'"', b"["]) + good[head + 1 :]


def copied(name: str) -> Path:
    """A file of :func:`folder`, which the call may overwrite."""
    place = Path(tempfile.mkdtemp(dir=folder())) / name
    place.write_bytes((folder() / name).read_bytes())
    return place


def fresh() -> Path:
    return Path(tempfile.mkdtemp(dir=folder()))


# What is odd. ----------------------------------------------------------------------------------

#: Odd values and what each may pass for, whatever the argument.
ODD: dict[str, str] = {
    "object()": "",
    "...": "",
    "b'bytes'": "",
    "1j": "",
    "None": "none",
    "{}": "mapping",
    "{'a': 1}": "mapping",
    "[]": "sequence",
    "()": "sequence",
    "[1, 'a']": "",
    "[[0.5], [1, 2]]": "",
    "[math.nan, 0.5]": "",
    "range(3)": "sequence",
    "lambda *a, **k: None": "function",
    "VP": "process",
    "MODEL": "model function",
    "solvers": "",
    "''": "text",
    "'nonsense'": "text",
    "'3'": "text",
    "'\\0'": "text",
    "True": "flag",
    "np.bool_(True)": "flag",
    "0": "integer number",
    "1": "integer number",
    "-1": "integer number",
    "-3": "integer number",
    "2**70": "integer number",
    "10**7": "integer number",
    "np.int64(-2)": "integer number",
    "3.0": "number",
    "3.7": "number",
    "-0.0": "number",
    "-1.5": "number",
    "1e300": "number",
    "1e-300": "number",
    "-1e300": "number",
    "math.nan": "",
    "np.float32('nan')": "",
    "torch.tensor(math.nan)": "tensor",
    "math.inf": "infinite",
    "-math.inf": "infinite",
    "fractions.Fraction(1, 2)": "number",
    "np.float16(0.5)": "number",
    "torch.tensor(0.5)": "number tensor",
    "torch.tensor(2)": "integer number tensor",
    "torch.tensor([2])": "tensor sequence",
    "torch.tensor(True)": "tensor flag",
    "torch.zeros(0)": "tensor sequence",
    "torch.zeros(7, 5, 3)": "tensor",
    "torch.zeros(2, device='meta')": "tensor sequence",
    "np.zeros((7, 5))": "array",
    "np.array(['a'])": "",
    "torch.int32": "dtype",
    "torch.complex64": "dtype",
    "torch.device('meta')": "device",
    "'cuda:99'": "text",
}
#: What a good value may become, by its type; True where the result is to stay the same.
TURNED: dict[type, dict[str, bool]] = {
    int: {"np.int64({})": True, "np.int32({})": True, "torch.tensor({})": True},
    float: {"np.float64({})": True, "np.float32({})": True,
            "torch.tensor({}, dtype=torch.float64)": True},
    str: {"({})[:-1]": False, "({})[::-1]": False, "({}).swapcase()": False, "[{}]": False,
          "np.str_({})": True},
    tuple: {"list({})": True, "({})[::-1]": False, "({})[:1]": False, "({}) * 2": False,
            "np.array({})": True, "[float('nan')] * len({})": False},
    list: {"tuple({})": True, "({})[::-1]": False, "({})[:1]": False, "({}) * 2": False,
           "np.array({})": True},
    Tensor: {"apart({})": True, "({}).half()": False, "({}).bfloat16()": False,
             "({}).double()": False, "({}).to(torch.complex64)": False, "({}).int()": False,
             "({}).bool()": False, "({}) * math.nan": False, "({}) * math.inf": False,
             "({}) * 1e30": False, "({}).to('meta')": False, "({})[:0]": False,
             "({})[None]": False, "({})[..., :1]": False, "({}).flatten()": False,
             "({}).numpy()": False, "({}).tolist()": False, "({}).to_sparse()": False,
             "({}) * 0": False, "({})[:1]": False},
}  # fmt: skip
#: Odd values in the text of a grid's options.
TEXTS = ("-1", "0", "1e300", "1e-300", "1e999", "None", '"a"', "x", "True", "[1]", "2**70", "1j",
         "", "{", "3.7", "-0.0", "...")  # fmt: skip
#: Maps of tensors: what is not finite, sparse or on the meta device in one is so in the result, as
#: in torch's own functions. Runs and losses that are averaged over them are not.
MAPS = {
    "state", "data", "training_times", "__call__", "score",
    "log_density", "flow", "simple", "bound", "l_gamma", "frechet", "nearest", "slerp",
}  # fmt: skip
#: Arguments that name a file to be read.
FILES = {"path", "weights", "data", "conditions"}
#: Work that is asked for and takes its time.
LONG = {
    "training.train steps": {"10**7", "2**70"},
    "training.train batch_size": {"10**7"},
    "digits.train_digits steps": {"10**7", "2**70", "None"},
    "fashion.train_fashion steps": {"10**7", "2**70", "None"},
    "flowsolve.smc particles": {"10**7"},
    **{f"{label} n": {"10**7"} for label in (
        "flowsolve.solve", "flowsolve.sample", "flowsolve.generate", "flowsolve.compare",
        "LAW.draw", "MIXTURE.draw")},
}  # fmt: skip
#: A damaged file in the place of a good one.
DAMAGED = {"plan.json", "run.pt", "digits.safetensors", "latent.pt", "squares.npz"}

#: A good value for an argument of this name; of this callable's argument.
ARGUMENTS: dict[str, str] = {
    "model": "MODEL", "process": "VP", "solver": "'ddim'", "nfe": "3", "n": "2", "seed": "0",
    "first": "1", "x": "X", "x0": "X", "level": "LEVEL", "s": "LEVEL", "t": "QUIET",
    "levels": "LEVELS", "span": "(0.9, 0.1)", "grid": "'quadratic'", "predicts": "'eps'",
    "shape": "(2,)", "net": "net", "sigma": "0.25", "variable": "'sigma'", "value": "0.25",
    "lam": "0.5", "betas": "tables.linear(5)", "rows": "slice(0, 1)", "path": "fresh() / 'x.json'",
    "low": "-0.5", "high": "0.5", "keep": "'path'", "device": "'cpu'", "dtype": "torch.float32",
    "inner": "solvers.RungeKutta(solvers.HEUN)", "tableau": "solvers.HEUN",
    "weights": "[0.25, 0.75]", "means": "[[1.0, 0.5], [-1.0, 0.25]]", "mean": "[0.5, -0.5]",
    "covariances": "0.25", "covariance": "0.25", "u": "torch.tensor([0.25, 0.5])",
    "predictor": "solvers.Polynomial(2)", "nodes": "(0.5,)", "times": "(1.0, 0.5, 0.0)",
    "size": "4", "callback": "lambda state: None", "progress": "False", "start": "X",
    "noise": "NOISE", "batch_size": "2", "differentiable": "False", "time": "'t'",
    "correct_x0": "flowsolve.clip()", "conditioning": "{}", "eta": "0.5",
    "coordinates": "coordinates.DATA", "rtol": "0.125", "atol": "0.125", "label": "3",
    "checkpoint": "copied('run.pt')", "options": "{}", "labels": "torch.tensor([0, 1])",
    "null": "10", "data": "X", "k": "1", "out": "0.5 * X", "steps": "2", "each": "LEVELS",
    "seconds": "100.0", "evaluations": "2", "y": "torch.tensor([0.25])",
    "H": "torch.tensor([[1.0, -0.5]])", "mask": "torch.tensor([True, False])", "strength": "0.5",
    "particles": "3", "method": "'mmps'",
    "parallel": "True", "tol": "0.125", "window": "2", "memory": "None", "exact": "True",
    "position": "X.double()", "velocity": "X.double()", "end": "'noise'", "scale": "1.0",
}  # fmt: skip
SPECIAL: dict[str, dict[str, str]] = {
    "flowsolve.compare": {"solvers": "('ddim',)", "nfe": "(2,)", "reference": "X", "start": "X"},
    "flowsolve.solve": {"solver": "'ddpm'"},
    "flowsolve.log_likelihood": {"nfe": "24", "solver": "'ddim'", "divergence": "'hutchinson'",
                                 "n_probes": "None", "prior": "lambda x: x.sum(1)"},
    "flowsolve.interpolate": {"a": "X", "b": "0.5 * X", "below": "(-X, X + 1)"},
    "flowsolve.slerp": {"a": "X", "b": "0.5 - X", "t": "0.25"},
    "flowsolve.guided": {"model": "MODEL.given(y=1.0)", "unconditional": "{'y': 0.0}",
                         "scale": "2.0", "interval": "(0.5, 2.0)", "rescale": "0.5"},
    "flowsolve.Parallel": {"memory": "2"},
    "flowsolve.generate": {"out": "fresh()", "workers": "1", "conditions": "None"},
    "flowsolve.tune": {"effort": "'search'", "n": "8", "reference": "4", "nfe": "2",
                       "start": "X[:1].repeat(8, 1)"},
    "flowsolve.Latent": {"nfe": "3", "process": "repr(VP)", "dtype": "torch.float64",
                         "rest_of_data": "None", "rest_of_noise": "None"},
    "LATENT.save": {"path": "fresh() / 'x.pt'"},
    "LATENT.load": {"path": "copied('latent.pt')"},
    "LATENT.decode": {"model": "MODEL"},
    "LATENT.of": {"model": "MODEL"},
    "flowsolve.cfg_pp": {"plan": "PLAN", "lam": "0.5"},
    "flowsolve.posterior": {"noise": "0.125"},
    "flowsolve.smc": {"noise": "0.125"},
    "flowsolve.inpaint": {"noise": "0.125", "iterations": "None"},
    "flowsolve.dynamic_threshold": {"quantile": "0.5", "least": "1.0", "most": "2.0"},
    "grids.Shift": {"grid": "'quadratic'", "shift": "2.0"},
    "clients.kdiffusion": {"solver": "'ddim'", "flow": "True", "noise": "None"},
    "flows.odeint": {"func": "lambda t, y: -y", "y0": "X", "t": "[0.0, 0.5, 1.0]",
                     "method": "'euler'", "options": "None", "rtol": "None", "atol": "None",
                     "nfe": "None"},
    "conventions.guided_diffusion": {"steps": "20", "schedule": "'linear'",
                                     "learn_sigma": "False"},
    "conventions.score_sde": {"sde": "'vp'", "beta_min": "0.1", "beta_max": "20.0",
                              "sigma_min": "0.01", "sigma_max": "50.0"},
    "conventions.lucidrains": {"diffusion": "DIFFUSION"},
    "flowsolve.Level": {"t": "0.5", "A": "operators.Scalar(0.8)", "R": "operators.Scalar(0.6)"},
    "exact.Empirical": {"data": "[[1.0, 0.5], [-1.0, 0.25]]"},
    "exact.Dirac": {"x0": "[0.5, -0.5]"},
    "processes.Blurring": {"size": "4"},
    "processes.Discrete": {"betas": "tuple(tables.linear(5))"},
    "processes.Variable": {"name": "'own'", "of": "lambda level: level.t", "to_sigma": "None"},
    "solvers.add": {"rows": "solvers.Row('own', solvers.DDIM(), 'one step', 'nobody')"},
    "solvers.Row": {"name": "'own'", "solver": "solvers.DDIM()", "family": "'one step'",
                    "source": "'nobody'"},
    "solvers.SciPy": {"method": "'RK45'"},
    "solvers.TorchDiffEq": {"method": "'dopri5'"},
    "solvers.TorchDiffEqAdams": {"method": "'explicit_adams'"},
    "solvers.Tableau": {"order": "2", "c": "(0, 1)", "a": "((), (1,))", "b": "(0.5, 0.5)"},
    "solvers.Polynomial": {"variable": "processes.LAMBDA", "weights": "'exact'"},
    "solvers.Starter": {"solver": "solvers.DDIM()", "steps": "1"},
    "solvers.Restart": {"low": "0.0625", "high": "0.25"},
    "solvers.name_of": {"solver": "solvers.DDIM()"},
    "solvers.options_of": {"solver": "solvers.DDIM()"},
    "training.train": {"model": "trainable()", "loss": "training.simple"},
    "training.bound": {"model": "PICTURES", "x0": "PIXELS", "levels": "[VP.level(1.0), *LEVELS]",
                       "bins": "9"},
    "training.l_gamma": {"eta": "0.5"},
    "training.simple": {"eps": "X", "on": "'eps'"},
    "digits.load": {"path": "copied('digits.safetensors')", "process": "'cosine'"},
    "digits.recipe": {"process": "'cosine'"},
    "flowsolve.digits": {"process": "'cosine'", "weights": "copied('digits.safetensors')"},
    "digits.train_digits": {"out": "fresh()", "process": "'cosine'", "steps": "1"},
    "flowsolve.fashion": {"weights": "copied('fashion.safetensors')"},
    "fashion.train_fashion": {"data": "copied('squares.npz')", "out": "fresh()", "steps": "1"},
    "files.read_images": {"path": "copied('squares.npz')"},
    "quality.frechet": {"x": "PIXELS", "y": "PIXELS"},
    "quality.nearest": {"x": "PIXELS", "among": "PIXELS"},
    "preconditioned.Preconditioned": {"net": "Net()", "sigma_data": "0.5"},
    "PLAN.load": {"path": "copied('plan.json')"},
    "comparison().picture": {"path": "fresh() / 'x.png'"},
    "comparison().plot": {"path": "fresh() / 'x.svg'"},
    "flowsolve.CLD().at": {"variable": "'t'"},
    "flowsolve.Blurring(4).at": {"variable": "'t'"},
    "flowsolve.Blurring(4).state_shape": {"shape": "(4, 4)"},
    "MODEL.rows": {"n": "2"},
    "VP.level": {"t": "0.5"},
}  # fmt: skip
SPECIAL["training.l_gamma"]["levels"] = SPECIAL["training.bound"]["levels"]
#: Given in every call of this callable, beside what has no default.
ALWAYS: dict[str, tuple[str, ...]] = {
    **{
        f"conventions.{name}": ("shape",)
        for name in ("guided_diffusion", "score_sde", "edm", "flow_matching")
    },
    "conventions.guided_diffusion": ("shape", "steps", "learn_sigma"),
    "flowsolve.solve": ("solver", "nfe", "n", "seed"),
    "flowsolve.sample": ("n", "seed"),
    "flowsolve.plan": ("nfe",),
    "flowsolve.encode": ("nfe",),
    "flowsolve.reconstruct": ("nfe",),
    "flowsolve.log_likelihood": ("nfe",),
    "flowsolve.guided": ("unconditional",),
    "flowsolve.interpolate": ("nfe", "steps"),
    "flowsolve.edit": ("nfe", "seed"),
    "flowsolve.tune": ("effort", "n", "reference"),
    "flowsolve.inpaint": ("nfe", "seed", "noise"),
    "flowsolve.smc": ("nfe", "seed", "particles"),
    "flowsolve.compare": ("solvers", "nfe", "n"),
    "flowsolve.Denoiser": ("shape",),
    "exact.Mixture": ("covariances",),
    "training.bound": ("bins",),
    "training.train": ("steps", "batch_size"),
    "flowsolve.generate": ("out", "solver", "nfe", "n", "workers"),
    "digits.train_digits": ("steps", "progress"),
    "fashion.train_fashion": ("steps", "progress"),
}
#: Objects whose methods are called.
RECEIVERS = (
    "VP", "processes.VP.cosine()", "TABLE", "flowsolve.EDM()", "flowsolve.VE()",
    "flowsolve.SubVP()", "flowsolve.RectifiedFlow()", "flowsolve.TrigFlow()", "flowsolve.CLD()",
    "flowsolve.Blurring(4)", "MODEL", "LAW", "MIXTURE", "PLAN", "LATENT", "comparison()",
    "PLAN.push(MODEL, start=X)",
    "grids.Shift('karras', 2.0)",
    "grids.Uniform()", "grids.Karras()", "grids.Beta()", "grids.Logistic()", "grids.Shifted()",
    "grids.Explicit((1.0, 0.5, 0.0))",
    *(f"parametrizations.{name}()" for name in ("Eps", "X0", "V", "Velocity", "Score", "F", "SCM")),
)  # fmt: skip
MODULES = {
    "flowsolve": flowsolve, "exact": exact, "grids": grids, "processes": processes,
    "tables": tables, "solvers": solvers, "parametrizations": parametrizations,
    "training": training, "comparing": importlib.import_module("flowsolve.comparison"),
    "digits": digits, "quality": quality, "preconditioned": preconditioned, "unet": unet,
    "data": data, "fashion": fashion, "files": files, "clients": clients, "flows": flows,
    "conventions": conventions,
}  # fmt: skip

#: What is done with what a callable returned.
USES: tuple[tuple[type, str], ...] = (
    (solvers.Solver, "solved({})"),
    (grids.Grid, "ran(MODEL, grid={})"),
    (processes.Process, "on({})"),
    (Denoiser, "ran({})"),
    (flowsolve.Parametrization, "ran(Denoiser(net, VP, {}, (2,)))"),
    (flowsolve.Plan, "ran(MODEL, solver={}, nfe=None)"),
    (Push, "pushed({})"),
    (solvers.Tableau, "solved(solvers.RungeKutta({}))"),
    (solvers.Polynomial, "solved(solvers.Multistep({}))"),
    (solvers.Starter, "solved(solvers.Multistep(solvers.Polynomial(2), starter={}))"),
    (solvers.Row, "add({})"),
    (processes.Variable, "solved(solvers.Multistep(solvers.Polynomial(2, variable={})))"),
    (functools.partial, "ran(Denoiser(net, VP, 'eps', (2,), correct_x0={}))"),
)

#: Public, and not called here.
LEFT_OUT: dict[str, tuple[str, ...]] = {
    "records of results: nothing is done with what they are given": (
        "Comparison", "Measured", "Solution", "Particles", "State", "Prediction", "Linear",
        "Trained", "Bound", "Loss", "Recipe", "Split", "Images", "Quality", "BudgetExceeded",
        "NonFiniteError", "Table", "Tuned", "Reconstruction", "Likelihood", "Latent"),
    "called by the library, with what it has made": (
        "Evaluation", "Evaluator", "Ode", "Past", "Step", "drive", "step", "between", "steps",
        "rules", "descend", "singular", "shadow", "filler", "integrate", "methods", "examples",
        "operators", "signal_and_noise", "signal_and_noise_rates", "fractions", "indices",
        "values", "rounding", "trace", "cases", "denoiser", "cell", "title", "mix", "replaceable"),
    "the parts of an evaluation, called at each step with what the run has made": (
        "evaluate", "evaluate_both", "input", "output", "times", "linear", "label"),
    "made by flowsolve.plan, Plan.load and Plan.trace": ("Plan",),
    "its arguments are those of Denoiser": ("Exact",),
    "to be derived from": ("VariableGrid",),
    "a network, not called by itself": ("Residual", "Attention", "UNet", "forward"),
    "minutes of work, or needs what is not there": (
        "report", "measure", "accuracy", "bits_per_dimension", "main", "table", "require"),
    "what read_images and train_fashion call, with a name of the argument": ("images_of",),
}  # fmt: skip
NOT_CALLED = {name for names in LEFT_OUT.values() for name in names}
#: The same, where others have its name: it needs the extra ``diffusers`` and a saved pipeline.
NOT_THESE = {"flowsolve.load"}

#: Calls that contradict themselves, and an argument that the answer must name.
CONTRADICTIONS: tuple[tuple[str, str], ...] = (
    ("flowsolve.sample(MODEL, start=X, batch_size=2)", "start"),
    ("flowsolve.sample(MODEL, noise=NOISE, batch_size=2, n=2)", "noise"),
    ("flowsolve.sample(MODEL, solver=PLAN, nfe=3)", "nfe"),
    ("flowsolve.sample(MODEL, solver=PLAN, grid='karras')", "grid"),
    ("flowsolve.sample(MODEL, solver=PLAN, span=(0.9, None))", "span"),
    ("flowsolve.sample(MODEL, solver=PLAN, eta=1.0)", "eta"),
    ("flowsolve.sample(MODEL, solver='ddim', rtol=1e-3)", "rtol"),
    ("flowsolve.sample(MODEL, solver='heun', eta=1.0)", "eta"),
    ("flowsolve.sample(MODEL, solver='ddim', nfe=3, span=(0.1, 0.9))", "span"),
    ("flowsolve.sample(MODEL, solver='ddim', nfe=3, span=(0.5, 0.5))", "span"),
    ("flowsolve.sample(MODEL, solver='ddim', nfe=3, span=(2.0, 0.0))", "span"),
    ("flowsolve.sample(MODEL, solver='ddim', nfe=3, span=(1.0, -1.0))", "span"),
    ("flowsolve.sample(MODEL, grid=[0.1, 0.9])", "grid"),
    ("flowsolve.sample(MODEL, grid=[0.5])", "grid"),
    ("flowsolve.sample(MODEL, grid=[1.0, 0.5, 0.0], span=(0.9, 0.1))", "span"),
    ("flowsolve.sample(MODEL, grid=[3.0, 0.5, 0.0])", "grid"),
    ("flowsolve.sample(flowsolve.Denoiser(net, flowsolve.CLD(), 'eps', (2,)), grid='karras')",
     "grid"),
    ("flowsolve.sample(flowsolve.Denoiser(net, flowsolve.CLD(), 'eps', (2,)), solver=PLAN)",
     "process"),
    ("flowsolve.solve(MODEL, solver='ddpm', nfe=4, n=2, noise=NOISE[:1])", "noise"),
    ("flowsolve.solve(MODEL, solver='ddpm', nfe=4, n=3, noise=NOISE)", "noise"),
    ("flowsolve.encode(MODEL, X, solver='ddpm', nfe=3)", "eta"),
    ("flowsolve.encode(MODEL, X, solver=PLAN)", "solver"),
    ("flowsolve.encode(MODEL, X[:, :1], nfe=3)", "x"),
    ("flowsolve.plan('adaptive', VP)", "solver"),
    ("flowsolve.plan('scipy:RK45', VP, nfe=5)", "solver"),
    ("flowsolve.plan('ddim', MODEL, nfe=3)", "process"),
    ("flowsolve.plan(VP, 'ddim', nfe=3)", "process"),
    ("flowsolve.compare(MODEL, n=2, start=X, reference=X[:1], solvers='ddim', nfe=2)",
     "reference"),
    ("flowsolve.compare(MODEL, n=2, solvers=[], nfe=2)", "solvers"),
    ("flowsolve.compare(MODEL, n=2, solvers=['ddim', 'ddim'], nfe=2)", "solvers"),
    ("flowsolve.compare(MODEL, n=2, solvers='ddim', nfe=())", "nfe"),
    ("flowsolve.clip(1.0, -1.0)", "low"),
    ("flowsolve.clip(0.5, 0.5)", "low"),
    ("flowsolve.Denoiser(net, flowsolve.CLD(), 'v', (2,))", "predicts"),
    ("flowsolve.Denoiser(net, flowsolve.Blurring(4), 'eps', (2,))", "shape"),
    ("flowsolve.Denoiser(net, flowsolve.Blurring(4), 'eps', (5, 5))", "shape"),
    ("flowsolve.Denoiser(net, VP, 'eps')", "shape"),
    ("flowsolve.EDM(sigma_min=3.0, sigma_max=1.0)", "sigma_min"),
    ("flowsolve.VE(sigma_min=3.0, sigma_max=3.0)", "sigma_min"),
    ("flowsolve.VP(beta_min=20.0, beta_max=0.1)", "beta_min"),
    ("exact.Mixture(VP, [1.0], [[1.0], [2.0]])", "weights"),
    ("exact.Mixture(VP, [1.0, -1.0], [[1.0], [2.0]])", "weights"),
    ("exact.Mixture(VP, [1.0, 0.0], [[1.0], [2.0]])", "weights"),
    ("exact.Mixture(VP, [1.0, 1.0], [[1.0], [2.0]], [0.1])", "covariances"),
    ("exact.Gaussian(VP, [0.0, 0.0], -1.0)", "covariance"),
    ("exact.Gaussian(VP, [0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]])", "covariance"),
    ("exact.Gaussian(VP, [0.0, 0.0], torch.eye(3))", "covariance"),
    ("solvers.Restart(solvers.DDIM(), low=0.3, high=0.1)", "low"),
    ("solvers.Tableau(2, (0, 1), ((), (1,)), (0.3, 0.3))", "b"),
    ("solvers.Tableau(2, (0, 1), ((), (0.5,)), (0.5, 0.5))", "c"),
    ("solvers.Tableau(2, (0,), ((), (1,)), (0.5, 0.5))", "c"),
    ("solvers.Exponential([.5, .25, .1, .3])", "nodes"),
    ("tables.linear(5, start=0.02, stop=2.0)", "stop"),
    ("tables.zero_terminal_snr([0.1])", "betas"),
    ("training.train(trainable(), X, labels=torch.tensor([1]), null=3, steps=2)", "labels"),
    ("training.train(trainable(), X, labels=torch.tensor([1, 0]), steps=2)", "null"),
    ("training.train(trainable(), X, checkpoint=copied('run.pt'), steps=2, batch_size=1)",
     "checkpoint"),
    ("training.train(trainable(), X + 1, checkpoint=copied('run.pt'), steps=2, batch_size=2)",
     "checkpoint"),
    ("training.train(MODEL, X, steps=2)", "model"),
    ("training.train(trainable(), X, steps=2, checkpoint='/nonexistent/x.pt')", "checkpoint"),
    ("training.train(trainable(), PIXELS, steps=2)", "data"),
    ("flowsolve.digits(process='cld', weights=copied('digits.safetensors'))", "weights"),
    ("flowsolve.digits(11)", "label"),
    ("flowsolve.digits(torch.tensor([3, 12]))", "label"),
    ("VP.at('sigma', -1)", "value"),
    ("flowsolve.VE().at('sigma', 500.0)", "value"),
    ("flowsolve.VE().at('sigma', math.nan)", "value"),
    ("processes.VP.cosine().at('sigma', math.nan)", "value"),
    ("VP.time_of(math.nan)", "sigma"),
)  # fmt: skip
