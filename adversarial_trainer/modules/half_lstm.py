"""An LSTM in mixed precision, for training in bfloat16 on a CPU.

oneDNN's takes longer to go back through an LSTM in bfloat16 than in float32. Here each step is one
product with a matrix of half the bytes, which is what an LSTM waits for with few items, and the
gradients of all weights are three products after the last step: a third of the time. Gates, cells
and their gradients are in float32, which torch's own autocast leaves in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .conv import is_hooked, trains_on_cpu


class LSTMLayer(torch.autograd.Function):
    """One layer from a zero state: x [T, B, C] -> h [T, B, H], of the type of `recurrent`.

    With i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of the four quarters of
    (W x_t + b) + R h_{t-1}, it is c_t = f c_{t-1} + i g and h_t = o tanh(c_t).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
        steps, batch, _ = x.shape
        size = recurrent.shape[1]
        exact = torch.promote_types(recurrent.dtype, torch.float32)
        gates = (x @ weight.t()).to(exact) + bias.to(exact)  # [T, B, 4 H]
        cells = gates.new_zeros(steps + 1, batch, size)
        hidden = recurrent.new_zeros(steps + 1, batch, size)
        parts = (*gates.split(size, 2), gates[..., : 2 * size], gates)
        states = (cells[1:], cells[:-1], hidden[1:])
        last = None
        # Views made at once, and few small operations: each takes as long as 50,000 products.
        for i, f, g, o, i_f, gate, cell, before, out in _steps(*parts, *states):
            if last is not None:
                gate += (recurrent @ last.t()).t()
            i_f.sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(i, g, out=cell).addcmul_(f, before)
            torch.mul(cell.tanh(), o, out=out)
            last = out
        ctx.save_for_backward(x, weight, recurrent, gates, cells, hidden)
        return hidden[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight, recurrent, gates, cells, hidden = ctx.saved_tensors
        steps, batch, size = grad.shape
        i, f, g, o = gates.view(steps, batch, 4, size).unbind(2)
        # By what the gradients of cell and hidden state become those of the gates' sums.
        out = cells[1:].tanh()
        of_cell = torch.stack([g * i * (1 - i), cells[:-1] * f * (1 - f), i * (1 - g * g)], 2)
        of_hidden = out * o * (1 - o)
        through = o * (1 - out * out)
        each = gates.new_empty((steps, batch, 4, size), dtype=recurrent.dtype)
        sums = each.flatten(2)  # a view [T, B, 4 H]
        turned = recurrent.t().contiguous()
        ahead = gates.new_zeros(batch, size)  # of the cell, from the step behind
        behind = None
        factors = (grad.to(gates.dtype), through, f, of_cell, of_hidden)
        results = (each[:, :, :3], each[:, :, 3], sums)
        for dy, by, forget, by_cell, by_hidden, to_cell, to_hidden, here in reversed(
            list(_steps(*factors, *results))
        ):
            d_hidden = dy if behind is None else dy + (turned @ behind.t()).t()
            d_cell = torch.addcmul(ahead, d_hidden, by)
            torch.mul(by_cell, d_cell.unsqueeze(1), out=to_cell)
            torch.mul(by_hidden, d_hidden, out=to_hidden)
            ahead = d_cell * forget
            behind = here
        flat = sums.flatten(0, 1)  # [T B, 4 H]
        grad_x = (flat @ weight).view(x.shape) if ctx.needs_input_grad[0] else None
        grad_weight = flat.t() @ x.flatten(0, 1)
        grad_recurrent = flat.t() @ hidden[:-1].flatten(0, 1)
        return grad_x, grad_weight, grad_recurrent, flat.sum(0)


def _steps(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of all tensors, step by step."""
    return zip(*(tensor.unbind() for tensor in tensors), strict=True)


def pays(lstm: nn.LSTM, x: Tensor) -> bool:
    """Whether `run_half` does what `lstm` would do with `x` here, and faster."""
    return (
        trains_on_cpu(x)
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and not is_hooked(lstm)
    )


def run_half(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """The output of `lstm` for x [T, B, C], in bfloat16.

    Args:
        lstm: with biases, without projections, in one direction, without dropout.
    """
    with torch.autocast("cpu", enabled=False):
        for layer in range(lstm.num_layers):
            weight, recurrent, *biases = (
                getattr(lstm, f"{kind}_l{layer}")
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            half = (part.to(torch.bfloat16) for part in (x, weight, recurrent))
            x = LSTMLayer.apply(*half, biases[0] + biases[1])
    return x
