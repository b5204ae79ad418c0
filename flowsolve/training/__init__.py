"""Training, as the shipped models were::

    net = flowsolve.models.unet.UNet()
    model = flowsolve.Denoiser(net, flowsolve.VP.cosine(), predicts="v", shape=(1, 8, 8))
    trained = train(model, images, labels=labels, null=10, steps=3000, checkpoint="run.pt")
    x = flowsolve.sample(trained.model, nfe=20)

:mod:`~flowsolve.training.loop` is the loop, :mod:`~flowsolve.training.objectives` what it
minimises, :mod:`~flowsolve.training.bounds` the variational bound.
"""

from .bounds import Bound, bound, gamma, l_gamma
from .loop import Trained, train
from .objectives import Loss, simple

__all__ = ["Bound", "Loss", "Trained", "bound", "gamma", "l_gamma", "simple", "train"]
