"""README.md of an export: a model card, as the Hugging Face hub reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader
from omegaconf import OmegaConf

from adversarial_trainer import __version__
from adversarial_trainer.models.pretrained import Codec

from .facts import facts_of

# The hub's identifier for unknown licences: that of the code is not that of the weights.
UNKNOWN_LICENSE = "unknown"


def model_card(codec: Codec, name: str, license: str, library: str | None, usage: list[str]) -> str:
    """Return the text of the card.

    Args:
        name: of the codec.
        license: an identifier of the hub, such as mit, cc-by-4.0 or other.
        library: the library that loads the files, as the hub names it.
        usage: Python code.
    """
    model, facts = codec.model, facts_of(codec)
    front: dict[str, Any] = {"license": license}
    if library is not None:
        front["library_name"] = library
    front |= {
        "pipeline_tag": "audio-to-audio",
        "tags": ["audio", "neural-audio-codec", "encodec", "adversarial_trainer"],
    }
    halves = {"encoder": model.encoder, "decoder": model.decoder}
    keys = ["sample_rate", "channels", "model", "quantizer"]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template("model_card.md.j2").render(
        name=name,
        license=license,
        usage=usage,
        model=model,
        facts=facts,
        hash=codec.hash,
        version=__version__,
        front=yaml.safe_dump(front, sort_keys=False),
        kind={1: "mono", 2: "stereo"}.get(model.channels, f"{model.channels} channels"),
        sizes={k: sum(p.numel() for p in half.parameters()) / 1e6 for k, half in halves.items()},
        metrics={k: v for k, v in facts.get("metrics", {}).items() if k != "duration"},
        config=OmegaConf.to_yaml(OmegaConf.masked_copy(codec.cfg, keys), resolve=True),
    )
