"""Tasks to try ideas on: other nets, data, optimizers and lengths than those of the tables.

None of them is a task of the benchmark, and none resembles one that is held out in all of its
data, net and optimizer.
"""

import functools

from torch import nn
from torch.optim import SGD, Adam, AdamW

from benchmarks.quality import data, nets
from benchmarks.quality.tasks import MOMENTUM, Spec, fine_tuned, raw, raw_net

P = functools.partial
_DIGITS, _MNIST, _SMALL = data.digits, P(data.mnist, 14), P(data.mnist, 8)
_PATCHES = P(data.patches, data.COLOURED, 12, 300, 40)
_NOISY = P(data.denoising, 12, 250, 0.15)
_MEAN = nn.MSELoss()


def _few() -> data.Data:
    return data.turned(data.mnist(), 300)


def _wrong(share: float) -> data.Data:
    return data.noisy(data.digits(), share, 10)


PRACTICE = {
    spec.name: spec
    for spec in (
        Spec("digits CNN, AdamW", nets.SmallCNN, _DIGITS, AdamW, 32, 300),
        Spec("digits CNN, SGD", nets.SmallCNN, _DIGITS, SGD, 16, 600),
        Spec("digits CNN, short", nets.SmallCNN, _DIGITS, MOMENTUM, 128, 120),
        Spec("digits normed, momentum", nets.normed, _DIGITS, MOMENTUM, 64, 300),
        Spec("digits noisy, SGD", nets.normed, P(_wrong, 0.3), SGD, 16, 400),
        Spec("digits noisy, CNN", nets.SmallCNN, P(_wrong, 0.2), Adam, 32, 400),
        Spec("MNIST LeNet, Adam", nets.lenet, data.mnist, Adam, 64, 150),
        Spec("MNIST LeNet, momentum", nets.lenet, data.mnist, MOMENTUM, 32, 250),
        Spec("MNIST ResNet, AdamW", P(nets.ResNet, 1, 4, 10), _MNIST, AdamW, 32, 200),
        Spec("MNIST ResNet, SGD", P(nets.ResNet, 1, 4, 10), _MNIST, SGD, 64, 150),
        Spec("MNIST deep, momentum", P(nets.deep, 6, 6, 10), _SMALL, MOMENTUM, 64, 300),
        Spec("MNIST deep, AdamW", P(nets.deep, 12, 6, 10), _SMALL, AdamW, 32, 350),
        Spec("MNIST fine-tuned, momentum", fine_tuned, _few, MOMENTUM, 32, 120),
        Spec("MNIST fine-tuned, Adam", fine_tuned, _few, Adam, 64, 100),
        Spec("MNIST raw, Adam", raw_net, raw, Adam, 64, 200),
        Spec("MNIST VGG, momentum", P(nets.vgg, 1, 4, 10, 8), _SMALL, MOMENTUM, 64, 500),
        Spec("patches VGG, AdamW", P(nets.vgg, 3, 6, 10, 12), _PATCHES, AdamW, 32, 250),
        Spec("patches VGG, SGD", P(nets.vgg, 3, 6, 10, 12), _PATCHES, SGD, 16, 400),
        Spec(
            "patches depthwise, momentum", P(nets.depthwise, 3, 8, 10), _PATCHES, MOMENTUM, 32, 250
        ),
        Spec("patches ResNet, momentum", P(nets.ResNet, 3, 4, 10), _PATCHES, MOMENTUM, 64, 200),
        Spec("denoising plain, Adam", P(nets.plain, 8), _NOISY, Adam, 32, 200, _MEAN),
        Spec("denoising plain, momentum", P(nets.plain, 8), _NOISY, MOMENTUM, 16, 400, _MEAN),
        Spec("denoising U-Net, momentum", P(nets.UNet, 4), _NOISY, MOMENTUM, 16, 250, _MEAN),
        Spec("denoising U-Net, normed", P(nets.UNet, 3, norm=True), _NOISY, Adam, 16, 200, _MEAN),
    )
}
