"""`continue_from` and `freeze`: weights of another run, or of a codec trained elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from adversarial_trainer.adversarial import AdversarialLoss
from adversarial_trainer.models.builders import flatten, to_params
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.pretrained import Weights, fit, read_weights
from adversarial_trainer.modules.norm import convert_old_keys
from adversarial_trainer.registry import format_value, unknown_name

logger = logging.getLogger(__name__)

PARTS = ("encoder", "quantizer", "decoder")  # of a codec, which `freeze` can name


def check_freeze(cfg: DictConfig) -> None:
    """ValueError if `freeze` names an unknown part, or leaves nothing to learn."""
    given = f"freeze={format_value(list(cfg.freeze))}"
    for part in cfg.freeze:
        if part not in PARTS:
            raise ValueError(f"{given}: {unknown_name('part', part, PARTS)}")
    if {"encoder", "decoder"} <= set(cfg.freeze):
        raise ValueError(f"{given}: encoder and decoder hold all weights; freeze one of them.")
    if cfg.freeze and cfg.continue_from is None:
        raise ValueError(f"{given}: it would stay at random; name its weights by continue_from.")


def load_weights(
    cfg: DictConfig, runs: Path, model: EncodecModel, adversarial: AdversarialLoss | None
) -> bool:
    """Load the weights that `cfg.continue_from` names into a codec and its discriminators.

    The codec's averaged weights are taken where the source has them. Of more codebooks than the
    configuration has the first are taken; of fewer, the others start as fresh ones do.
    Discriminators that the source lacks, or has in another shape, stay as they are, with a warning.

    Args:
        cfg: a whole configuration.
        runs: folder where signatures are looked up.

    Returns:
        Whether the discriminators were loaded.
    """
    try:
        weights = read_weights(cfg.continue_from, runs)
    except (FileNotFoundError, ValueError) as exc:
        raise type(exc)(f"continue_from={exc}") from exc
    source = weights.info["path"]
    message = f"continue_from={source}: generator does not fit this configuration"
    fit(model, _same_codebooks(weights.model, model), message)
    if "quantizer" in cfg.freeze and not model.quantizer.initialised:
        raise ValueError(f"freeze=[quantizer]: the codebooks of {source} have no values yet.")
    logger.info("Weights from %s", source)
    for line in differences(weights, cfg):
        logger.warning("%s was another codec: %s", source, line)
    if adversarial is None or not cfg.continue_discriminators:
        return False
    adversary = adversarial.adversary
    before = deepcopy(adversary.state_dict())
    try:
        if not weights.discriminators:
            raise ValueError(f"{source} has none")
        fit(adversary, weights.discriminators, "they do not fit this configuration")
    except ValueError as exc:
        # torch has already copied the tensors that fit.
        adversary.load_state_dict(before)
        logger.warning("%s: the discriminators start afresh (%s)", source, exc)
        return False
    return True


def _same_codebooks(weights: Mapping[str, Any], model: EncodecModel) -> dict[str, Any]:
    """Return `weights` with as many residual codebooks as `model` has: each works without those
    after it."""
    weights = convert_old_keys(weights, model)
    if model.quantizer.codebook_keys is None:
        return weights
    start = f"quantizer.{model.quantizer.codebook_keys}"

    def codebooks(state: Mapping[str, Any]) -> dict[str, str]:
        keys = (key for key in state if key.startswith(start))
        return {key: key.removeprefix(start).split(".")[0] for key in keys}

    state = model.state_dict()
    given, own = codebooks(weights), codebooks(state)
    theirs, ours = set(given.values()), set(own.values())
    if not theirs or theirs == ours:
        return weights
    logger.info("The source has %d codebooks, and this codec %d.", len(theirs), len(ours))
    taken = {key: x for key, x in weights.items() if given.get(key) in {None, *ours}}
    return taken | {key: state[key] for key, number in own.items() if number not in theirs}


def differences(weights: Weights, cfg: DictConfig) -> list[str]:
    """Return differing settings of the codec that shapes do not show: padding, causality, ..."""
    theirs, ours = flatten(to_params(weights.cfg)), flatten(to_params(cfg))
    return [
        f"{key}={value} there, {ours[key]} here"
        for key, value in theirs.items()
        if key.startswith(("model.", "sample_rate", "channels")) and ours.get(key, value) != value
    ]
