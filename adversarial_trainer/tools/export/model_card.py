"""README.md of an export: a model card, as the Hugging Face hub reads them.

Facts in it have no paths, which contain names of people and machines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader
from omegaconf import OmegaConf

from adversarial_trainer import __version__
from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.models.pretrained.weights import epoch_folders, read_json, starts

# The hub's identifier for unknown licences: that of the code is not that of the weights.
UNKNOWN_LICENSE = "unknown"


def model_card(
    codec: Codec, name: str, license: str, format: str, with_discriminators: bool
) -> str:
    """Return the text of the card.

    Args:
        name: of the codec.
        license: an identifier of the hub, such as mit, cc-by-4.0 or other.
        format: of the export.
    """
    model, facts = codec.model, facts_of(codec)
    names = [codec.cfg.model.get("name", "encodec"), codec.cfg.model.get("autoencoder", "seanet")]
    front: dict[str, Any] = {"license": license}
    if format == "hf":
        front["library_name"] = "transformers"
    front |= {
        "pipeline_tag": "audio-to-audio",
        "tags": ["audio", "neural-audio-codec", *names, "adversarial_trainer"],
    }
    halves = {"encoder": model.encoder, "decoder": model.decoder}
    keys = ["sample_rate", "channels", "model", "quantizer"]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template("model_card.md.j2").render(
        name=name,
        license=license,
        format=format,
        hf_example=f"card_hf_{names[1]}.md.j2",
        with_discriminators=with_discriminators,
        model=model,
        facts=facts,
        hash=codec.hash,
        version=__version__,
        front=yaml.safe_dump(front, sort_keys=False),
        kind={1: "mono", 2: "stereo"}.get(model.channels, f"{model.channels} channels"),
        sizes={k: sum(p.numel() for p in half.parameters()) / 1e6 for k, half in halves.items()},
        config=OmegaConf.to_yaml(OmegaConf.masked_copy(codec.cfg, keys), resolve=True),
    )


def facts_of(codec: Codec) -> dict[str, Any]:
    """Return JSON values, those that are known.

    They are `signature`, `epoch`, `updates`, `commit`, `evaluation` and `data`; for an
    export those that were written into it.
    """
    names = ("signature", "epoch", "updates", "commit", "evaluation", "data")
    facts = {name: codec.info.get(name) for name in names}
    folder = codec.info.get("folder")
    if folder is not None:  # of a run
        *_, last = [{}, *starts(folder)]
        if last.get("commit") and last.get("dirty"):
            facts["commit"] = f"{last['commit']}, changed"
        facts["evaluation"] = last_evaluation(folder)
    facts["data"] = facts["data"] or training_data(codec)
    return {name: value for name, value in facts.items() if value}


def training_data(codec: Codec) -> str | None:
    """Return a sentence or two on the data that the run was trained on."""
    dset, dataset = codec.cfg.get("dset"), codec.cfg.get("dataset")
    if dset is None:
        return None
    source = OmegaConf.select(dset, "stages.train") or dset.get("manifest") or dset.get("path")
    if dset.get("name") == "demo":
        text = "The project's embedded demo corpus: synthesised music-like and speech-like sound."
    elif source:
        name = Path(str(source)).name
        # A home folder is called as its owner.
        text = f"Audio files of `{name}`." if name != Path.home().name else "Audio files."
    else:
        return None
    if (updates := codec.info.get("updates")) and dataset is not None:
        seconds = f"{dataset.segment_duration:g} s"
        text += f" {updates} updates on {dataset.batch_size} segments of {seconds}."
    return text


def last_evaluation(folder: Path) -> dict[str, Any] | None:
    """Return `metrics`, `rows` and `data` of the last evaluation.json of the run in `folder`."""
    paths = [path / "evaluation.json" for _, path in epoch_folders(folder / "evaluation")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    found = read_json(path)
    rows = [row for row in found["rows"] if row["system"] == "model"]
    data = {name: found["data"][name] for name in ("files", "seconds")}
    return {"metrics": found["metrics"], "rows": rows, "data": data}
