"""A contestant: Neural Amp Modeler's own trainer (`neural-amp-modeler`), run in an environment of its own.

Networks, data sets, losses, optimiser, rates and loop are the package's, and so are presets and defaults, read from
it: `wavenet` and `lstm` are the standard presets of its trainer up to 0.12; `a2` is its only preset from 0.13 on. What
is not its own: the recordings are not its test signal, so they are given to its data sets directly, aligned already;
wet sound is scaled to -18 dBFS RMS for all, as 0.13 does, or as far as its check for clipping allows; there is no limit
of epochs, no log, no checkpoint on disk.
"""

from __future__ import annotations

import time

BEGAN = time.perf_counter()

import inspect  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import sys  # noqa: E402
import warnings  # noqa: E402
from importlib.metadata import version  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import nam.data  # noqa: E402
import nam.train.core as core  # noqa: E402
import nam.train.lightning_module as lightning_module  # noqa: E402
import numpy as np  # noqa: E402
import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402
from contest_child import Job, Training, read_job  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

LEVEL_RMS_DBFS = -18.0
CEILING = 0.99
"""Its data sets refuse sound that reaches 1."""
CHUNK = 65_536
MODELS = {"wavenet": "WaveNet", "lstm": "LSTM", "a2": "PackedWaveNet"}


def presets(kind: str) -> tuple[dict[str, Any], int, int]:
    """Its configuration of model, losses and rates; samples of a passage; passages in a batch."""
    defaults = {name: one.default for name, one in inspect.signature(core.train).parameters.items()}
    if kind == "a2":
        config = core._get_packed_model_config()
    else:
        _, config, _ = core._get_configs(
            input_version=core._Version(3, 0, 0),  # of its test signal: that part of the answer is not used
            input_path="",
            output_path="",
            latency=0,
            epochs=defaults["epochs"],
            model_type=MODELS[kind],
            architecture=defaults["architecture"],
            ny=defaults["ny"],
            lr=defaults["lr"],
            lr_decay=defaults["lr_decay"],
            batch_size=defaults["batch_size"],
            fit_mrstft=defaults["fit_mrstft"],
        )
    return config, defaults["ny"], defaults["batch_size"]


class Contender:
    """What `contest_child.Training` looks at."""

    def __init__(self, job: Job, module: pl.LightningModule, kind: str, gain: float, metric: str) -> None:
        self.job, self.module, self.kind, self.gain, self.metric = job, module, kind, gain, metric

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.module.state_dict().items()}

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        self.module.load_state_dict(weights)

    def held_error(self) -> float:
        """As its validation step: the whole sound at once, from the first sample of which it has seen enough."""
        with Evaluating(self.module), torch.no_grad():
            found = self.module(torch.from_numpy(self.job.held_dry)[None], pad_start=False)
            found = found[:, -1] if self.kind == "a2" else found
            wet = torch.from_numpy(self.job.held_wet)[None, -found.shape[-1] :] * self.gain
            error = torch.mean((found - wet) ** 2)
            return float(error / torch.mean(wet**2) if self.metric == "esr" else error)

    def predict(self) -> np.ndarray:
        """As its player begins: a receptive field, or a second, of silence before the first sample."""
        with Evaluating(self.module), torch.no_grad():
            found = self._lstm() if self.kind == "lstm" else self._wavenet()
        return np.asarray(found / self.gain, np.float32)

    def _lstm(self) -> np.ndarray:
        net = self.module.net
        state = tuple(part[:, None] if part.ndim == 2 else part for part in net._get_initial_state())
        parts = []
        for part in torch.from_numpy(self.job.test_dry).split(CHUNK):
            hidden, state = net._core(part.reshape(1, -1, 1), state)
            parts.append(net._head(hidden).reshape(-1).numpy())
        return np.concatenate(parts)

    def _wavenet(self) -> np.ndarray:
        before = self.module.net.receptive_field - 1
        dry = np.pad(self.job.test_dry, (before, 0))
        parts = []
        for start in range(0, len(self.job.test_dry), CHUNK):
            found = self.module(torch.from_numpy(dry[None, start : start + before + CHUNK]), pad_start=False)
            parts.append((found[0, -1] if self.kind == "a2" else found[0]).numpy())
        return np.concatenate(parts)

    def export(self, folder: Path) -> None:
        """Weights in the order of a .nam file; it stands for a player that turns the level back."""
        net = self.module.net
        with torch.no_grad(), Evaluating(self.module):
            told = {"config": net._export_config(), "weights": np.asarray(net._export_weights(), float).tolist()}
        (folder / "model.json").write_text(json.dumps({**told, "gain": self.gain}))


class Evaluating:
    """Evaluation mode, and back."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.before = self.module.training
        self.module.eval()

    def __exit__(self, *anything: object) -> None:
        self.module.train(self.before)


class Watch(pl.Callback):
    """Between its trainer and ours."""

    def __init__(self, training: Training, metric: str) -> None:
        self.training, self.metric = training, metric

    def on_train_batch_start(self, *anything: Any) -> None:
        self.training.begin()

    def on_train_batch_end(self, trainer: pl.Trainer, *anything: Any) -> None:
        if self.training.stepped():
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and not self.training.done:
            self.training.judged(float(trainer.callback_metrics[self.metric]))


def main() -> None:
    job, kind = read_job(), sys.argv[2]
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(job.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(job.seed)
    config, passage, batch = presets(kind)
    packed = kind == "a2"
    kind_of_module = lightning_module.PackedLightningModule if packed else lightning_module.LightningModule
    module = kind_of_module.init_from_config(config)
    module.net.sample_rate = job.sample_rate
    gain = 10 ** (LEVEL_RMS_DBFS / 20) / float(np.sqrt(np.mean(job.train_wet.astype(float) ** 2)))
    gain = min(gain, *(CEILING / float(np.abs(wet).max()) for wet in (job.train_wet, job.held_wet)))

    def passages(dry: np.ndarray, wet: np.ndarray, length: int | None) -> nam.data.Dataset:
        return nam.data.Dataset(
            *(torch.from_numpy(sound) for sound in (dry, wet * np.float32(gain))),
            nx=module.net.receptive_field,
            ny=length,
            sample_rate=job.sample_rate,
            require_input_pre_silence=None,
        )

    training_set = passages(job.train_dry, job.train_wet, passage)
    batch = min(batch, len(training_set))
    loader = DataLoader(training_set, batch_size=batch, shuffle=True, drop_last=True)
    held = DataLoader(passages(job.held_dry, job.held_wet, None))
    about = {
        "parameters": parameters_of(module.net, packed),
        "settings": {key: config[key] for key in ("loss", "optimizer", "lr_scheduler")}
        | {"net": config["net"]["name"], "batch": batch, "passage": passage},
        "versions": {name: version(name) for name in ("neural-amp-modeler", "torch", "pytorch-lightning")},
    }
    contender = Contender(job, module, kind, gain, config["loss"].get("val_loss", "mse"))
    training = Training(job, contender, about, BEGAN)
    trainer = pl.Trainer(
        max_epochs=-1,
        accelerator="cpu",
        devices=1,
        callbacks=[
            Watch(training, f"val_loss_packed_{module.net.num_submodels - 1}" if packed else "val_loss"),
            *([lightning_module.PackedMaskCallback()] if packed else []),
        ],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader, held)
    print(json.dumps({"epochs": trainer.current_epoch, "steps": training.steps}))


def parameters_of(net: Any, packed: bool) -> int:
    """Of what will be played: of several models in one, the largest."""
    played = net.extract_submodel(net.num_submodels - 1) if packed else net
    return sum(parameter.numel() for parameter in played.parameters())


if __name__ == "__main__":
    main()
