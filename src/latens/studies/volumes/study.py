"""Settings of a VAE of scans, and the roles of the subjects.

| stage | model | question |
|---|---|---|
| exp1 | VAE | are the latents used? |
| exp2 | DIP-VAE-II, spatial broadcast decoder if chosen | are they independent? |
| exp3 | partitioned VAE | do some mean volume, place and shape, and do the others not? |
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from latens.data import Augmentation, Scans, Subjects, SubjectSource, hold_out
from latens.data.subjects import PARTS
from latens.errors import ConfigError
from latens.evaluation.volumes import Sample
from latens.models.partitioned import Partition, PartitionedVAE
from latens.models.volume_vae import VolumeVAE
from latens.nets import Volumetric
from latens.nets.scale import Scale
from latens.nets.volumetric import DecoderKind, Upsampling
from latens.objectives.dip import Dip
from latens.objectives.kl_control import KLControl
from latens.studies.volumes.rows import check_rows
from latens.studies.volumes.scans import ChangedScans, Images, Known, certain
from latens.studies.volumes.seen import fingerprints
from latens.studies.volumes.tracking import check_tracking
from latens.training import Training
from latens.training.batches import Pair
from latens.training.hardware import Hardware
from latens.types import Shape

Stage = Literal["exp1", "exp2", "exp3"]
HELD_BYTES = 4 * 2**30
"""Scans that take less are held in memory, others are read for every batch."""
SPLIT_SEED = 0
LEAST_OF_PARTS = 8
"""Scans of the test and of the validation share without which parts mean nothing."""
PROBED = 1600
"""Training scans that probes are fitted on, the first ones: the cost of a kernel grows with their
third power."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model.

    Args:
        dim: Number of latents.
        decoder: `standard`, or `sbd` for the spatial broadcast decoder.
        upsampling: `resize` or `transposed` convolutions.
        scale: Observation scale: shared (one for each modality), per_image or per_pixel.
        width: Channels on the finest grid.
        features: Width of the vector between convolutions and latents.
        patch: Edge of the patches folded into channels.
        coarse: Longest axis of the smallest grid.
        blocks: Residual blocks on every grid but the finest.
        recompute: Compute activations again in the backward pass: less memory, more time.
        posterior_logvar_min: Floor of log σ² of the posterior; −8 for latents read from a mask.
    """

    dim: int = 128
    decoder: DecoderKind = "standard"
    upsampling: Upsampling = "resize"
    scale: Scale = "shared"
    width: int = 16
    features: int = 256
    patch: int = 2
    coarse: int = 8
    blocks: int = 1
    recompute: bool = False
    posterior_logvar_min: float = -6.0

    def architecture(self) -> Volumetric:
        """The networks."""
        return Volumetric(
            self.width,
            self.features,
            self.patch,
            self.coarse,
            self.blocks,
            self.decoder,
            self.upsampling,
            self.recompute,
            self.posterior_logvar_min,
        )


class VolumeStudy:
    """A VAE of scans, trained from several initial weights and judged on held-out subjects.

    Args:
        stage: exp1, exp2 or exp3.
        data: Where the scans come from.
        model: Sizes.
        control: What is done to the KL in training.
        dip: Penalty of exp2.
        partition: Weights of exp3.
        parts: Known quantities that exp3 aligns, some of volume, location, shape.
        test_scans: Scans of held-out subjects, at least; a source with splits of its own keeps
            them, whatever this and the next number say.
        validation_scans: Scans of the subjects on which weights are chosen, at least; with 0 there
            are none, and weights are chosen on the training scans, not augmented. Then nothing
            says when a model begins to learn by heart. exp3 needs 8, of test scans too.
        seeds: Number of trainings, each with its own initial weights, batches and noise.
        data_range: L of PSNR and SSIM, in standard deviations of the brain.
        shown: Held-out scans in the report.
        augmentation: Random changes of training scans, drawn anew at every pass over them; null
            for none. Held-out scans and those that probes are fitted on stay as they are.
        training: Budget and optimiser.
        hardware: Precision, accumulation, processes, and whether networks are compiled.
        wandb: Write the history of every training also as an offline run of Weights & Biases.
    """

    name = "growth"

    def __init__(
        self,
        data: SubjectSource,
        stage: Stage = "exp1",
        model: Sizes = Sizes(),
        control: KLControl = KLControl(),  # noqa: B008
        dip: Dip = Dip(),  # noqa: B008
        partition: Partition = Partition(),  # noqa: B008
        parts: list[Literal["volume", "location", "shape"]] = [  # noqa: B006
            "volume",
            "location",
            "shape",
        ],
        test_scans: int = 150,
        validation_scans: int = 100,
        seeds: int = 2,
        data_range: float = 8.0,
        shown: int = 4,
        augmentation: Augmentation | None = None,
        training: Training = Training(),  # noqa: B008
        hardware: Hardware = Hardware(),  # noqa: B008
        wandb: bool = False,
    ) -> None:
        few = 0 if stage != "exp3" else LEAST_OF_PARTS
        for name, value, least in (
            ("test_scans", test_scans, max(few, 1)),
            ("validation_scans", validation_scans, few),
            ("seeds", seeds, 1),
            ("shown", shown, 1),
        ):
            if value < least:
                raise ConfigError(name, f"{least} or more", value, "Raise it.")
        if not data_range > 0:
            raise ConfigError("data_range", "above 0", data_range, "Use 8.")
        if not parts or len(set(parts)) < len(parts):
            raise ConfigError("parts", "each part once, at least one", parts, "Use [volume].")
        own = {"exp1": 0, "exp2": dip.steps, "exp3": partition.steps}[stage]
        last = max(control.steps, own)
        if last > training.max_steps:
            raise ConfigError(
                "control, dip, partition",
                f"schedules that end within `training.max_steps` ({training.max_steps})",
                f"{last} steps",
                "Shorten them, or the model never trains with its final weights.",
            )
        if control.cycles and training.kl_warmup_steps:
            raise ConfigError(
                "training.kl_warmup_steps",
                "0 beside annealing cycles, which have a rise of their own",
                training.kl_warmup_steps,
                "Set it to 0.",
            )
        if training.batch_size % (hardware.accumulate * hardware.processes * hardware.nodes):
            raise ConfigError(
                "training.batch_size",
                "a multiple of `hardware.accumulate` times the processes",
                training.batch_size,
                "It counts all rows of an optimiser step.",
            )
        check_rows(stage, training.batch_size, hardware, dip, partition)
        if wandb:
            check_tracking()
        self.stage: Stage = stage
        self.data, self.model, self.control = data, model, control
        self.dip, self.partition, self.parts = dip, partition, parts
        self.test_scans, self.validation_scans = test_scans, validation_scans
        self.seeds, self.data_range, self.shown = seeds, data_range, shown
        self.augmentation = augmentation
        self.training, self.hardware, self.wandb = training, hardware, wandb
        self._held: dict[str, Scans | Subjects] = {}

    @cached_property
    def subjects(self) -> Subjects:
        """All scans; found once.

        Raises:
            DataError: If they cannot be used.
        """
        return self.data.load()

    @cached_property
    def roles(self) -> dict[str, np.ndarray]:
        """Positions of the scans of each role; subjects stay whole, and no test scan is trained
        on. Without validation scans the training scans have that role too.

        Raises:
            ConfigError: If a split of the source is empty, or nothing would be left to train on.
        """
        groups = self.subjects.groups
        if self.subjects.splits:
            return self._published_roles()
        needed = 3 if self.validation_scans else 2
        if len(set(groups)) < needed:
            raise ConfigError(
                "data",
                f"{needed} subjects or more, to train on, to test and to choose weights on"
                if self.validation_scans
                else f"{needed} subjects or more, to train on and to test",
                len(set(groups)),
                "Set `validation_scans: 0`: the training scans then choose the weights."
                if self.validation_scans
                else "Add subjects: a model is not judged on scans that it was trained on.",
            )
        held = self.test_scans + self.validation_scans
        if held >= len(groups):
            raise ConfigError(
                "test_scans, validation_scans",
                f"fewer together than the {len(groups)} scans, some being left to train on",
                (self.test_scans, self.validation_scans),
                f"Use for example {max(1, len(groups) // 5)} each.",
            )
        pool, test = hold_out(groups, self.test_scans, SPLIT_SEED)
        if not self.validation_scans:
            return {"train": pool, "validation": pool, "test": test}
        train, validation = hold_out(
            [groups[i] for i in pool], self.validation_scans, SPLIT_SEED + 1
        )
        return {"train": pool[train], "validation": pool[validation], "test": test}

    @property
    def chosen_on(self) -> int:
        """Scans that were kept apart to choose weights on; 0 if training scans chose them."""
        shared = np.array_equal(self.roles["validation"], self.roles["train"])
        return 0 if shared else len(self.roles["validation"])

    def _published_roles(self) -> dict[str, np.ndarray]:
        """Roles that came with the scans."""
        splits = np.asarray(self.subjects.splits)
        names = {"train": "train", "validation": "val", "test": "test"}
        found = {role: np.flatnonzero(splits == name) for role, name in names.items()}
        least = LEAST_OF_PARTS if self.stage == "exp3" else 1
        for role, rows in found.items():
            if len(rows) < least:
                raise ConfigError(
                    "data",
                    f"at least {least} to {names[role]}",
                    len(rows),
                    "Raise its `limit`.",
                )
        return found

    def groups(self, role: str) -> list[str]:
        """Subject of every scan of a role."""
        return [self.subjects.groups[i] for i in self.roles[role]]

    def images(self, role: str) -> Tensor | Images:
        """Images of a role: in memory, and made once, where they are few."""
        scans = self._scans(role)
        return scans.images if isinstance(scans, Scans) else Images(scans)

    def _scans(self, role: str) -> Scans | Subjects:
        """Scans of a role with their masks, in memory where they are few."""
        if role not in self._held:
            own = self.subjects.select(self.roles[role])
            few = 4 * len(own) * int(np.prod(own.shape)) < HELD_BYTES
            self._held[role] = own[:] if few else own
        return self._held[role]

    @cached_property
    def fingerprints(self) -> dict[str, list[str]]:
        """Hash of every scan, by role; training scans that choose the weights have one role."""
        roles = [role for role in self.roles if role != "validation" or self.chosen_on]
        return {
            role: fingerprints(self._scans(role)) if role in roles else [] for role in self.roles
        }

    @property
    def aligned(self) -> list[str]:
        """What the first latents mean, one name each."""
        parts = self.parts if self.stage == "exp3" else []
        return [name for part in parts for name in PARTS[part]]

    @property
    def reads_masks(self) -> bool:
        """Whether the model is told where the lesion is."""
        return self.stage == "exp3" and self.partition.mask > 0

    def _measured(self, role: str) -> Tensor:
        """Volume of the lesion of each scan as measured, in voxels; NaN where unknown."""
        rows = self.roles[role]
        edges = np.linalg.det(self.subjects.affines[rows][:, :3, :3])
        return self.subjects.volumes[rows] / torch.from_numpy(np.abs(edges))

    def shown_lesions(self) -> Tensor:
        """Masks of the held-out scans in the report, `(shown, D, H, W)`; empty where unknown."""
        rows = slice(0, self.shown)
        lesion = self._scans("test")[rows].lesion
        known = certain(lesion, self._measured("test")[rows])
        return lesion[:, 0] & known[:, None, None, None]

    def changed(self, seed: int) -> ChangedScans | None:
        """Training scans as the augmentation changes them, or with their masks, where images and
        masks would be read one after the other; null where neither is asked for.
        """
        scans = self._scans("train")
        if self.augmentation is None and (isinstance(scans, Scans) or not self.reads_masks):
            return None
        own = self.subjects.select(self.roles["train"])
        measured = self._measured("train") if self.reads_masks else None
        return ChangedScans(self.augmentation, own, scans, [*self.parts], seed, measured)

    def targets(self, role: str, *parts: str) -> Tensor:
        """Known quantities of a role, those of exp3 by default, `(n, T)`."""
        return self.subjects.target(*(parts or self.parts))[self.roles[role]]

    def pair(self, role: str) -> Pair:
        """Images and what is known of them, as training takes them; what is read when asked for
        is indexed like a tensor.
        """
        known: Tensor | Known = self.targets(role)
        if self.reads_masks:
            known = Known(known, self._scans(role), self._measured(role))
        return self.images(role), known  # pyright: ignore[reportReturnType]

    def sample(self) -> Sample:
        """What every model is assessed on: probes are fitted on training subjects."""
        names = [name for name in PARTS if bool(torch.isfinite(self._all(name)).any())]
        fitting, train = slice(0, PROBED), self.images("train")
        if isinstance(train, Images):  # too many to be held: read when asked for, as the others
            train = Images(self.subjects.select(self.roles["train"][fitting]))
        else:
            train = train[fitting]
        return Sample(
            train,  # pyright: ignore[reportArgumentType]
            {name: self.targets("train", name)[fitting] for name in names},
            self.images("test"),  # pyright: ignore[reportArgumentType]
            {name: self.targets("test", name) for name in names},
            self.groups("test"),
            self.subjects.channels,
            self.data_range,
            self.subjects.factors[self.roles["train"]][fitting],
            self.subjects.factors[self.roles["test"]],
        )

    def _all(self, part: str) -> Tensor:
        return self.subjects.target(part)

    def build(self, seed: int, shape: Shape | None = None) -> VolumeVAE:
        """The model with its initial weights, a function of the seed alone.

        Args:
            seed: Key of the weights.
            shape: `(C, D, H, W)` of the scans; by default those of `subjects`.
        """
        common = {
            "dim": self.model.dim,
            "scale": self.model.scale,
            "architecture": self.model.architecture(),
            "control": self.control,
        }
        voxel = (1.0, 1.0, 1.0)  # that of a trained model comes with its weights
        if shape is None:
            shape = self.subjects.shape
            edges = np.linalg.norm(self.subjects.affines[0, :3, :3], axis=0)
            voxel = (float(edges[0]), float(edges[1]), float(edges[2]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.stage == "exp3":
                sizes = {name: len(PARTS[name]) for name in self.parts}
                return PartitionedVAE(
                    shape, sizes, partition=self.partition, voxel=voxel, **common
                )
            dip = self.dip if self.stage == "exp2" else None
            return VolumeVAE(shape, dip=dip, **common)
