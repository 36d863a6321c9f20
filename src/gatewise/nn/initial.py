"""The initial weights of the model of a task."""

import torch
from torch import nn

from gatewise.nn.recurrent import Recurrent


@torch.no_grad()
def draw_weights(
    model: nn.Module,
    init_scale: float,
    forget_bias: float,
    decoder_std: float = 0.0,
    decoder_bias: float = 0.0,
    generator: torch.Generator | None = None,
) -> None:
    """Initialize the weights of a model.

    Weights are uniform in ±init_scale and recurrent biases 0; with an ``init_scale`` of 0, each module keeps its own
    initialization. ``forget_bias`` is added to the forget gate's ``bias_ih`` in every layer of the stack named ``rnn``.

    Args:
        model: the model; its parameters are drawn in their order.
        init_scale: half the width of the uniform distribution.
        forget_bias: 0 for none.
        decoder_std: if above 0, the weights of the layer named ``decoder`` are normal with this standard deviation,
            truncated at two deviations, and its bias is ``decoder_bias``.
        decoder_bias: see ``decoder_std``.
        generator: the random generator; torch's default if not given.
    """
    if init_scale:
        for name, parameter in model.named_parameters():
            if "rnn.bias" in name:
                parameter.zero_()
            else:
                parameter.uniform_(-init_scale, init_scale, generator=generator)
    for name, stack in model.named_modules():
        if forget_bias and isinstance(stack, Recurrent) and name == "rnn":
            for _, _, suffix in stack.spec.passes():
                bias = stack.get_parameter(f"bias_ih_{suffix}")
                bias.chunk(len(stack.spec.gates))[stack.spec.gates.index("f")].add_(forget_bias)
    if decoder_std:
        decoder = model.get_submodule("decoder")
        assert isinstance(decoder, nn.Linear)
        cut = 2 * decoder_std
        nn.init.trunc_normal_(decoder.weight, std=decoder_std, a=-cut, b=cut, generator=generator)
        nn.init.constant_(decoder.bias, decoder_bias)
