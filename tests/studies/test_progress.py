"""What a training shows while it runs."""

import pytest
from PIL import Image

from latens.store import HISTORY, read_csv
from latens.studies.volumes import progress
from latens.studies.volumes.progress import Progress

LOOKS = [
    (25, "train_epoch/loss", 1.5),
    (25, "val_epoch/loss", 1.75),
    (50, "train_epoch/loss", 1.25),
    (50, "val_epoch/loss", 1.625),
]


def test_every_look_is_written_and_drawn_once_a_minute(tmp_path, monkeypatch: pytest.MonkeyPatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    folder = tmp_path / "resume" / "hash"
    keep = Progress(folder, "exp1", 3)
    for seconds, looks, drawn in ((0, 2, True), (59, 4, False), (60, 4, True)):
        now[0] = 1000.0 + seconds
        picture = folder / "dashboard.png"
        picture.unlink(missing_ok=True)
        keep(LOOKS[:looks])
        history = read_csv(folder / "history.csv", HISTORY)
        assert list(history.itertuples(index=False, name=None)) == [
            ("exp1", *look) for look in LOOKS[:looks]
        ]
        assert picture.is_file() == drawn
        if drawn:
            with Image.open(picture) as drawing:
                assert drawing.size[0] > 200
        assert {file.name for file in folder.iterdir()} <= {"history.csv", "dashboard.png"}
