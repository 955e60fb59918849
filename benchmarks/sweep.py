"""The sweep engine against a plain loop of Lightning fits: same models, same optimiser steps.

    python benchmarks/sweep.py

The loop is what one would write without latens: for each cell a fresh LightningModule with the
same objective and a fresh Trainer, a shuffling DataLoader over a TensorDataset, torch on its
default threads, no logger, no checkpoints, no progress bar. The engine runs two processes of one
thread, writes checkpoints, histories, weights and outcomes, and its time includes the start of
its processes. Ratios below 1 favour the engine.
"""

import json
import tempfile
import time
import warnings
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from latens.distributions import NoiseStream
from latens.objectives import reduce_terms
from latens.store import RunFolder
from latens.studies.configure import construct, load_layers, resolve
from latens.studies.enumeration import units_of
from latens.studies.run import identity
from latens.studies.scarcity import Scarcity
from latens.studies.sweep import sweep
from latens.training.fit import _quiet_lightning

STEPS = 150
OVERRIDES = [
    "--sizes=[64,256]",
    "--data_seeds=1",
    "--init_seeds=2",
    "--ensembles=[]",
    "--baselines=[]",
    "--data.count=600",
    f"--training.max_steps={STEPS}",
    "--training.kl_warmup_steps=50",
]


class PlainModule(LightningModule):
    """A stage of a model as one would write it by hand."""

    def __init__(self, model, stage, problem, settings):
        super().__init__()
        self.model, self.stage, self.problem, self.settings = model, stage, problem, settings

    def _loss(self, batch, step):
        noise = NoiseStream(0, step)
        terms = self.model.terms(self.stage, *batch, noise, self.problem)
        return reduce_terms(terms, self.model.stage_event_size(self.stage))

    def training_step(self, batch, batch_idx):
        return self._loss(batch, self.global_step)

    def validation_step(self, batch, batch_idx):
        self.log("val", self._loss(batch, batch_idx))

    def configure_optimizers(self):
        parameters = self.model.stage_parameters(self.stage)
        return torch.optim.Adam(parameters, lr=self.settings.learning_rate)


class Silent:
    """No progress."""

    def advance(self, unit, status):
        pass


def plain_loop(study, fits) -> float:
    """Seconds of the loop."""
    start = time.perf_counter()
    for unit in fits:
        subset = study.subset(unit.n, unit.data_seed)
        torch.manual_seed(unit.init_seed)
        model = study.build(unit.name)
        train = study.corpus.pairs(subset.train)
        model.fit_units(*train)
        loader = DataLoader(
            TensorDataset(*train), batch_size=study.training.batch_size, shuffle=True
        )
        held_out = TensorDataset(*study.corpus.pairs(subset.validation))
        for stage in model.stages:
            module = PlainModule(model, stage, study.corpus.problem, study.training)
            with _quiet_lightning(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                trainer = Trainer(
                    max_steps=STEPS,
                    gradient_clip_val=study.training.gradient_clip,
                    check_val_every_n_epoch=None,
                    val_check_interval=study.training.validate_every,
                    accelerator="cpu",
                    logger=False,
                    enable_checkpointing=False,
                    enable_progress_bar=False,
                    enable_model_summary=False,
                    num_sanity_val_steps=0,
                )
                trainer.fit(module, loader, DataLoader(held_out, batch_size=256))
    return time.perf_counter() - start


def engine(study, config, fits) -> float:
    """Seconds of the engine on two processes, their start included."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", identity(study, config, "benchmark"))
        start = time.perf_counter()
        sweep(study, config, run, fits, 2, Silent())
        return time.perf_counter() - start


def main() -> None:
    """Measure both in turn, twice, and write the rows."""
    config = resolve(Scarcity, load_layers("scarcity", ["phantoms"], []), OVERRIDES)
    study = construct(Scarcity, config)
    fits, _ = units_of(study, config)
    rows = []
    for repeat in range(2):
        seconds = engine(study, config, fits)
        plain = plain_loop(study, fits)
        rows.append({"repeat": repeat, "engine_s": seconds, "plain_s": plain})
        print(
            f"{len(fits)} fits × {STEPS} steps: engine {seconds:.1f} s, loop {plain:.1f} s, "
            f"ratio {seconds / plain:.2f}"
        )
    path = Path(__file__).parent / "data" / "sweep.json"
    path.write_text(json.dumps({"fits": len(fits), "steps": STEPS, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
