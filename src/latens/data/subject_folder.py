"""Folders of subjects: registered modalities of each, perhaps a segmentation and visits."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from latens.data.images import check_limit
from latens.data.scan_cache import ScanCache, read_entry, read_facts
from latens.data.scan_preparation import Preparation, Prepared, prepare
from latens.data.subject_files import SEGMENTATION, ScanFiles, find_scans
from latens.data.subjects import MODALITIES, Scans, Subjects, SubjectSource
from latens.data.visit_days import VISITS_FILE, read_days
from latens.errors import ConfigError, DataError
from latens.store.hashing import content_hash
from latens.types import Shape

FIELD = 192.0
"""Millimetres along the longest axis where no spacing is stated: room for a brain."""
LARGEST_IN_MEMORY = 2**32
"""Bytes of prepared images above which they must go to disk."""


class SubjectFolder(SubjectSource):
    """A folder with the NIfTI files of subjects: `t1c`, `t1n`, `t2f`, `t2w`, perhaps `seg`.

    Files are found by their names, BraTS style or others, or by `patterns`. The modalities of a
    scan must share one grid. Each scan is turned to one orientation, resampled to `spacing` in
    one step, cropped or padded to `size` about the middle of the brain, and standardised over
    the brain, channel by channel. The brain is the file `brain` where there is one; otherwise it
    is where any modality is not zero, which holds for skull-stripped images only.

    Volume and shape of the lesion come from the segmentation as it lies in the file.

    Args:
        path: The folder.
        patterns: Role (a modality, `seg` or `brain`) → where its files lie, relative to the
            folder: `{subject}/{subject}_t1c.nii.gz`, with `{visit}` and `*` where needed.
        modalities: Channels, in their order.
        size: Voxels along D, H, W; 128³ by default.
        spacing: Millimetres between voxels; by default 192 mm over the longest axis.
        labels: Labels of the segmentation that make up the lesion; all but 0 by default.
        no_lesion: What an empty segmentation means: an error (`refuse`), or that there is no
            lesion (`keep`); its log volume then is −inf, and 0 in series is left-censored.
        visits: CSV table with the columns `scan` (name of a scan, such as `subject/visit`) and
            `day`. By default `visits.csv` in the folder, if there is one.
        cache: Folder for prepared scans. Without one they are kept in memory.
        limit: Read only the first `limit` scans.
        citation: Source to cite in figures.
    """

    def __init__(
        self,
        path: str,
        patterns: dict[str, str] | None = None,
        modalities: tuple[str, ...] = MODALITIES,
        size: tuple[int, int, int] = (128, 128, 128),
        spacing: float | None = None,
        labels: tuple[int, ...] | None = None,
        no_lesion: Literal["refuse", "keep"] = "refuse",
        visits: str | None = None,
        cache: str | None = None,
        limit: int | None = None,
        citation: str = "",
    ) -> None:
        if len(size) != 3 or min(size) < 1:
            raise ConfigError(
                "size", "three positive numbers", size, "Use for example 64, 64, 64."
            )
        if spacing is not None and not 0 < spacing < math.inf:
            raise ConfigError(
                "spacing", "a positive number of millimetres", spacing, "Leave it out, or use 1.5."
            )
        if not modalities or len(set(modalities)) < len(modalities):
            raise ConfigError(
                "modalities", "one name or more, each once", modalities, "Leave out the repeated."
            )
        if no_lesion not in ("refuse", "keep"):
            raise ConfigError(
                "no_lesion", "`refuse` or `keep`", no_lesion, "Choose one of the two."
            )
        if labels is not None and (not labels or 0 in labels):
            raise ConfigError(
                "labels", "labels other than 0, or nothing", labels, "0 is what is not the lesion."
            )
        self.path = path
        self.patterns = patterns
        self.modalities = tuple(modalities)
        depth, height, width = size
        self.size = depth, height, width
        self.spacing = spacing
        self.labels = labels
        self.no_lesion = no_lesion
        self.visits = visits
        self.cache = cache
        self.limit = check_limit(limit)
        self.citation = citation

    @property
    def preparation(self) -> Preparation:
        """How each scan is prepared."""
        step = FIELD / max(self.size) if self.spacing is None else float(self.spacing)
        return Preparation(self.modalities, self.size, (step, step, step), self.labels)

    @property
    def shape(self) -> Shape:
        """Shape of one scan, `(C, D, H, W)`."""
        return (len(self.modalities), *self.size)

    def load(self) -> Subjects:
        """Find the files and prepare every scan, so that what is wrong shows now."""
        folder = Path(self.path)
        scans = find_scans(folder, self.modalities, self.patterns)[: self.limit]
        days = self._days(folder, scans)
        how = self.preparation
        if self.cache is None:
            read, facts = self._in_memory(scans, how)
        else:
            entries = ScanCache(Path(self.cache), how).fill(scans)
            read, facts = _CachedScans(entries, self.shape), [read_facts(e) for e in entries]
        self._check_lesions(scans, [fact["targets"] for fact in facts])
        return Subjects(
            read=read,
            shape=self.shape,
            channels=self.modalities,
            names=tuple(scan.name for scan in scans),
            targets=torch.from_numpy(np.stack([fact["targets"] for fact in facts])).float(),
            affines=np.stack([fact["affine"] for fact in facts]),
            groups=tuple(scan.subject for scan in scans),
            axes=tuple(fact["axes"] for fact in facts),
            codes=tuple(fact["code"] for fact in facts),
            times=None if days is None else torch.tensor(days, dtype=torch.float64),
            identity=content_hash(
                [
                    # As text, since a hash takes no NaN.
                    [scan.subject, fact["content"], [repr(float(t)) for t in fact["targets"]]]
                    for scan, fact in zip(scans, facts, strict=True)
                ]
            ),
            name=folder.resolve().name,
            citation=self.citation,
        )

    def _days(self, folder: Path, scans: Sequence[ScanFiles]) -> list[float] | None:
        table = folder / VISITS_FILE if self.visits is None else Path(self.visits)
        if self.visits is None and not table.exists():
            return None
        return read_days(table, {scan.name: scan.subject for scan in scans})

    def _check_lesions(self, scans: Sequence[ScanFiles], targets: Sequence[np.ndarray]) -> None:
        empty = [
            str(scan.files[SEGMENTATION])
            for scan, row in zip(scans, targets, strict=True)
            if row[0] == -math.inf
        ]
        if empty and self.no_lesion == "refuse":
            labels = "" if self.labels is None else f" of the labels {self.labels}"
            raise DataError(
                empty[0],
                f"a voxel{labels}",
                f"an empty segmentation, as {len(empty)} of {len(scans)} scans have",
                "Correct it, or set `no_lesion: keep` if nothing is there to be seen.",
            )

    def _in_memory(
        self, scans: Sequence[ScanFiles], how: Preparation
    ) -> "tuple[_HeldScans, list[dict]]":
        needed = len(scans) * 4 * math.prod(self.shape)
        if needed > LARGEST_IN_MEMORY:
            raise ConfigError(
                "cache",
                f"a folder for {needed / 2**30:.1f} GiB of prepared scans",
                None,
                "Name a folder with room for them, or lower `size` or `limit`.",
            )
        prepared = [prepare(scan, how) for scan in scans]
        return _HeldScans(prepared), [vars(scan) for scan in prepared]


class _HeldScans:
    """Reader of scans that are in memory."""

    def __init__(self, prepared: Sequence[Prepared]) -> None:
        self.scans = [_as_scans(scan.images, scan.brain, scan.lesion) for scan in prepared]

    def __call__(self, rows: Sequence[int]) -> Scans:
        return Scans.joined((self.scans[row] for row in rows), len(rows))


class _CachedScans:
    """Reader of scans that lie in a cache."""

    def __init__(self, entries: Sequence[Path], shape: Shape) -> None:
        self.entries, self.shape = entries, shape

    def __call__(self, rows: Sequence[int]) -> Scans:
        return Scans.joined((self._scan(self.entries[row]) for row in rows), len(rows))

    def _scan(self, entry: Path) -> Scans:
        images, brain, lesion = read_entry(entry)
        if images.shape != self.shape:
            raise DataError(
                str(entry),
                f"images of shape {self.shape}",
                images.shape,
                "Delete this folder: it is made again.",
            )
        return _as_scans(images, brain, lesion)


def _as_scans(images: np.ndarray, brain: np.ndarray, lesion: np.ndarray) -> Scans:
    """One scan as a batch."""
    return Scans(
        torch.from_numpy(images)[None],
        torch.from_numpy(brain)[None, None],
        torch.from_numpy(lesion)[None, None],
    )
