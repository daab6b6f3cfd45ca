"""README.md of an export: a model card as the Hugging Face hub reads them."""

from __future__ import annotations

from typing import Any

import yaml
from omegaconf import OmegaConf

from adversarial_trainer import __version__
from adversarial_trainer.models.pretrained import Codec

from .facts import UNKNOWN, facts_of

# The hub's word for "nobody has said": the licence of the code is not that of the weights.
UNKNOWN_LICENSE = "unknown"


def model_card(codec: Codec, name: str, license: str, library: str | None, usage: list[str]) -> str:
    """The text.

    Args:
        name: of the codec.
        license: an identifier of the hub, such as mit, cc-by-4.0 or other.
        library: what loads the files, as the hub names it.
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
    kind = {1: "mono", 2: "stereo"}.get(model.channels, f"{model.channels} channels")
    lines = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {name}",
        f"A neural audio codec for {model.sample_rate} Hz {kind} audio: it turns audio into whole "
        f"numbers and back. Exported by adversarial_trainer {__version__}.",
        _table(["", ""], _summary(codec, facts)),
        "## Use",
        *(f"```python\n{code}\n```" for code in usage),
        "## Bandwidths",
        *_bandwidths(codec, facts),
        "## Training data",
        facts.get("data", UNKNOWN),
        "## Licence",
        "Nobody has said what licence these weights have."
        if license == UNKNOWN_LICENSE
        else f"`{license}`",
        "## Configuration",
        f"```yaml\n{_config(codec)}```",
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def _summary(codec: Codec, facts: dict[str, Any]) -> list[list[str]]:
    model = codec.model
    sizes = [sum(p.numel() for p in half.parameters()) for half in (model.encoder, model.decoder)]
    rows = [
        ["frames a second", f"{model.frame_rate:g}"],
        ["codebooks", f"{model.total_codebooks} of {model.cardinality} entries"],
        ["causal", "yes" if model.causal else "no"],
        ["volume normalised", "yes" if model.renormalize else "no"],
        ["parameters", f"encoder {sizes[0] / 1e6:.3g} M, decoder {sizes[1] / 1e6:.3g} M"],
        ["hash of the decoder", f"`{codec.hash[:16]}`"],
    ]
    for key in ("signature", "epoch", "updates", "commit"):
        if key in facts:
            rows.append([f"run's {key}" if key == "signature" else key, f"`{facts[key]}`"])
    return rows


def _bandwidths(codec: Codec, facts: dict[str, Any]) -> list[str]:
    """A table of what it was trained for, with the last evaluation's figures."""
    if "evaluation" in facts:
        return _evaluated(facts["evaluation"])
    model = codec.model
    rows = [
        [str(n), f"{model.bandwidth_of(n):.4g}"] for n in model.quantizer.supported_codebook_counts
    ]
    blocks = [_table(["codebooks", "kb/s"], rows)]
    metrics = {k: v for k, v in facts.get("metrics", {}).items() if "/" not in k}
    metrics.pop("duration", None)
    if metrics:
        rows = [[key, f"{value:.4g}"] for key, value in metrics.items()]
        blocks += ["The last evaluation, with all codebooks:", _table(["metric", ""], rows)]
    return blocks


def _evaluated(evaluation: dict[str, Any]) -> list[str]:
    metrics, data = evaluation["metrics"], evaluation["data"]
    heads = [
        f"{m.get('title', key)}{', ' + m['unit'] if m.get('unit') else ''} "
        f"({'higher' if m.get('higher_is_better') else 'lower'} is better)"
        for key, m in metrics.items()
    ]
    rows = []
    for row in evaluation["rows"]:
        means = [row["metrics"].get(key, {}).get("mean") for key in metrics]
        cells = ["" if mean is None else f"{mean:.3f}" for mean in means]
        rows.append([str(row["codebooks"]), f"{row['bandwidth']:.4g}", *cells])
    text = f"Means over {data['files']} files of the run's evaluation, {data['seconds']:.0f} s."
    return [_table(["codebooks", "kb/s", *heads], rows), text]


def _config(codec: Codec) -> str:
    keys = ("sample_rate", "channels", "model", "quantizer")
    return OmegaConf.to_yaml(OmegaConf.masked_copy(codec.cfg, list(keys)), resolve=True)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
