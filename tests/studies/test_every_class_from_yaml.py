"""Every public class that a configuration may name is built from YAML, and listed here."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import latens.data
import latens.models
import latens.nets
import latens.problems
from latens.data import Source
from latens.errors import ConfigError
from latens.models import Model
from latens.nets import Architecture, Flow
from latens.problems import NoiseModel, Operator
from latens.studies.configure import (
    construct,
    construct_object,
    load_layers,
    presets,
    read_preset,
    resolve,
)
from latens.studies.scarcity import Scarcity
from latens.training import Training
from latens.types import Shape

KINDS = {
    "data": (latens.data, Source, Source),
    "problems": (latens.problems, Operator, Callable[[Shape], Operator]),
    "noises": (latens.problems, NoiseModel, NoiseModel),
    "models": (latens.models, Model, Callable[[Shape, Shape], Model]),
    "nets": (latens.nets, Architecture, Architecture),
    "flows": (latens.nets, Flow, Flow),
}
ARGUMENTS: dict[str, str] = {
    "IdxImages": "{images: folder, limit: 3}",
    "MedMnist": "{path: file.npz, block: 2}",
    "NiftiFolder": "{path: folder, pattern: ./*/*.nii.gz, size: [64, 64], slices: 8, scale: unit}",
    "NpyFolder": "{path: folder, data_range: [0, 1e+3]}",
    "PairedFolder": "{path: folder, groups: groups.csv}",
    "Phantoms": "{size: [16, 24, 20], count: 3}",
    "Sprite": "{path: file.png, edge: 8}",
    "Tiles": "{path: folder, files: [a.npy, b.npy], window: [0, 1e+3], region: 128}",
    "Chain": "{steps: [{class_path: latens.problems.Identity}]}",
    "Composition": "{steps: [{class_path: latens.problems.GaussianBlur, init_args: {width: 1}}, "
    "{class_path: latens.problems.Downsampling, init_args: {factor: 2}}]}",
    "Downsampling": "{factor: [2, 4], method: decimate}",
    "FourierSampling": "{acceleration: 4, pattern: points, decay: 1e-1, coils: 3}",
    "GaussianBlur": "{width: 1}",
    "Inpainting": "{kept: 5e-1, pattern: lines}",
    "MotionBlur": "{displacement: [2, 1.5]}",
    "Radon": "{angles: [0, 45.5, 9e+1], detectors: 9}",
    "Stack": "{operators: [{class_path: latens.problems.Identity}]}",
    "GaussianNoise": "{scale: 5e-2}",
    "PoissonGaussianNoise": "{gain: 1e-2, scale: null}",
    "RicianNoise": "{scale: 5e-2}",
    "CVAE": "{dim: 3, architecture: {class_path: latens.nets.Conv, init_args: {width: 4}}}",
    "Latent": "{dim: 3, scale: shared, architecture: {class_path: latens.nets.Linear}, "
    "consistency: 1e-1, flow: {class_path: latens.nets.AffineFlow, init_args: {width: 8}}}",
    "Direct": "{dim: 1, architecture: {class_path: latens.nets.ConvMap, init_args: {width: 8}}}",
    "UNet": "{width: 4, dropout: 0.1, consistency: 1e-2}",
    "SplineFlow": "{couplings: 2, bins: 4}",
    "ConvMap": "{width: 8}",
}
NOT_FROM_TEXT = {"Convolution"}
"""Classes that need a tensor."""


def classes() -> list[tuple[str, str]]:
    """(kind, name) of every concrete public class."""
    found = []
    for kind, (package, base, _) in KINDS.items():
        for name in package.__all__:
            member = getattr(package, name)
            concrete = inspect.isclass(member) and not inspect.isabstract(member)
            if concrete and issubclass(member, base) and name not in NOT_FROM_TEXT:
                found.append((kind, name))
    return found


def test_the_list_is_not_empty() -> None:
    names = {name for _, name in classes()}
    assert names >= {"Phantoms", "GaussianBlur", "GaussianNoise", "Latent", "UNet", "Linear"}
    assert names >= ARGUMENTS.keys()


@pytest.mark.parametrize(("kind", "name"), classes())
def test_built_from_yaml(kind: str, name: str) -> None:
    package, _, hint = KINDS[kind]
    text = f"class_path: {package.__name__}.{name}\ninit_args: {ARGUMENTS.get(name, '{}')}\n"
    made = construct_object(hint, yaml.safe_load(text))
    shapes = {"problems": ((1, 16, 16),), "models": ((1, 16, 16), (1, 8, 8))}.get(kind)
    made = made(*shapes) if shapes else made
    assert type(made) is getattr(package, name)


def test_training_from_yaml() -> None:
    fields = {"max_steps": 70, "learning_rate": 1e-3, "kl_warmup_steps": 7, "warmup_steps": 3}
    tree: dict[str, Any] = {"models": {}, "baselines": ["tikhonov"], "training": fields}
    tree["data"] = {"class_path": "latens.data.Phantoms"}
    tree["operator"] = {"class_path": "latens.problems.Identity"}
    tree["noise"] = {"class_path": "latens.problems.GaussianNoise", "init_args": {"scale": 1}}
    config = resolve(Scarcity, [tree], ["--training.patience", "3"])
    assert config["training"]["batch_size"] == Training().batch_size
    assert config["noise"]["init_args"]["scale"] == 1.0
    assert isinstance(config["noise"]["init_args"]["scale"], float)
    assert construct(Scarcity, config).training == Training(**fields, patience=3)


FILES = {
    "breastmnist": ["--data.path", "x.npz"],
    "mnist": ["--data.images", "x"],
    "pairs": ["--data.path", "x"],
    "slices": ["--data.path", "x"],
    "adrenal": ["--data.path", "x.npz"],
    "brain": ["--data.path", "x"],
}
OPERATORS = ("deblurring", "super-resolution", "mri", "ct", "inpainting")


@pytest.mark.parametrize("name", presets("scarcity"))
def test_presets(name: str) -> None:
    missing = FILES.get(name, [])
    config = resolve(Scarcity, load_layers("scarcity", [name], []), missing)
    assert resolve(Scarcity, [config], []) == config
    assert construct(Scarcity, config).sizes == config["sizes"]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("data", ["phantoms-3d", *sorted(set(FILES) - {"pairs"})])
def test_presets_combine(operator: str, data: str) -> None:
    """An operator, data and a budget each leave to the others what is theirs."""
    names = [operator, data, "quick"]
    config = resolve(Scarcity, load_layers("scarcity", names, []), FILES.get(data, []))
    alone = {
        name: resolve(Scarcity, load_layers("scarcity", [name], []), FILES.get(name, []))
        for name in names
    }
    assert config["operator"] == alone[operator]["operator"]
    assert config["noise"] == alone[operator]["noise"]
    assert config["data"] == alone[data]["data"]
    own = read_preset("scarcity", data).get("training", {})
    assert config["training"] == {**alone["quick"]["training"], **own}
    assert config["data_seeds"] == alone["quick"]["data_seeds"]


def test_a_file_lies_over_the_presets(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("test_images: 7\n")
    config = resolve(Scarcity, load_layers("scarcity", ["mri", "quick"], [file]), [])
    assert config["test_images"] == 7
    assert config["operator"]["class_path"].endswith("FourierSampling")


def test_two_presets_of_one_part_are_refused() -> None:
    for names, key in ((["mri", "ct"], "noise"), (["direct", "adrenal"], "models")):
        with pytest.raises(ConfigError, match=f"one preset that sets `{key}`"):
            load_layers("scarcity", names, [])


def test_another_class_inherits_no_arguments() -> None:
    name = "latens.problems.RicianNoise"
    layers = load_layers("scarcity", [], [])
    found = resolve(Scarcity, layers, ["--noise", name])["noise"]
    assert found == {"class_path": name, "init_args": {"scale": None}}
    found = resolve(Scarcity, layers, ["--noise", name, "--noise.scale", "2"])["noise"]
    assert found["init_args"] == {"scale": 2.0}
    data = ["--data", "latens.data.NiftiFolder", "--data.path", "x"]
    assert resolve(Scarcity, layers, data)["data"]["init_args"]["size"] is None
    found = resolve(Scarcity, layers, ["--noise.scale", "2"])["noise"]
    assert found["class_path"].endswith("GaussianNoise")
    assert found["init_args"] == {"scale": 2.0}


def test_a_mask_beside_the_acceleration_of_a_preset(tmp_path: Path) -> None:
    mask = np.zeros((28, 28), bool)
    mask[:, 8:20] = True
    np.save(tmp_path / "mask.npy", mask)
    layers = load_layers("scarcity", ["mri"], [])
    given = ["--data.count=200", "--sizes=[16]", f"--operator.mask={tmp_path}/mask.npy"]
    study = construct(Scarcity, resolve(Scarcity, layers, given))
    with pytest.raises(ConfigError, match="where a preset sets `acceleration`, make it null"):
        _ = study.corpus
    cleared = resolve(Scarcity, layers, [*given, "--operator.acceleration=null"])
    assert cleared["operator"]["init_args"]["acceleration"] is None
    assert construct(Scarcity, cleared).shapes[1] == (2, mask.sum())


def test_a_preset_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match="path"):
        resolve(Scarcity, load_layers("scarcity", ["breastmnist"], []), [])
