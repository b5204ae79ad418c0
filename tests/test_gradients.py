"""Gradients through runs: plain, from checkpoints, in constant memory."""

import pytest
import torch
from problems import F64, MATRIX_PROCESSES

import flowsolve

PROCESSES = {"cosine": flowsolve.VP.cosine(), "rf": flowsolve.RectifiedFlow()}


class Net(torch.nn.Module):
    def __init__(self, dtype=F64, width=8):
        super().__init__()
        self.first = torch.nn.Linear(4, width, dtype=dtype)
        self.last = torch.nn.Linear(width, 3, dtype=dtype)
        with torch.no_grad():
            for k, each in enumerate(self.parameters()):
                each.copy_(0.5 * torch.sin(torch.arange(each.numel()) * 1.7 + k).view(each.shape))
        self.eval()

    def forward(self, x, t, y=None):
        x.mul_(1.1)  # works in place
        h = self.first(torch.cat([x, t[:, None].to(x)], 1))
        return self.last(torch.tanh(h)) + (0.0 if y is None else y)


def model_of(net, process="cosine"):
    return flowsolve.Denoiser(net, PROCESSES[process], "v", (3,))


def given(dtype=F64):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, 3, generator=generator, dtype=F64).to(dtype).requires_grad_() for _ in "ab"
    ]


def found(memory, solver, nfe=8, dtype=F64, process="cosine", **how):
    """The end of a run, and its gradients to start, conditioning and weights."""
    net, (start, y) = Net(dtype), given(dtype)
    model = model_of(net, process).given(y=y, per_sample=["y"])
    how |= {} if solver is None else {"solver": solver}
    x = flowsolve.sample(model, nfe=nfe, start=start, differentiable=True, memory=memory, **how)
    return [x, *torch.autograd.grad(x.square().sum(), [start, y, *net.parameters()])]


@pytest.mark.parametrize("solver", ["ddim", "ab3", "heun", "unipc3", "vpc3", "auto", "rk4"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_checkpoints_are_plain_to_the_bit(solver, dtype):
    for a, b in zip(
        found(None, solver, dtype=dtype), found("checkpoint", solver, dtype=dtype), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("solver", ["ddim", "ab3", "heun", "unipc3", "auto", None])
def test_gradcheck(solver):
    memory = "constant" if solver is None else "checkpoint"
    net = Net(width=3)
    how = {} if solver is None else {"solver": solver}

    def end(start, y, weight):
        with torch.no_grad():
            net.first.weight.copy_(weight)
        model = model_of(net).given(y=y, per_sample=["y"])
        return flowsolve.sample(
            model, nfe=5, start=start, differentiable=True, memory=memory, **how
        )

    start, y = given()
    assert torch.autograd.gradcheck(lambda a, b: end(a, b, net.first.weight.detach()), (start, y))


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("nfe", [2, 9, 40])
def test_constant_memory_gives_the_gradients_of_the_same_method(process, nfe):
    """The leapfrog written out, with everything kept."""
    from flowsolve.leapfrog import Track, times_of

    got = found("constant", None, nfe, process=process)
    net, (start, y) = Net(), given()
    model = model_of(net, process).given(y=y, per_sample=["y"])
    levels = tuple(map(model.process.level, times_of(model.process, nfe - 1)))
    track = Track(model, levels, lattice=False)
    x = start / (levels[0].A.value + levels[0].R.value)
    x, _ = track.along(x, track.first(x, levels[0]), upward=False)
    want = [x, *torch.autograd.grad(x.square().sum(), [start, y, *net.parameters()])]
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


class Kept:
    """The bytes that autograd keeps for the way back."""

    def __enter__(self):
        self.bytes, self.seen = 0, set()
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda x: x)
        self.hooks.__enter__()
        return self

    def pack(self, x):
        if x.data_ptr() not in self.seen:
            self.seen.add(x.data_ptr())
            self.bytes += x.numel() * x.element_size()
        return x

    def __exit__(self, *error):
        self.hooks.__exit__(*error)


def test_what_is_kept():
    """Of a wide network: plain keeps all its activations, checkpoints the states, constant memory
    nothing that grows."""
    kept = {}
    for memory in (None, "checkpoint", "constant"):
        for nfe in (10, 200):
            net = Net(torch.float32, width=512)
            start = given(torch.float32)[0]
            how = {} if memory == "constant" else {"solver": "ddim"}
            with Kept() as watch:
                flowsolve.sample(
                    model_of(net), nfe=nfe, start=start, differentiable=True, memory=memory, **how
                )
            kept[memory, nfe] = watch.bytes
    assert kept["constant", 200] == kept["constant", 10]
    assert kept["checkpoint", 200] < 0.1 * kept[None, 200]
    assert kept[None, 200] > 10 * kept[None, 10]


def test_guided_models_have_gradients_in_constant_memory():
    bad, good = Net(), Net()
    model = flowsolve.guided(model_of(good), other=model_of(bad), scale=2.0)
    start = given()[0]
    x = flowsolve.sample(model, nfe=5, start=start, differentiable=True, memory="constant")
    gradients = torch.autograd.grad(x.sum(), [start, good.last.weight, bad.last.weight])
    assert all(float(each.abs().sum()) > 0 for each in gradients)


def test_its_end_is_near_that_of_another_method():
    x = found("constant", None, 100)[0]
    y = found(None, "auto", 100)[0]
    torch.testing.assert_close(x, y, rtol=0, atol=1e-3)


def test_no_gradient_is_asked_for():
    start = given()[0].detach()
    with torch.no_grad():
        x = flowsolve.sample(
            model_of(Net().requires_grad_(False)), nfe=5, start=start, differentiable=True,
            memory="constant",
        )  # fmt: skip
    assert not x.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"differentiable": False}, "memory='constant': expected differentiable=True as well"),
        ({"solver": "ddim"}, "solver='ddim' cannot be given with memory='constant'"),
        ({"grid": "karras"}, "grid='karras' cannot be given"),
        ({"keep": "path"}, "keep='path' cannot be given"),
        ({"callback": print}, "callback=.* cannot be given"),
        ({"eta": 1.0}, "eta=1.0 cannot be given"),
        ({"memory": "konstant"}, "memory='konstant' is not known. Did you mean 'constant'"),
        ({"nfe": 1}, "nfe=1: memory='constant' takes 2 evaluations or more"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change, message):
    how = {"memory": "constant", "differentiable": True, "nfe": 4, "n": 2, **change}
    with pytest.raises(ValueError, match=message):
        flowsolve.solve(model_of(Net()), **how)


def test_matrices_have_checkpoints_and_no_constant_memory():
    for name in MATRIX_PROCESSES:
        model = flowsolve.digits(3, process=name)
        how = {"nfe": 3, "n": 1, "seed": 0, "differentiable": True}
        assert torch.equal(
            flowsolve.sample(model, memory="checkpoint", **how), flowsolve.sample(model, **how)
        )
        with pytest.raises(ValueError, match="are matrices, and the reversible leapfrog"):
            flowsolve.sample(model, memory="constant", **how)
