"""Scans that training takes: augmented or not, in memory or read, the same numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from latens.cli import main
from latens.data import Augmentation, PhantomSubjects, Scans, SubjectFolder
from latens.data.lesion_shape import lesion_targets
from latens.distributions import diagonal_normal
from latens.errors import ConfigError, DataError, ShapeError
from latens.evaluation.volumes import BLOCK, assess_volumes
from latens.models.partitioned import Partition
from latens.objectives.dependence import distance_correlation
from latens.objectives.dip import Dip, DipPenalty
from latens.store import read_csv, write_json
from latens.studies.volumes import study as module
from latens.studies.volumes.scans import certain
from latens.studies.volumes.seen import trained_roles
from latens.studies.volumes.study import Sizes, VolumeStudy
from latens.studies.volumes.tables import VOLUME_HISTORY
from latens.training import Training
from latens.training.hardware import Hardware
from stand_ins.subject_scans import SHAPE, subject
from stand_ins.tiny_scans import TINY_SCANS

SIZE = (24, 24, 24)
ROWS, PASSES = torch.tensor([3, 0, 3, 7]), torch.tensor([0, 0, 1, 2])


def made(**settings) -> VolumeStudy:
    data = PhantomSubjects(SIZE, count=40, seed=2)
    return VolumeStudy(data, "exp3", test_scans=8, validation_scans=8, **settings)


def test_changed_scans_keep_what_is_known_of_them_true() -> None:
    study = made(augmentation=Augmentation(contrast=0.0, brightness=0.0, noise=0.0, turn=30.0))
    changed = study.changed(5)
    assert changed is not None
    images, targets = changed(ROWS, PASSES)
    x, y = study.pair("train")
    assert images.shape == (4, *x.shape[1:])
    assert targets.shape == (4, 7)
    torch.testing.assert_close(targets[:, 4:], y[ROWS][:, 4:])  # log volume, centroid, shape
    assert (targets[:, 0] - y[ROWS][:, 0]).abs().min() > 1e-3
    moved, _ = changed.augmentation(
        changed.scans[ROWS],
        changed.targets[ROWS],
        changed.spacing[0],
        seed=5,
        passes=PASSES.tolist(),
        rows=ROWS.tolist(),
    )
    for mask, target in zip(moved.lesion, targets, strict=True):
        measured = lesion_targets(mask[0].numpy(), changed.spacing[0])
        assert abs(measured[0] - float(target[0])) < 0.35
        assert abs(torch.from_numpy(measured[1:4]) - target[1:4]).max() < 0.06
    assert (images[0] - images[2]).abs().amax() > 0.5  # the same scan in two passes
    for role in ("validation", "test"):
        assert torch.equal(study.pair(role)[0], made().pair(role)[0])


def test_held_and_read_scans_are_changed_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    held = made(augmentation=Augmentation())
    first = held.changed(1)
    monkeypatch.setattr(module, "HELD_BYTES", 0)
    read = made(augmentation=Augmentation())
    second = read.changed(1)
    assert first is not None
    assert second is not None
    for one, other in zip(first(ROWS, PASSES), second(ROWS, PASSES), strict=True):
        assert torch.equal(one, other)
    assert isinstance(held.images("train"), torch.Tensor)
    assert not isinstance(read.images("train"), torch.Tensor)
    # Images are in memory once, and nothing but images without an augmentation.
    assert held.images("train").data_ptr() == first.scans.images.data_ptr()  # pyright: ignore
    assert made().changed(1) is None


def test_assessment_reads_no_more_than_a_block_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    study = made()
    study.model = Sizes(dim=16, width=4, coarse=4, features=8)
    asked: list[int] = []

    def counted(rows):
        asked.append(len(rows))
        return whole.read(rows)

    whole = study.subjects
    study.subjects = replace(whole, read=counted)
    monkeypatch.setattr(module, "HELD_BYTES", 0)
    assess_volumes(study.build(0), study.sample())
    assert len(study.roles["train"]) > BLOCK
    assert max(asked) <= BLOCK
    assert sum(asked) >= len(study.roles["train"])
    read = study.sample().fitting
    study._held.clear()
    monkeypatch.undo()
    assert torch.equal(read[:5], study.sample().fitting[:5])


@pytest.mark.parametrize(
    ("stage", "batch", "hardware", "more", "least"),
    [
        ("exp1", 1, Hardware(), {}, 1),
        ("exp2", 2, Hardware(), {}, 2),
        ("exp2", 4, Hardware(), {"dip": Dip(estimator="squares")}, 4),
        ("exp2", 12, Hardware(accumulate=3), {"dip": Dip(estimator="squares")}, 4),
        ("exp2", 4, Hardware(accumulate=2, processes=2), {}, 2),
        ("exp3", 4, Hardware(), {}, 4),
        ("exp3", 8, Hardware(accumulate=2), {}, 4),
        ("exp3", 12, Hardware(accumulate=2, processes=3), {}, 4),
        ("exp3", 2, Hardware(accumulate=2), {"partition": Partition(independent=0.0)}, 1),
    ],
)
def test_a_penalty_has_the_rows_that_it_needs(stage, batch, hardware, more, least) -> None:
    """The least batch is taken, and advised where one has fewer rows."""
    data = PhantomSubjects(SIZE, count=40)
    settings = {"stage": stage, "hardware": hardware, **more}
    VolumeStudy(data, training=Training(batch_size=batch), **settings)
    unit = hardware.accumulate * hardware.processes
    if least > 1 and batch > unit:
        with pytest.raises(ConfigError, match=f"Set it to {batch} or more"):
            VolumeStudy(data, training=Training(batch_size=batch - unit), **settings)
    q = diagonal_normal(torch.randn(least, 3), torch.ones(least, 3), 1)
    needed = more["dip"].rows if "dip" in more else 2
    if stage == "exp2":  # the rule is that of the penalty itself
        DipPenalty(3, more.get("dip", Dip()))(q)
        assert least == needed
        with pytest.raises(ShapeError):
            DipPenalty(3, more.get("dip", Dip()))(diagonal_normal(q.mean[1:], q.stddev[1:], 1))
    if stage == "exp3" and least > 1:
        distance_correlation(q.mean, q.mean)
        with pytest.raises(ShapeError):
            distance_correlation(q.mean[1:], q.mean[1:])


def test_scans_are_known_by_their_content(tmp_path: Path) -> None:
    """Whatever the collection, the order, the names and the masks."""
    study = made()
    write_json(tmp_path / "fit.json", {"scans": study.fingerprints})
    whole = PhantomSubjects(SIZE, count=43, seed=2).load()  # three more
    roles = {name: role for role, rows in study.roles.items() for name in _names(study, rows)}
    assert trained_roles(whole, tmp_path) == roles
    few = whole.select([42, 7, 3, 0])
    blind = replace(few, names=("d", "c", "b", "a"), read=lambda rows: _without(few.read(rows)))
    known = {"c": roles[few.names[1]], "b": roles[few.names[2]], "a": roles[few.names[3]]}
    assert trained_roles(blind, tmp_path) == known
    shared = VolumeStudy(PhantomSubjects(SIZE, 40, 2), test_scans=8, validation_scans=0)
    write_json(tmp_path / "fit.json", {"scans": shared.fingerprints})
    assert sorted(set(trained_roles(whole, tmp_path).values())) == ["test", "train"]
    write_json(tmp_path / "fit.json", {})
    with pytest.raises(DataError, match="the scans of every role"):
        trained_roles(whole, tmp_path)


def _names(study: VolumeStudy, rows: np.ndarray) -> list[str]:
    return [study.subjects.names[row] for row in rows]


def _without(scans: Scans) -> Scans:
    return replace(scans, lesion=torch.zeros_like(scans.lesion))


def test_masks_come_with_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in memory and read; an augmented mask is the one that its quantities are of."""
    settings = {"partition": Partition(mask=1.0), "parts": ["volume", "location"]}
    held = made(**settings)
    x, y = held.pair("train")
    rows = y[ROWS]
    assert rows.shape == (4, 4 + 24**3)
    assert torch.equal(y[:, :4], held.targets("train"))
    for row in rows:
        measured = lesion_targets(row[4:].reshape(SIZE).bool().numpy(), np.full(3, 176 / 24))
        assert abs(measured[0] - float(row[0])) < 0.35
        assert abs(torch.from_numpy(measured[1:4]) - row[1:4]).max() < 0.06
    changed = made(**settings, augmentation=Augmentation(turn=30.0)).changed(1)
    assert changed is not None
    _, known = changed(ROWS, PASSES)
    for row in known:
        measured = lesion_targets(row[4:].reshape(SIZE).bool().numpy(), np.full(3, 176 / 24))
        assert abs(torch.from_numpy(measured[1:4]) - row[1:4]).max() < 0.06
    monkeypatch.setattr(module, "HELD_BYTES", 0)
    read = made(**settings).pair("train")
    assert not isinstance(read[0], torch.Tensor)
    assert torch.equal(read[1][ROWS], rows)
    assert torch.equal(read[0][ROWS], x[ROWS])
    assert made().pair("train")[1].shape == (24, 7)  # no masks where nobody asks for them


def test_unknown_masks_are_nan() -> None:
    study = made(partition=Partition(mask=1.0))
    study.subjects.targets[study.roles["train"][0]] = torch.nan
    known = study.pair("train")[1][torch.arange(2)]
    assert known[0].isnan().all()
    assert known[1].isfinite().all()


def test_a_mask_that_the_grid_has_lost_is_unknown(tmp_path: Path) -> None:
    """One voxel of the files at 8 mm: its volume is known, and no voxel of the grid is lesion."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
    small = np.zeros(SHAPE, dtype=np.uint8)
    small[9, 11, 10] = 1
    lesions = {"small": small, "large": (grid**2).sum(0) < 0.3, "none": np.zeros(SHAPE)}
    for seed, (name, lesion) in enumerate(lesions.items()):
        for k in range(7):
            subject(tmp_path, f"{name}{k}", seed=7 * seed + k, lesion=lesion)
    data = SubjectFolder(str(tmp_path), size=(16, 16, 16), spacing=8.0, no_lesion="keep")
    settings = {"partition": Partition(mask=1.0), "test_scans": 8, "validation_scans": 8}
    study = VolumeStudy(data, "exp3", parts=["volume"], **settings)
    augmented = VolumeStudy(
        data, "exp3", parts=["volume"], augmentation=Augmentation(turn=5.0), **settings
    )
    seen = set()
    for role in ("train", "validation", "test"):
        rows = torch.arange(len(study.roles[role]))
        known = study.pair(role)[1][rows]
        if role == "train":
            changed = augmented.changed(0)
            assert changed is not None
            again = changed(rows, torch.zeros(len(rows), dtype=torch.int64))[1]
            assert torch.equal(again.isnan().any(1), known.isnan().any(1))
        for row, name in zip(known, study.groups(role), strict=True):
            kind = name.rstrip("0123456789")
            seen.add(kind)
            mask = row[1:]
            if kind == "small":
                assert row[0].isfinite()
                assert mask.isnan().all()
            else:
                assert mask.isfinite().all()
                assert bool(mask.any()) == (kind == "large")
    assert seen == set(lesions)


def test_masks_are_those_of_lesions_within_a_factor_of_two() -> None:
    lesion = torch.zeros(6, 1, 4, 4, 4)
    for row, count in enumerate((0, 0, 4, 5, 19, 21)):
        lesion[row].view(-1)[:count] = 1
    measured = torch.tensor([torch.nan, 0.0, 10.0, 10.0, 10.0, 10.0], dtype=torch.float64)
    assert certain(lesion.bool(), measured).tolist() == [False, True, False, True, True, False]


def test_a_run_trains_on_changed_scans(tmp_path: Path) -> None:
    found = {}
    for name, more in {"plain": [], "changed": ["--augmentation.turn", "20"]}.items():
        config, out = tmp_path / "tiny.yaml", tmp_path / name
        config.write_text(yaml.safe_dump(TINY_SCANS))
        arguments = ["run", "growth", "--stage", "exp1", "--config", str(config), *more]
        assert main([*arguments, "--out", str(out)]) in (0, 4)
        history = read_csv(out / "tables" / "volume_history.csv", VOLUME_HISTORY)
        found[name] = history.set_index(["step", "quantity"])["value"]
        assert len(list((out / "fits").iterdir())) == 1
    assert found["plain"][2, "train_epoch/loss"] != found["changed"][2, "train_epoch/loss"]
