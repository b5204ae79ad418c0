"""What a type checker sees of the library: ``make lint`` has pyright read this, and
test_typing.py runs it."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import assert_type

import flowsolve
from flowsolve.operators import Block, Diagonal


def net(x: Tensor, t: Tensor) -> Tensor:
    return x * t.view(-1, 1).to(x)


model = flowsolve.Denoiser(net, flowsolve.VP(), predicts="eps", shape=(2,))
x = flowsolve.sample(model, solver="ddim", nfe=20, n=4, seed=0)
assert_type(x, Tensor)

solution = flowsolve.solve(model, solver=flowsolve.solvers.DDIM(eta=0.5), nfe=4, keep="path")
assert_type(solution, flowsolve.Solution)
assert_type(solution.x, Tensor)
assert_type(solution.path, "Tensor | None")
assert_type(solution.nfe, int)
flowsolve.solve(model, start=x, noise=lambda k: torch.randn(4, 2), nfe=4)
assert_type(flowsolve.encode(model, x, nfe=4), Tensor)
assert_type(flowsolve.compare(model, solvers=("ddim", "etd3"), nfe=(2, 3), n=2).rmse, Tensor)
flowsolve.compare(model, solvers=flowsolve.solvers.DDIM(), nfe=3, n=2)
flowsolve.compare(model, solvers={"mine": ("ddim", "karras(rho=5)")}, nfe=3, n=2)

prediction = model(x, 0.5)
assert_type(prediction.x0, Tensor)
assert_type(model.evaluate(x, model.process.level(0.5)), Tensor)
flowsolve.Denoiser(net, flowsolve.EDM(), shape=(2,), correct_x0=flowsolve.clip())
flowsolve.Denoiser(net, flowsolve.VP(), shape=(2,), correct_x0=lambda x0, level: x0 * level.t)

assert_type(flowsolve.VP().level(0.5).A.value, float)
assert_type(flowsolve.VP().level(0.5).sigma, float)
assert_type(flowsolve.CLD().level(0.5).A, Block)
assert_type(flowsolve.Blurring(8).level(0.5).R, Diagonal)
plan = flowsolve.plan("ddim", flowsolve.VP(), nfe=4)
assert_type(plan.levels[0].t, float)
print(plan.levels[0].A.value)  # a plan does not know the kind of its process; a checker lets it be

assert_type(flowsolve.solver_table()[0].name, str)

law = flowsolve.exact.Gaussian(flowsolve.VP(), torch.zeros(2))
assert_type(law.draw(3), Tensor)
assert_type(law.flow(law.draw(3), 0.5, 0.1), Tensor)
assert_type(law.log_density(law.draw(3), 0.5), Tensor)
