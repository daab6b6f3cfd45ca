"""Optimizers, which keep the options of the configuration when a run is resumed."""

from __future__ import annotations

from typing import Any

from torch.optim import Adam, AdamW, Optimizer

from adversarial_trainer.registry import register

register("optimizer", "adam")(Adam)
register("optimizer", "adamw")(AdamW)


def keep_options(optimizer: Optimizer) -> None:
    """Make `optimizer.load_state_dict` keep the present options (`lr`, `betas`, ...).

    Torch takes them from the state, so a change of the configuration would have no effect.
    """
    optimizer.register_load_state_dict_pre_hook(_with_own_options)


def _with_own_options(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    theirs = state["param_groups"]
    if len(theirs) != len(optimizer.param_groups):
        return state  # torch says what is wrong
    groups = [
        {**mine, "params": their["params"]}
        for mine, their in zip(optimizer.param_groups, theirs, strict=True)
    ]
    return {**state, "param_groups": groups}
