"""Where training starts from: the initial weights of a task's model."""

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
    """Draw a model's weights.

    Uniform in ±init_scale with recurrent biases 0; or, with an ``init_scale`` of 0, as each module drew its own when it
    was made. ``forget_bias`` is added to the forget gate's ``bias_ih`` in every layer of the stack called ``rnn``.

    Args:
        model: what is drawn, in the order of its parameters.
        init_scale: half the width of the draw.
        forget_bias: 0 for none.
        decoder_std: above 0, the weights of the layer called ``decoder`` are normal with this deviation, cut at two,
            and its bias is ``decoder_bias``.
        decoder_bias: see there.
        generator: draws; torch's own where not given.
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
