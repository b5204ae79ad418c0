"""Plans: traced once, folded for the model, equal where the methods are."""

import pickle
from dataclasses import fields

import pytest
import torch
from mpmath import mp, mpf
from problems import EXAMPLES, F64, FIXED, PROCESSES, elementwise, mixture

import flowsolve
from flowsolve.coordinates import DATA, FLOW, NOISE
from flowsolve.parametrizations import Parametrization
from flowsolve.plans import Combine, Evaluate, Plan, Program
from flowsolve.processes import FLOW_TIME, LAMBDA
from flowsolve.run import BudgetExceeded, NonFiniteError, layout
from flowsolve.solvers import DDIM, Multistep, Polynomial
from flowsolve.solvers.weights import Interval

SOLVERS = ["ddim", "ddpm", "ddpm_large", "heun", "rk4", "ab2", "ab4"]


def live(solver):
    """The same solver with arithmetic that depends on the data, as far as anyone can know: it runs
    on tensors, one evaluation and one step at a time."""
    kind = type(f"Live{type(solver).__name__}", (type(solver),), {"fixed": False})
    return kind(**{field.name: getattr(solver, field.name) for field in fields(solver)})


@pytest.mark.sweep(keep=40)
@pytest.mark.parametrize("predicts", Parametrization.known)
@pytest.mark.parametrize("solver", FIXED)
def test_a_plan_does_what_the_steps_do(solver, predicts):
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], predicts, (3,), dtype=F64)
    start, z = torch.randn(2, 3, dtype=F64), torch.randn(99, 2, 3, dtype=F64)
    rule = flowsolve.solvers.find_solver(solver)[0]
    for nfe in (1, 2, 13):
        planned, stepped = (
            flowsolve.solve(model, solver=s, nfe=nfe, start=start, noise=z, keep=("path", "x0"))
            for s in (rule, live(rule))
        )
        assert planned.nfe == stepped.nfe and planned.grid == stepped.grid
        for a, b in (
            (planned.x, stepped.x),
            (planned.path, stepped.path),
            (planned.x0_path, stepped.x0_path),
        ):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("predicts", Parametrization.known)
def test_the_end_is_the_last_x0_whatever_is_predicted(predicts):
    """A DDIM loop written by hand, with the prediction taken apart by hand."""
    process = PROCESSES["vp"]
    model = flowsolve.Denoiser(elementwise, process, predicts, (3,), dtype=F64)
    x = torch.randn(2, 3, dtype=F64)
    solution = flowsolve.solve(model, solver="ddim", nfe=5, start=x)
    for s, t in zip(solution.grid, solution.grid[1:], strict=False):
        x0, eps = model(x, s)
        torch.testing.assert_close(s.A @ x0 + s.R @ eps, x, rtol=1e-9, atol=1e-11)
        x = t.A @ x0 + t.R @ eps
    torch.testing.assert_close(solution.x, x, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(solution.x, x0, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("process", PROCESSES)
def test_ddim_is_one_plan_in_all_coordinates(process):
    model = mixture(PROCESSES[process])
    results = [
        flowsolve.sample(model, solver=DDIM(coordinates=c), nfe=8, n=4, seed=0)
        for c in (NOISE, DATA, FLOW)
    ]
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=0, atol=1e-11)


def test_a_ddim_step_is_two_terms():
    run = layout(DDIM(), PROCESSES["vp"], None, 20, (None, None))
    assert isinstance(run.plan, Plan) and run.plan.nfe == 20 and run.plan.draws == 0
    assert all(len(i.terms) <= 2 for i in run.plan.program if isinstance(i, Combine))
    assert layout(DDIM(), PROCESSES["vp"], None, 20, (None, None)) is run, "laid out once"


def test_start_is_not_modified():
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], "eps", (3,))
    start = torch.randn(2, 3)
    kept = start.clone()
    for solver in SOLVERS:
        flowsolve.solve(model, solver=solver, nfe=7, start=start)
    assert torch.equal(start, kept)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_prediction_is_the_same_in_all_coordinates(process):
    process = PROCESSES[process]
    level = process.at("sigma", 0.7)
    x0, eps = torch.randn(5, dtype=F64), torch.randn(5, dtype=F64)
    x = level.A @ x0 + level.R @ eps
    for a in (NOISE, DATA, FLOW):
        for b in (NOISE, DATA, FLOW):
            on_x, on_p = a.convert(b, level)
            converted = on_x @ x + on_p @ (a.p_of[0] * x0 + a.p_of[1] * eps)
            torch.testing.assert_close(
                converted, b.p_of[0] * x0 + b.p_of[1] * eps, rtol=0, atol=1e-12
            )


@pytest.mark.parametrize("order", [2, 3, 4])
def test_exponential_adams_weights_against_mpmath(order):
    """C_j = R_t ∫ ℓ_j(λ) d(e^λ) for scattered nodes, by adaptive quadrature in 30 digits."""
    process = PROCESSES["vp"]
    nodes = [process.at("sigma", s) for s in (1.0, 1.7, 2.0, 4.5)[:order]]
    t = process.at("sigma", 0.4)
    got = Interval(process, DATA, LAMBDA, nodes[0], t).weights(nodes)
    with mp.workdps(30):
        places = [mpf(n.lam) for n in nodes]
        for j, c in enumerate(got):

            def integrand(u, j=j):
                return mp.exp(u) * mp.fprod(
                    (u - p) / (places[j] - p) for k, p in enumerate(places) if k != j
                )

            exact = mpf(t.R.value) * mp.quad(integrand, [places[0], mpf(t.lam)])
            assert c.value == pytest.approx(float(exact), rel=1e-11, abs=1e-13)


def test_flow_euler_is_ddim():
    model = flowsolve.Denoiser(
        elementwise, PROCESSES["rectified_flow"], "velocity", (3,), dtype=F64
    )
    a, b = (
        flowsolve.sample(model, solver=solver, nfe=9, n=2, seed=0)
        for solver in ("flow_euler", "ddim")
    )
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "process",
    [
        flowsolve.VP(beta_max=19.0),
        flowsolve.CLD(gamma=0.05),
        flowsolve.Blurring((3, 8), sigma_max=3.0),
    ],
)
def test_what_is_kept_from_inference_mode_takes_gradients(process):
    """Coefficients are made once; a tensor made in inference mode may not be in a graph later."""
    model = flowsolve.Denoiser(lambda x, t: torch.tanh(x), process, "x0", (2, 3, 8))
    start = torch.randn(2, *model.state_shape, dtype=torch.float64, requires_grad=True)
    with torch.inference_mode():
        plain = flowsolve.sample(model, solver="ab3", nfe=5, start=start)
    x = flowsolve.sample(model, solver="ab3", nfe=5, start=start, differentiable=True)
    (gradient,) = torch.autograd.grad(x.sum(), start)
    assert torch.equal(x, plain) and gradient.isfinite().all() and gradient.any()


class Reusing:
    """A network that answers into the same memory every time."""

    def __init__(self):
        self.buffer, self.answers = torch.empty(2, 3, dtype=F64), []

    def __call__(self, x, t):
        torch.mul(torch.sin(3 * x), 0.5, out=self.buffer)
        self.answers.append(self.buffer.clone())
        return self.buffer


@pytest.mark.parametrize("process", ["vp", "rectified_flow"])
@pytest.mark.parametrize("solver", ["ab3", "etd3", "unipc3", "vpc3", "rk4"])
def test_sums_are_made_in_the_run_s_own_memory_only(solver, process):
    """Whatever terms a plan has, of weight zero too, as edited ones may: what the network has
    answered and what the caller has given are as they were."""
    process = PROCESSES[process]
    whole = flowsolve.plan(solver, process, nfe=6)
    for k, i in enumerate(whole.program):
        if not isinstance(i, Combine):
            continue
        for term in i.terms:
            edited = i._replace(terms={**i.terms, term: i.terms[term] * 0.0})
            before, after = whole.program.instructions[:k], whole.program.instructions[k + 1 :]
            plan = Plan(Program(whole.program.start, (*before, edited, *after)))
            net, start = Reusing(), torch.randn(2, 3, dtype=F64)
            kept = start.clone()
            model = flowsolve.Denoiser(net, process, "v", (3,), dtype=F64)
            got = flowsolve.sample(model, solver=plan, start=start)
            assert torch.equal(start, kept) and torch.equal(net.buffer, net.answers[-1])
            safe = flowsolve.Denoiser(
                lambda x, t: 0.5 * torch.sin(3 * x), process, "v", (3,), dtype=F64
            )
            end = flowsolve.sample(safe, solver=plan, start=start)
            torch.testing.assert_close(got, end, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("process", ["rectified_flow", "cosine", "trig_flow"])
def test_a_polynomial_in_flow_time_begins_at_pure_noise(process):
    """Where the flow's time is finite and σ̄ is not."""
    solver = Multistep(Polynomial(2, DATA, FLOW_TIME), Polynomial(3, DATA, FLOW_TIME))
    model = mixture(PROCESSES[process])
    start = model.process.prior(model.process.start) @ torch.randn(8, 2, dtype=F64)
    end = flowsolve.sample(model, solver="etd4", grid="logsnr", nfe=400, start=start)
    errors = [
        (flowsolve.sample(model, solver=solver, nfe=nfe, start=start) - end).abs().max()
        for nfe in (20, 40)
    ]
    assert errors[1] < errors[0] < 0.5


@pytest.mark.parametrize("predicts", Parametrization.known)
def test_a_plan_that_asks_on_clean_data_is_refused(predicts):
    plan = flowsolve.plan("ddim", PROCESSES["vp"], nfe=3)
    k = max(k for k, i in enumerate(plan.program) if isinstance(i, Evaluate))
    wrong = list(plan.program.instructions)
    wrong[k] = wrong[k]._replace(level=PROCESSES["vp"].clean)
    model = flowsolve.Denoiser(elementwise, PROCESSES["vp"], predicts, (3,))
    with pytest.raises(ValueError, match="not defined on clean data"):
        flowsolve.sample(model, solver=Plan(Program(plan.program.start, tuple(wrong))))


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_the_library_makes_can_be_pickled(name):
    process = EXAMPLES[name]
    shape = getattr(process, "size", (2,))
    model = flowsolve.Denoiser(
        elementwise, process, "x0", shape, correct_x0=flowsolve.clip(-2.0, 2.0)
    )
    solution = flowsolve.solve(model, nfe=4, n=2, seed=0, keep=("path", "x0"))
    plan = flowsolve.plan("auto", process, nfe=6)
    errors = (
        BudgetExceeded(3, solution.x, process.start),
        NonFiniteError(solution.x, process.start, 2, [0]),
    )
    for thing in (process, process.start, plan, solution, model, *errors):
        again = pickle.loads(pickle.dumps(thing))
        assert type(again) is type(thing) and str(again) == str(thing)
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan and torch.equal(
        flowsolve.sample(model, solver=again, seed=0), flowsolve.sample(model, solver=plan, seed=0)
    )


def test_every_solver_can_be_pickled():
    for row in flowsolve.solver_table():
        assert pickle.loads(pickle.dumps(row.solver)) == row.solver
