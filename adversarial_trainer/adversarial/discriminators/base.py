"""Base classes of discriminators and of their parts, and several families of them as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from adversarial_trainer.modules.activation import get_activation
from adversarial_trainer.modules.checks import check_sizes

FeatureMapType = list[Tensor]
LogitsType = Tensor
MultiDiscriminatorOutputType = tuple[list[LogitsType], list[FeatureMapType]]


class MultiDiscriminator(nn.Module):
    """Discriminator composed of sub-discriminators that judge the audio at different scales.

    They are in `self.discriminators` and share no weights, so each can be run and trained on its
    own with `forward_one`.

    Args:
        discriminators: Sub-discriminators.
        names: Short name of each; repeated ones are numbered. None: sub1, sub2, ...

    Shape:
        - input: audio [B, C, T]
        - output: `num_discriminators` logits, and as many lists of feature maps
    """

    def __init__(self, discriminators: Iterable[nn.Module] = (), names: Iterable[str] = ()) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(discriminators)
        self._names = distinct(names)

    @property
    def num_discriminators(self) -> int:
        """Number of sub-discriminators."""
        return len(self.discriminators)

    @property
    def names(self) -> list[str]:
        """Short name of each sub-discriminator, for metrics."""
        return self._names or [f"sub{index + 1}" for index in range(self.num_discriminators)]

    def preprocess(self, index: int, x: Tensor) -> Tensor:
        """Return the input of sub-discriminator `index` for audio `x` [B, C, T]."""
        return x

    def forward_one(self, index: int, x: Tensor) -> tuple[LogitsType, FeatureMapType]:
        """Return logits and feature maps of sub-discriminator `index` alone, for `x` [B, C, T]."""
        output = self.discriminators[index](self.preprocess(index, x))
        match output:
            case Tensor(), [*_]:
                return output
        wanted = "logits and a list of feature maps"
        raise ValueError(f"{self.names[index]} must return {wanted}, got {describe(output)}.")

    def forward(self, x: Tensor) -> MultiDiscriminatorOutputType:
        outputs = [self.forward_one(index, x) for index in range(self.num_discriminators)]
        return [logits for logits, _ in outputs], [fmaps for _, fmaps in outputs]


class SubDiscriminator(nn.Module):
    """Convolutions `convs`, each with the activation after it, and `conv_post` to the logits.

    Args:
        in_channels, out_channels: Channels of the audio and of the logits.
        activation, activation_params: Activation of torch.nn and its arguments. None stands for
            `{'negative_slope': 0.2}` with LeakyReLU and for no arguments with the others.
        normalize_input: Judge the audio without its constant part and at one level, see
            `normalize_level`.

    Arguments of all subclasses:
        filters, max_filters: Filters of the first convolution, and the most of a later one.
        norm: Normalization of the convolutions, see `modules.norm`.

    Shape:
        - input: audio [B, in_channels, T], T >= 1
        - output: logits, and the feature maps: activations and, if not said otherwise, the logits
    """

    convs: nn.ModuleList
    conv_post: nn.Module

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        activation: str,
        activation_params: Mapping[str, Any] | None,
        normalize_input: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, out_channels=out_channels)
        self.in_channels = in_channels
        self.normalize_input = normalize_input
        params = dict(activation_params or {})
        if activation == "LeakyReLU":
            # In place, so that a feature map is in memory once: the backward of the convolution
            # before it does not need its output.
            default = {} if activation_params is not None else {"negative_slope": 0.2}
            params = {"inplace": True, **default, **params}
        self.activation = get_activation(activation, params)

    def represent(self, x: Tensor) -> Tensor:
        """Return the input of the convolutions for audio `x` [B, C, T]."""
        return x

    def judge(self, z: Tensor) -> tuple[LogitsType, FeatureMapType]:
        """Return logits and feature maps for what `represent` returns."""
        fmap = []
        for conv in self.convs:
            z = self.activation(conv(z))
            fmap.append(z)
        logits = self.conv_post(z)
        return logits, [*fmap, logits]

    def forward(self, x: Tensor) -> tuple[LogitsType, FeatureMapType]:
        if x.dim() != 3 or x.shape[1] != self.in_channels or x.shape[2] < 1:
            raise ValueError(
                f"Expected audio of shape [batch, {self.in_channels}, time >= 1] "
                f"(in_channels={self.in_channels}), got {list(x.shape)}."
            )
        return self.judge(self.represent(normalize_level(x) if self.normalize_input else x))


class JointDiscriminator(MultiDiscriminator):
    """Several families of discriminators as one.

    Args:
        families: Discriminators by name; their sub-discriminators are called `<family>.<name>`.
    """

    def __init__(self, families: Mapping[str, MultiDiscriminator]):
        super().__init__()
        if not families:
            raise ValueError("JointDiscriminator needs at least one discriminator, got none.")
        self.families = nn.ModuleDict(families)
        self._parts = [
            (f"{name}.{part}", family, index)
            for name, family in families.items()
            for index, part in enumerate(family.names)
        ]

    @property
    def num_discriminators(self) -> int:
        return len(self._parts)

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self._parts]

    def forward_one(self, index: int, x: Tensor) -> tuple[LogitsType, FeatureMapType]:
        _, family, local = self._parts[index]
        return family.forward_one(local, x)


def describe(output: Any) -> str:
    """Return the types in nested lists, as in "[Tensor, [Tensor]]"."""
    if isinstance(output, list | tuple):
        return f"[{', '.join(describe(item) for item in output)}]"
    return type(output).__name__


def distinct(names: Iterable[str]) -> list[str]:
    """Return the names with repeated ones numbered: a, b, a -> a, b, a_2."""
    result: list[str] = []
    for name in (names := list(names)):
        count = names[: len(result) + 1].count(name)
        result.append(name if count == 1 else f"{name}_{count}")
    return result


def normalize_level(x: Tensor) -> Tensor:
    """Return `x` [B, C, T] without the constant part of each channel, at a peak of 0.8 over the
    channels of an item; but amplified at most 800 times.

    DAC's normalization (descript-audio-codec, dac/model/discriminator.py), which divides by the
    peak + 1e-9: it raises a silent item's dither to full scale, and its gradient is 8e8 at zeros,
    so that one such item would outweigh all others of a batch. Here an item that stays below
    -60 dBFS, 33 steps of 16 bits, is taken for silence: all such are amplified alike.
    """
    x = x - x.mean(-1, keepdim=True)
    peak = x.abs().amax((1, 2), keepdim=True)
    return 0.8 * x / peak.clamp_min(1e-3)
