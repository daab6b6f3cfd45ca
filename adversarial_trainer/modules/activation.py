"""torch.nn's activations by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules import activation as activations

# torch.nn's activations, less those that need arguments, change the shape or mix positions.
ACTIVATIONS = tuple(
    sorted(
        set(activations.__all__)
        - {
            "GLU",
            "LogSoftmax",
            "MultiheadAttention",
            "Softmax",
            "Softmax2d",
            "Softmin",
            "Threshold",
        }
    )
)


def get_activation(
    name: str, params: Mapping[str, Any] | None = None, key: str = "activation"
) -> nn.Module:
    """Build `torch.nn.<name>(**params)`, for a name in `ACTIVATIONS`.

    Errors name the arguments `<key>` and `<key>_params`.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"Unknown {key} {name!r}. Choices: {', '.join(ACTIVATIONS)}")
    try:
        return getattr(nn, name)(**(params or {}))
    except TypeError as error:
        raise ValueError(f"{key}_params {dict(params or {})} do not fit {name}: {error}") from error
