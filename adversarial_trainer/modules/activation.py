"""torch.nn's activations by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

# Those that need no arguments, keep the shape and treat each position by itself.
ACTIVATIONS = (
    *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity"),
    *("LeakyReLU", "LogSigmoid", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU"),
    *("Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink"),
)


def get_activation(
    name: str, params: Mapping[str, Any] | None = None, key: str = "activation"
) -> nn.Module:
    """Return `torch.nn.<name>(**params)`, for a name in `ACTIVATIONS`.

    Errors name the arguments `<key>` and `<key>_params`.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"Unknown {key} {name!r}. Choices: {', '.join(ACTIVATIONS)}")
    try:
        return getattr(nn, name)(**(params or {}))
    except TypeError as error:
        raise ValueError(f"{key}_params {dict(params or {})} do not fit {name}: {error}") from error
