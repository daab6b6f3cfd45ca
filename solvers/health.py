"""Judgements about a run while it trains, by the rules of rules.py."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from adversarial_trainer import distrib
from adversarial_trainer.data import Batch
from adversarial_trainer.tools.doctor.bandwidth import BandwidthMeter
from adversarial_trainer.tools.doctor.problems import NARROW
from adversarial_trainer.tools.report.judgements import KEY, Judgement

from .rules import RULES, SEGMENTS, Window
from .state import Averager, UnfinishedEpoch

logger = logging.getLogger(__name__)

KEPT = ("update", "grad_norm", "perplexity/")  # metrics of earlier windows that rules read
MOST = 64  # windows that are kept


class Health:
    """Applies the rules during training; logs a line where one begins to hold, and where it ends.

    A rule has to hold for `logging.health` updates to be said, and not to hold for as many to be
    over. Rank 0 judges, by its own part of the batches.

    Attributes:
        recent: means of the metrics since the last window.
        windows: earlier ones, the fewer the longer ago.
        turned: by rule, the update since which it says otherwise than what was said last.
        standing: by rule, the judgement that stands; `over`: those that ended in this epoch.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.recent = Averager()
        self.windows: list[Window] = []
        self.turned: dict[str, int] = {}
        self.standing: dict[str, Judgement] = {}
        self.over: list[Judgement] = []
        self.cutoffs: list[float] = []
        self.clock = (0.0, 0.0)

    def add(self, batch: Batch, metrics: Mapping[str, Any]) -> None:
        """Add a step; never waits for the device."""
        self.recent.update(metrics, len(batch))
        if distrib.is_rank_zero() and self.cfg.logging.health:
            for wav in batch.wav[: SEGMENTS - len(self.cutoffs)]:
                meter = BandwidthMeter(self.cfg.sample_rate)
                meter.add(wav.mean(0).cpu().numpy())
                self.cutoffs.append(meter.cutoff())

    def end_window(
        self, averages: Mapping[str, float], update: int, epoch: UnfinishedEpoch
    ) -> None:
        """Judge the `averages` of `recent`, which begins anew; `update` is the last one in them."""
        now = {"update": update, **averages}
        self.recent = Averager()
        seconds, waiting = self.clock if self.clock[0] < epoch.seconds else (0.0, 0.0)
        self.clock = (epoch.seconds, epoch.waiting)
        if epoch.seconds > seconds:
            now["data_wait"] = (epoch.waiting - waiting) / (epoch.seconds - seconds)
        if len(self.cutoffs) == SEGMENTS:
            few = [x for x in self.cutoffs if x < NARROW * self.cfg.sample_rate / 2]
            now["narrow"] = len(few) / SEGMENTS
            now["content"] = statistics.median(few) if few else self.cfg.sample_rate / 2
        self.judge(now, self.windows)
        self.windows.append({key: x for key, x in now.items() if key.startswith(KEPT)})
        if len(self.windows) > MOST:
            del self.windows[1 : MOST // 2 : 2]

    def end_epoch(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Judge the last epoch of `history` by those before it."""
        epochs: list[Window] = []
        for number, stages in enumerate(history, 1):
            metrics = {f"{stage}.{key}": x for stage in ("train", "valid")
                       for key, x in stages.get(stage, {}).items()}  # fmt: skip
            update = number * self.cfg.optim.updates_per_epoch
            epochs.append({"epoch": number, "update": update, **metrics})
        *before, now = epochs
        self.judge(now, before)

    def judge(self, now: Window, earlier: Sequence[Window]) -> None:
        """Apply all rules to `now`, the window after the `earlier` ones. Rank 0 alone."""
        patience = self.cfg.logging.health
        if not patience or not distrib.is_rank_zero():
            return
        update, start = int(now["update"]), int(earlier[-1]["update"]) if earlier else 0
        for title, needs, find, at_once in RULES:
            if not all(any(name.startswith(need) for name in now) for need in needs.split()):
                continue
            said = self.standing.get(title)
            # What went before the trouble stays the measure while it lasts.
            began = said.since if said else self.turned.get(title, start)
            text = find(now, [window for window in earlier if window["update"] <= began], self.cfg)
            if said and text:
                said.text = text
            if bool(said) == bool(text):
                self.turned.pop(title, None)
                continue
            since = self.turned.setdefault(title, start)
            if not at_once and update - since < patience:
                continue
            del self.turned[title]
            if said:
                said.until = since
                self.over.append(self.standing.pop(title))
                logger.info("Health: over since update %d: %s.", since, title)
            else:
                self.standing[title] = Judgement(title, text, since)
                lasted = "" if at_once else f", for {update - since} updates"
                logger.warning("Health: %s%s: %s", title, lasted, text)

    def entry(self) -> dict[str, list[dict[str, Any]]]:
        """Return what the history has of it in this epoch, by its key; empty if all is well."""
        found = [dict(vars(judgement)) for judgement in (*self.standing.values(), *self.over)]
        return {KEY: found} if found else {}

    def state_dict(self) -> dict[str, Any]:
        judgements = {"standing": [*self.standing.values()], "over": self.over}
        return {
            "recent": self.recent.state_dict(),
            "windows": [dict(window) for window in self.windows],
            "turned": dict(self.turned),
            **{key: [dict(vars(x)) for x in found] for key, found in judgements.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.recent = Averager()
        self.recent.add(state["recent"])
        self.windows, self.turned = list(state["windows"]), dict(state["turned"])
        self.standing = {x["title"]: Judgement(**x) for x in state["standing"]}
        self.over = [Judgement(**x) for x in state["over"]]
