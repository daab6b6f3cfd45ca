"""Loggers of a run's metrics, audio and pictures: the text log, TensorBoard and wandb.

Flashy 0.0.2's own loggers need torchcodec and torchvision, open a TensorBoard file on every rank,
fail offline with wandb, and swap arguments of media.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import flashy
import torch
from omegaconf import DictConfig

from adversarial_trainer.models.builders import flatten, to_params
from adversarial_trainer.tools.report import CURVES, panel

from .generation import Sample
from .state import finite
from .summary import join_parts

# Charts of several metrics in TensorBoard's Custom Scalars tab: title -> pattern of names.
CHARTS = {
    "D(real) and D(fake), training": r"train_gan/d_(real|fake)/.*",
    "accuracy of the discriminators, training": r"train_gan/d_acc(/.*)?",
    "share of the raw gradient": r"train_gradient/ratio_.*",
    "share of the gradient after balancing": r"train_gradient/share_.*",
    "D(real) and D(fake), validation": r"valid_gan/d_(real|fake)/.*",
    "accuracy of the discriminators, validation": r"valid_gan/d_acc(/.*)?",
}


class TensorboardLogger:
    """TensorBoard's event files, the configuration in its HParams tab."""

    def __init__(self, folder: Path, params: dict[str, Any]) -> None:
        # TensorFlow prints start-up notes that are not about the run.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        self.writer = SummaryWriter(str(folder))
        charts = {title: ["Multiline", [pattern]] for title, pattern in CHARTS.items()}
        self.writer.add_custom_scalars({"GAN balance": charts})
        plain = (bool, int, float, str)
        values = {
            key: value if isinstance(value, plain) else str(value)
            for key, value in flatten(params).items()
        }
        # `add_hparams` would make one more folder at each start.
        file_writer: Any = self.writer.file_writer
        for summary in hparams(values, {}):
            file_writer.add_summary(summary)

    def log_metrics(self, metrics: dict[str, float], step: int, axis: str = "epoch") -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def log_audio(self, name: str, audio: torch.Tensor, sample_rate: int, step: int) -> None:
        # TensorBoard takes one channel, and prints a line of its own beyond [-1, 1].
        self.writer.add_audio(name, audio.mean(0).clamp(-1, 1), step, sample_rate)

    def log_image(self, name: str, image: torch.Tensor, step: int) -> None:
        self.writer.add_image(name, image, step)

    def log_report(self, path: Path, step: int) -> None:
        """Log a link to the page, since TensorBoard shows no HTML."""
        self.writer.add_text("report", f"[{path.name}]({path.as_uri()}), in `{path.parent}`", step)


class WandbLogger:
    """Weights & Biases, online or offline (`WANDB_MODE=offline`).

    The run's id is the experiment's signature: a resumed run continues in the same place.
    """

    def __init__(self, folder: Path, signature: str, params: dict[str, Any], **kwargs: Any) -> None:
        import wandb

        self.wandb = wandb
        try:
            self.run = wandb.init(id=signature, dir=str(folder), resume="allow", **kwargs)
        except wandb.Error as exc:
            reason = str(exc).partition("\n")[0]
            raise ValueError(
                f"logging.wandb=true: {reason} `wandb login` or WANDB_API_KEY logs in, "
                "WANDB_MODE=offline does without a server."
            ) from exc
        # Epochs and updates are the axes; wandb's own step counts calls.
        self.run.define_metric("epoch")
        self.run.define_metric("update")
        self.run.define_metric("*", step_metric="epoch")
        self.run.define_metric("updates_*", step_metric="update")
        self.run.config.update(params, allow_val_change=True)

    def log_metrics(self, metrics: dict[str, float], step: int, axis: str = "epoch") -> None:
        self.run.log({**metrics, axis: step})

    def log_audio(self, name: str, audio: torch.Tensor, sample_rate: int, step: int) -> None:
        samples = audio.t().clamp(-1, 1).numpy()
        self.run.log({name: self.wandb.Audio(samples, sample_rate), "epoch": step})

    def log_image(self, name: str, image: torch.Tensor, step: int) -> None:
        self.run.log({name: self.wandb.Image(image.float() / 255), "epoch": step})

    def log_report(self, path: Path, step: int) -> None:
        # inject: wandb's own style sheet would be one more file to load.
        self.run.log({"report": self.wandb.Html(str(path), inject=False), "epoch": step})


class RunLogger:
    """Replaces flashy's ResultLogger: one log line for each stage, and the configured loggers.

    Metrics have the names that `panel` gives them: `<stage>_<group>/<name>`, which TensorBoard and
    wandb show as a section for each group. The stage of averages by update is `updates`.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger
        self.loggers: list[TensorboardLogger | WandbLogger] = []
        self.curves: Path | None = None

    def open(self, folder: Path, signature: str, cfg: DictConfig) -> None:
        """Start the loggers that `cfg.logging` names. For rank 0.

        Args:
            folder: of the run; TensorBoard's files go to `tensorboard/` there.
            signature: of the run, wandb's id.
        """
        options, params = cfg.logging, to_params(cfg)
        self.curves = folder / CURVES
        if options.tensorboard:
            self.loggers.append(TensorboardLogger(folder / "tensorboard", params))
        if options.wandb:
            named = {key: options[f"wandb_{key}"] for key in ("project", "name", "group")}
            self.loggers.append(WandbLogger(folder, signature, params, **named))

    def log_metrics(
        self,
        stage: str,
        metrics: dict[str, float],
        step: int,
        step_name: str,
        formatter: flashy.Formatter,
    ) -> None:
        line = [f"{stage.capitalize()} summary", f"{step_name.capitalize()} {step}"]
        line += [f"{key} {value}" for key, value in formatter(metrics).items()]
        self.logger.info(join_parts(line))
        named = {panel(stage, name): value for name, value in metrics.items()}
        for logger in self.loggers:
            logger.log_metrics(named, step)

    def log_update(self, metrics: dict[str, float], update: int) -> None:
        """Log averages of training over the updates up to `update`, for curves by update."""
        if self.curves is None:
            return
        with self.curves.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps({"update": update, **finite(metrics)}))
        named = {panel("updates", name): value for name, value in metrics.items()}
        for logger in self.loggers:
            logger.log_metrics(named, update, "update")

    def log_sample(self, sample: Sample, sample_rate: int, step: int) -> None:
        for logger in self.loggers:
            for name, wav in sample.waves.items():
                logger.log_audio(f"generate/{sample.name}/{name}", wav, sample_rate, step)
            logger.log_image(f"generate/{sample.name}/spectrograms", sample.picture, step)

    def log_report(self, path: Path, step: int) -> None:
        """A run's HTML page."""
        for logger in self.loggers:
            logger.log_report(path, step)
