"""Flashy's experiment loggers with their faults mended.

Flashy 0.0.2's TensorBoard logger opens a file on every rank and takes `log_audio`'s first two
arguments in another order than it is called with; its wandb logger asks the wandb server about the
run before it starts, so offline runs fail, drops scalars when media are off, and passes media to
the wrong function. Its local logger wants torchcodec and torchvision for media and keeps nothing
else, so there is none here: the solver writes wav and PNG files itself.
"""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from adversarial_trainer import distrib
from adversarial_trainer.config_files import flatten
from adversarial_trainer.light_flashy import ExperimentLogger, flashy
from adversarial_trainer.light_flashy import TensorboardLogger as FlashyTensorboardLogger
from adversarial_trainer.tools.report import panel

# Charts of several metrics in TensorBoard's Custom Scalars tab: title -> pattern of names.
BALANCE = {
    "D(real) and D(fake), training": r"train_gan/d_(real|fake)/.*",
    "accuracy of the discriminators, training": r"train_gan/d_acc(/.*)?",
    "share of the raw gradient": r"train_gradient/ratio_.*",
    "share of the gradient after balancing": r"train_gradient/share_.*",
    "D(real) and D(fake), validation": r"valid_gan/d_(real|fake)/.*",
    "accuracy of the discriminators, validation": r"valid_gan/d_acc(/.*)?",
}


class TensorboardLogger(FlashyTensorboardLogger):
    """Flashy's, with names in groups, `log_audio`'s arguments in the order in which it is called,
    the configuration in the run's own event file instead of one more folder at each start, and the
    balance of the GAN on one page (Custom Scalars)."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        charts = {title: ["Multiline", [pattern]] for title, pattern in BALANCE.items()}
        self.writer.add_custom_scalars({"GAN balance": charts})

    def log_metrics(
        self, prefix: str | list[str], metrics: dict[str, Any], step: int | None = None
    ) -> None:
        """Scalars by the names that `panel` gives them."""
        for key, value in metrics.items():
            self.writer.add_scalar(panel(str(prefix), key), value, step)

    def log_report(self, path: Path, step: int) -> None:
        """Where the page is; TensorBoard shows no HTML."""
        self.writer.add_text("report", f"[{path.name}]({path.as_uri()}), in `{path.parent}`", step)

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, metrics: dict | None = None
    ) -> None:
        """The configuration, for the HParams tab."""
        from torch.utils.tensorboard.summary import hparams

        plain = (bool, int, float, str)
        values = {
            key: value if isinstance(value, plain) else str(value)
            for key, value in flatten(params).items()
        }
        for summary in hparams(values, metrics or {}):
            self.writer.file_writer.add_summary(summary)

    def log_audio(  # type: ignore[override]
        self,
        prefix: str,
        key: str,
        audio: torch.Tensor,
        sample_rate: int,
        step: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().log_audio(key=key, prefix=prefix, audio=audio, sample_rate=sample_rate, step=step)


class WandbLogger(ExperimentLogger):
    """Weights & Biases, online or offline (`WANDB_MODE=offline`).

    The run's id is the experiment's signature, so a resumed run goes on in the same place.
    """

    def __init__(self, folder: Path, signature: str, **kwargs: Any) -> None:
        import wandb

        self.wandb = wandb
        self.folder = folder
        self.signature = signature
        self.run = wandb.init(id=signature, dir=str(folder), resume="allow", **kwargs)
        # Epochs are the axis; wandb's own step counts calls.
        self.run.define_metric("epoch")
        self.run.define_metric("*", step_metric="epoch")

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, metrics: dict | None = None
    ) -> None:
        """The configuration, as nested dictionaries."""
        self.run.config.update(params, allow_val_change=True)

    def log_metrics(
        self, prefix: str | list[str], metrics: dict[str, Any], step: int | None = None
    ) -> None:
        """Scalars by the names that `panel` gives them: wandb makes a section of each group."""
        self._log({panel(str(prefix), key): value for key, value in metrics.items()}, step)

    def log_report(self, path: Path, step: int) -> None:
        """The page itself, as media and so in the run's files."""
        # As it is: wandb's own style sheet would be one more file to load.
        self._log({"report": self.wandb.Html(str(path), inject=False)}, step)

    def log_audio(
        self,
        prefix: str | list[str],
        key: str,
        audio: torch.Tensor,
        sample_rate: int,
        step: int | None = None,
        **kwargs: Any,
    ) -> None:
        """A waveform `[C, T]`."""
        samples = audio.t().clamp(-1, 1).numpy()
        self._log({f"{prefix}/{key}": self.wandb.Audio(samples, sample_rate, **kwargs)}, step)

    def log_image(
        self,
        prefix: str | list[str],
        key: str,
        image: torch.Tensor,
        step: int | None = None,
        **kwargs: Any,
    ) -> None:
        """A picture `[3, H, W]` of bytes."""
        self._log({f"{prefix}/{key}": self.wandb.Image(image.float() / 255, **kwargs)}, step)

    def log_text(
        self,
        prefix: str | list[str],
        key: str,
        text: str,
        step: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Preformatted text."""
        self._log({f"{prefix}/{key}": self.wandb.Html(f"<pre>{text}</pre>")}, step)

    def _log(self, values: dict[str, Any], step: int | None) -> None:
        self.run.log(values if step is None else {**values, "epoch": step})

    @property
    def with_media_logging(self) -> bool:
        return True

    @property
    def save_dir(self) -> str:
        return str(self.folder)

    @property
    def name(self) -> str:
        return self.signature


class ResultLogger(flashy.ResultLogger):
    """Flashy's, without escape codes in log files, and with no logger but those asked for."""

    def __init__(self, logger: logging.Logger) -> None:
        # Not flashy's own __init__, which makes a local logger.
        self._logger = logger
        self._level = logging.INFO
        self._delimiter = "|"
        self._experiment_loggers: dict[str, ExperimentLogger] = {}

    def log_report(self, path: Path, step: int) -> None:
        """Give a run's page to the loggers."""
        for experiment_logger in self._experiment_loggers.values():
            if isinstance(experiment_logger, TensorboardLogger | WandbLogger):
                experiment_logger.log_report(path, step)

    def _log_summary(
        self,
        stage: str,
        metrics: dict[str, Any],
        step: int | None = None,
        step_name: str = "epoch",
        formatter: flashy.Formatter | None = None,
    ) -> None:
        formatter = formatter or flashy.Formatter()
        out = [f"{stage.capitalize()} summary"]
        if step is not None:
            out.append(f"{step_name.capitalize()} {step}")
        out += [f"{key} {value}" for key, value in formatter(metrics).items()]
        self._logger.log(self._level, " | ".join(out))


def init_loggers(
    result_logger: ResultLogger,
    folder: Path,
    signature: str,
    *,
    tensorboard: bool,
    wandb: bool,
    **wandb_kwargs: Any,
) -> None:
    """Give `result_logger` the loggers asked for; on rank 0 only, elsewhere none.

    Args:
        folder: of the run; TensorBoard's files go to `tensorboard/` there.
        signature: of the run, wandb's id.
        wandb_kwargs: for `wandb.init` (project, name, group).
    """
    loggers: dict[str, ExperimentLogger] = {}
    if distrib.is_rank_zero():
        if tensorboard:
            # Its C++ parts print start-up notes that say nothing about the run.
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
            loggers["tensorboard"] = TensorboardLogger(folder / "tensorboard")
        if wandb:
            loggers["wandb"] = WandbLogger(folder, signature, **wandb_kwargs)
    result_logger._experiment_loggers = loggers
