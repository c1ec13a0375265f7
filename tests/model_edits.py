"""Edits of a model or one of its layers: freezing, hooks, parametrizations, patches ..."""

import warnings

import torch
from torch import nn
from torch.nn.utils import parametrizations


class Counter:
    """A hook that remembers in itself how often it was called."""

    def __init__(self):
        self.calls = 0

    def __call__(self, *_):
        self.calls += 1


def freeze(_model, layer):
    layer.requires_grad_(requires_grad=False)


def freeze_bias(_model, layer):
    if layer.bias is not None:
        layer.bias.requires_grad_(requires_grad=False)


def evaluate_part(_model, layer):
    layer.eval()


def evaluate(model, _layer):
    model.eval()


def forward_hook(_model, layer):
    layer.register_forward_hook(Counter())


def forward_pre_hook(model, _layer):
    model.register_forward_pre_hook(Counter())


def backward_hook(model, _layer):
    model[-1].register_full_backward_hook(Counter())


def gradient_hook(_model, layer):
    if layer.weight.requires_grad:
        layer.weight.register_hook(Counter())
        layer.weight.register_post_accumulate_grad_hook(Counter())


def hook_that_counts_elsewhere(_model, layer):
    calls = []
    layer.register_forward_hook(lambda *_: calls.append(1))


def attribute_of_a_weight(_model, layer):
    layer.weight.group, layer.weight.owners = "slow", ["me"]


def by_channels(_model, layer):
    if layer.weight.ndim == 4:
        layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)


def expanded(_model, layer):
    layer.requires_grad_(requires_grad=False)
    layer.weight.data = layer.weight.data[:1, :1].expand(layer.weight.shape)


def weight_norm(_model, layer):
    parametrizations.weight_norm(layer)


def spectral_norm(_model, layer):
    parametrizations.spectral_norm(layer)


def orthogonal(_model, layer):
    parametrizations.orthogonal(layer)


def older_weight_norm(_model, layer):
    with warnings.catch_warnings(action="ignore"):
        nn.utils.weight_norm(layer)


def older_spectral_norm(_model, layer):
    nn.utils.spectral_norm(layer)


def hook_that_writes_into_the_model(model, layer):
    layer.register_forward_hook(lambda _part, _inputs, outputs: setattr(model, "seen", outputs))


def gradient_hook_that_reads_the_model(model, layer):
    if layer.weight.requires_grad:
        layer.weight.register_hook(lambda gradient: gradient * model.training)
    else:
        hook_that_writes_into_the_model(model, layer)


def patched(_model, layer):
    plain = layer.forward
    layer.forward = lambda maps: plain(maps) * 2


def uncopied(_model, layer):
    layer.__class__ = type("Uncopied", (type(layer),), {"__deepcopy__": lambda self, _memo: self})


def result_kept(_model, layer):
    layer.latest = torch.ones(1, requires_grad=True) * 2


HARMLESS = {
    done.__name__: done
    for done in (
        freeze,
        freeze_bias,
        evaluate_part,
        evaluate,
        forward_hook,
        forward_pre_hook,
        backward_hook,
        gradient_hook,
        hook_that_counts_elsewhere,
        attribute_of_a_weight,
        by_channels,
        expanded,
        weight_norm,
        spectral_norm,
        orthogonal,
        older_spectral_norm,
    )
}
IN_THE_WAY = {
    done.__name__: done
    for done in (
        older_weight_norm,
        hook_that_writes_into_the_model,
        gradient_hook_that_reads_the_model,
        patched,
        result_kept,
        uncopied,
    )
}
"""No copy is free of the model: it has to be refused, and the same made by a function taken."""
