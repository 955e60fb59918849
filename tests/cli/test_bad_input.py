"""Whatever is wrong: one line that says what to do, exit code 2, nothing half-written."""

import copy
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from latens.cli import main
from stand_ins.tiny_study import arguments, small, write_config

PLANTED = "raise SystemExit('imported')\n"


def refused(capsys: pytest.CaptureFixture[str], argv: list[str], codes: tuple[int, ...]) -> str:
    """The one line that a command prints on refusing its input."""
    assert main(argv) in codes
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("latens: `")
    assert ": expected " in lines[0]
    return lines[0]


def changed(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    """A change of the configuration at a place."""

    def change(tree: dict[str, Any]) -> None:
        node = tree
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = to

    return change


def phantoms(size: int) -> dict[str, Any]:
    """Configuration of some square phantoms."""
    arguments = {"size": [size, size], "count": 9}
    return {"class_path": "latens.data.Phantoms", "init_args": arguments}


BLUR = "latens.problems.GaussianBlur"
CONFIGURATIONS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "unknown key": (changed("sises", to=[16]), "Did you mean `sizes`?"),
    "unknown training key": (changed("training", "max_step", to=4), "Did you mean `max_steps`?"),
    "unknown data key": (changed("data", "init_args", "cuont", to=4), "Did you mean `count`?"),
    "unknown operator key": (changed("operator", "init_args", "widht", to=1), "`width`?"),
    "unknown noise key": (changed("noise", "init_args", "scales", to=1), "`scale`?"),
    "unknown model key": (changed("models", "latent", "init_args", "dims", to=1), "`dim`?"),
    "text for a number": (changed("data_seeds", to="three"), "data_seeds"),
    "fraction for a whole number": (changed("init_seeds", to=1.5), "init_seeds"),
    "number for a list": (changed("sizes", to=16), "sizes"),
    "text in a list": (changed("sizes", to=[16, "many"]), "sizes"),
    "list for the data": (changed("data", to=[1, 2]), "data"),
    "null for models": (changed("models", to=None), "models"),
    "sizes descending": (changed("sizes", to=[32, 16]), "ascending"),
    "size twice": (changed("sizes", to=[16, 16]), "ascending"),
    "no sizes": (changed("sizes", to=[]), "ascending"),
    "negative size": (changed("sizes", to=[-4, 16]), "ascending"),
    "size beyond the pool": (changed("sizes", to=[16, 1000]), "at most 90 images"),
    "size below the roles": (changed("sizes", to=[2, 16]), "at least"),
    "no data seeds": (changed("data_seeds", to=0), "1 or more"),
    "no test images": (changed("test_images", to=0), "1 or more"),
    "only test images": (changed("test_images", to=120), "fewer than the 120 images"),
    "warm-up beyond the run": (changed("training", "kl_warmup_steps", to=40000), "max_steps"),
    "validation beyond the run": (changed("training", "validate_every", to=99), "max_steps"),
    "no steps": (changed("training", "max_steps", to=0), "1 or more"),
    "negative rate": (changed("training", "learning_rate", to=-1.0), "positive"),
    "NaN rate": (changed("training", "learning_rate", to=float("nan")), "learning_rate"),
    "ensemble of nothing": (changed("ensembles", to=["cvae"]), "names of models (latent)"),
    "ensemble of one": (changed("init_seeds", to=1), "`init_seeds` of 2 or more"),
    "ensemble twice": (changed("ensembles", to=["latent", "latent"]), "twice"),
    "too few images for a check": (
        lambda tree: tree.update(checks=["calibration"], checked_images=19),
        "20 or more for the check `calibration`",
    ),
    "checked seeds that are not run": (
        changed("checked_data_seeds", to=2),
        "at most `data_seeds` (1)",
    ),
    "no checked seeds": (changed("checked_data_seeds", to=0), "1 or more"),
    "other images that nothing shows": (
        lambda tree: tree.update(checks=["stability"], other_images=phantoms(16)),
        "the check `reliability`",
    ),
    "other images of another size": (
        lambda tree: tree.update(checks=["reliability"], other_images=phantoms(20)),
        "images of shape (1, 16, 16), that of the data",
    ),
    "unknown baseline": (changed("baselines", to=["landweber"]), "baselines"),
    "baseline twice": (changed("baselines", to=["tikhonov", "tikhonov"]), "twice"),
    "operator alone": (changed("noise", to=None), "both or neither"),
    "noise alone": (changed("operator", to=None), "both or neither"),
    "negative noise": (changed("noise", "init_args", "scale", to=-0.1), "positive"),
    "no noise": (changed("noise", "init_args", "scale", to=0.0), "positive"),
    "infinite noise": (changed("noise", "init_args", "scale", to=float("inf")), "noise"),
    "no blur": (changed("operator", "init_args", "width", to=-1.0), "width"),
    "blur beyond the image": (
        changed("operator", "init_args", "width", to=500.0),
        "at most the size of the signal",
    ),
    "foreign class": (changed("data", "class_path", to="os.system"), "--trust os"),
    "class that is none of latens": (
        changed("noise", "class_path", to="latens.problems.GausianNoise"),
        "GaussianNoise",
    ),
    "class of another kind": (changed("noise", "class_path", to=BLUR), "noise"),
    "class behind a module": (
        changed("noise", "class_path", to="latens.store.provenance.subprocess.Popen"),
        "a class",
    ),
    "interpolation": (changed("data", "init_args", "count", to="${oc.env:HOME}"), "${"),
    "model that does not fit": (
        changed("models", "latent", "init_args", "scale", to="none"),
        "models",
    ),
    "no latents": (changed("models", "latent", "init_args", "dim", to=0), "dim"),
    "phantoms too small": (changed("data", "init_args", "size", to=[8, 8]), "at least 16"),
    "no phantoms": (changed("data", "init_args", "count", to=0), "at least 1"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configuration(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, fragment = CONFIGURATIONS[name]
    tree = copy.deepcopy(small())
    change(tree)
    config = write_config(tmp_path / "config.yaml", tree)
    line = refused(capsys, arguments(config, tmp_path / "run", 1), (2,))
    assert fragment in line
    assert not (tmp_path / "run").exists()


def test_models_with_equal_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latent = small()["models"]["latent"]
    tree = small(models={"latent": latent, "twin": copy.deepcopy(latent)})
    config = write_config(tmp_path / "config.yaml", tree)
    assert "`latent`" in refused(capsys, arguments(config, tmp_path / "run", 1), (2,))
    assert not (tmp_path / "run").exists()


OPTIONS: dict[str, tuple[list[str], str]] = {
    "no command": ([], "COMMAND"),
    "unknown command": (["train"], "invalid choice"),
    "unknown study": (["run", "scarcitty"], "invalid choice"),
    "unknown preset": (["run", "scarcity", "--preset", "phantom"], "Did you mean `phantoms`?"),
    "unknown part of a study": (["run", "pde", "--study", "nonsense"], "got nonsense"),
    "missing configuration": (["run", "scarcity", "--config", "nowhere.yaml"], "nowhere.yaml"),
    "unknown option": (["run", "scarcity", "--sises", "[16]"], "Did you mean `sizes`?"),
    "option without value": (["run", "scarcity", "--sizes"], "Write --sizes=VALUE"),
    "option before option": (
        ["run", "scarcity", "--sizes", "--data_seeds", "2"],
        "Write --sizes=VALUE",
    ),
    "stray word": (["run", "scarcity", "quick"], "Put `--name` before it"),
    "jobs of another type": (["run", "scarcity", "--jobs", "two"], "invalid int"),
    "no jobs": (["run", "scarcity", "--jobs", "0"], "1 or more processes"),
    "class in an option": (["run", "scarcity", "--data", "os.system"], "--trust os"),
    "environment in an option": (["run", "scarcity", "--data_seeds", "${X}"], "${"),
    "trust of a path": (["run", "scarcity", "--trust", "../evil"], "top-level package"),
    "report of nothing": (["report", "nowhere"], "no such folder"),
    "report with more": (["report", "nowhere", "--paper", "x"], "those of `latens report`"),
    "reconstruct of nothing": (["reconstruct", "nowhere", "y.npy"], "no such folder"),
    "reconstruct without file": (["reconstruct", "nowhere"], "required: FILE"),
    "data without action": (["data"], "ACTION"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv, fragment = OPTIONS[name]
    assert fragment in refused(capsys, argv, (2,))
    assert list(tmp_path.iterdir()) == []


TEXTS = {
    "list": ("- sizes\n- 16\n", "keys with values"),
    "key twice": ("sizes: [16]\nsizes: [32]\n", "twice"),
    "broken": ("sizes: [16\n", "line"),
    "tag": ("sizes: !!python/object/apply:os.system ['true']\n", "intact"),
    "empty": ("", "an empty file"),
    "binary": ("\0\1\2", "intact"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_yaml(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, fragment = TEXTS[name]
    (tmp_path / "config.yaml").write_text(text)
    argv = arguments(tmp_path / "config.yaml", tmp_path / "run", 1)
    assert fragment in refused(capsys, argv, (2,))
    assert not (tmp_path / "run").exists()


def images(count: int = 40) -> np.ndarray:
    return np.random.default_rng(0).random((count, 16, 16), dtype=np.float32)


def fill(folder: Path, arrays: np.ndarray | list[np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for index, array in enumerate(arrays):
        np.save(folder / f"image{index}.npy", array)


def _nan(folder: Path) -> None:
    arrays = images()
    arrays[7, 3, 3] = np.nan
    fill(folder, arrays)


def _pickled(folder: Path) -> None:
    fill(folder, images(3))
    np.save(folder / "image1.npy", np.array([{}], dtype=object), allow_pickle=True)


def _truncated(folder: Path) -> None:
    fill(folder, images(3))
    content = (folder / "image1.npy").read_bytes()
    (folder / "image1.npy").write_bytes(content[:-40])


FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (lambda folder: None, "no such folder"),
    "empty": (lambda folder: folder.mkdir(), "at least one npy file"),
    "NaN": (_nan, "image7.npy"),
    "constant": (lambda f: fill(f, np.ones((40, 16, 16), np.float32)), "constant"),
    "mixed shapes": (lambda f: fill(f, [*images(3), images(1)[0, :8]]), "image3.npy"),
    "pickled": (_pickled, "image1.npy"),
    "truncated": (_truncated, "image1.npy"),
    "numbers": (lambda f: fill(f, np.arange(3.0)), "shape (H, W)"),
    "complex": (lambda f: fill(f, images(3) * 1j), "real numbers"),
    "text": (lambda f: fill(f, [np.array([["a"]])]), "real numbers"),
    "too few": (lambda f: fill(f, images(31)), "pool"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folder(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, fragment = FOLDERS[name]
    make(tmp_path / "images")
    spec = {
        "class_path": "latens.data.NpyFolder",
        "init_args": {"path": str(tmp_path / "images")},
    }
    config = write_config(tmp_path / "config.yaml", small(data=spec))
    assert fragment in refused(capsys, arguments(config, tmp_path / "run", 1), (2,))
    assert not (tmp_path / "run").exists()


def test_truncated_gzip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (40, 16, 16))
    values = np.random.default_rng(0).integers(0, 256, 40 * 256, dtype=np.uint8).tobytes()
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(header + values)[:-500])
    spec = {"class_path": "latens.data.IdxImages", "init_args": {"images": str(file)}}
    config = write_config(tmp_path / "config.yaml", small(data=spec))
    assert file.name in refused(capsys, arguments(config, tmp_path / "run", 1), (2,))


PAIRS = {
    "unmatched names": ({}, "a file of the same name"),
    "unexplained measurements": ({}, "χ²/m ="),
    "pattern beside an unknown level": (
        {"noise": {"class_path": "latens.problems.GaussianNoise"}},
        "residuals that average out",
    ),
    "measurements of another shape": ({}, "as the data have"),
    "unknown operator for a simulator": (
        {"operator": None, "noise": None, "baselines": []},
        "from which this model simulates",
    ),
    "unknown operator for a baseline": (
        {"operator": None, "noise": None},
        "a known linear operator",
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, fragment = PAIRS[name]
    x = images(60)
    fill(tmp_path / "pairs" / "x", x)
    y = x + np.linspace(0, 5, 16, dtype=np.float32) if "pattern" in name else x
    fill(tmp_path / "pairs" / "y", y[:, :12] if "shape" in name else y)
    if name == "unmatched names":
        (tmp_path / "pairs" / "y" / "image5.npy").unlink()
    spec = {
        "class_path": "latens.data.PairedFolder",
        "init_args": {"path": str(tmp_path / "pairs")},
    }
    config = write_config(tmp_path / "config.yaml", small(data=spec, sizes=[16], **settings))
    assert fragment in refused(capsys, arguments(config, tmp_path / "run", 1), (2,))
    assert not (tmp_path / "run").exists()


def test_operator_null_for_images_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "config.yaml", small(operator=None, noise=None))
    assert "paired folder" in refused(capsys, arguments(config, tmp_path / "run", 1), (2,))


def test_run_folder_that_holds_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    config = write_config(tmp_path / "config.yaml", small())
    line = refused(capsys, arguments(config, tmp_path / "run", 1), (2,))
    assert "thesis.tex" in line
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_run_folder_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").write_text("years of work")
    config = write_config(tmp_path / "config.yaml", small())
    refused(capsys, arguments(config, tmp_path / "run", 1), (2,))
    assert (tmp_path / "run").read_text() == "years of work"


def test_run_folder_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *arguments: object, **settings: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "mkdir", refuse)
    config = write_config(tmp_path / "config.yaml", small())
    line = refused(capsys, arguments(config, tmp_path / "run", 1), (2,))
    assert "permission denied" in line
    assert not (tmp_path / "run").exists()


def test_show_prints_what_would_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path / "config.yaml", small())
    extra = ["--show", "--training.max_steps", "7", "--models.latent.dim=3", "--data.count", "99"]
    assert main(arguments(config, tmp_path / "run", 1, extra)) == 0
    tree = yaml.safe_load(capsys.readouterr().out)
    assert tree["training"]["max_steps"] == 7
    assert tree["training"]["batch_size"] == 16
    assert tree["models"]["latent"]["init_args"]["dim"] == 3
    assert tree["data"]["init_args"] == {"size": [16, 16], "count": 99, "seed": 0}
    assert not (tmp_path / "run").exists()


def test_a_class_that_is_not_trusted_is_never_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(tmp_path)
    for tree in (
        small(data={"class_path": "planted.Data"}),
        small(data="planted.Data"),
        small(models={"m": {"class_path": "planted.Model"}}),
        small(noise={"class_path": "latens.problems.GaussianNoise", "init_args": "planted.X"}),
    ):
        config = write_config(tmp_path / "config.yaml", tree)
        assert "planted" in refused(capsys, arguments(config, tmp_path / "run", 1), (2,))
