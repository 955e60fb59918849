"""From YAML and command-line overrides to a checked configuration and its objects.

Class paths are checked on the raw text before the parser, which imports, sees them.
"""

import contextlib
import copy
import dataclasses
import difflib
import importlib
import inspect
import json
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from latens.errors import ConfigError, LatensError
from latens.store import check_class_paths, check_override, read_yaml
from latens.types import PathLike

T = TypeVar("T")
Tree = dict[str, Any]


BASE = "_base"
"""Preset that lies below all others."""
PARTS = {"data", "operator", "noise", "models", "family", "system"}
"""Settings of which a study has one, so that two presets would contradict each other."""


def presets(study: str) -> dict[str, Path]:
    """Preset files of a study by name."""
    return {name: file for name, file in _files(study).items() if name != BASE}


def _files(study: str) -> dict[str, Path]:
    folder = resources.files("latens.studies") / "configs" / study
    return {file.stem: file for file in sorted(Path(str(folder)).glob("*.yaml"))}


def read_preset(study: str, name: str) -> Tree:
    """Configuration of a preset.

    Raises:
        ConfigError: If there is none of this name.
    """
    known = presets(study)
    if name not in known:
        raise ConfigError("preset", f"one of {', '.join(known)}", name, nearest(name, list(known)))
    return read_yaml(known[name])


def preset_names(text: str) -> list[str]:
    """Names in `mri,breastmnist,quick`."""
    return [name for name in (part.strip() for part in text.split(",")) if name]


def resolve(
    kind: Callable[..., T],
    layers: Sequence[Mapping[str, Any]],
    overrides: Sequence[str],
    trusted: Collection[str] = (),
) -> Tree:
    """Merge configuration layers and overrides, check them, and fill in every default.

    Args:
        kind: Class that the configuration constructs.
        layers: Configurations, later ones on top; see `laid_over`. An override that
            names another class leaves nothing of what stood there.
        overrides: Arguments `--a.b=value` or `--a.b value`.
        trusted: Packages whose classes may be named besides those of latens.

    Returns:
        The resolved configuration as plain data, ready to be hashed and written.

    Raises:
        ConfigError: For an unknown key, a value of the wrong type or a class not allowed.
    """
    merged: Tree = {}
    for layer in layers:
        check_class_paths(dict(layer), trusted)
        merged = laid_over(merged, layer, _settings_in_groups(kind))
    for key, value in pairs(overrides):
        check_override(key, value, trusted)
        before = merged.get(key)
        if isinstance(before, Mapping) and value not in ("", before.get("class_path")):
            del merged[key]  # another class: the arguments of the former are not its own
    parser = _parser(kind)
    with _plain_errors(kind, merged):
        base = ["--config", json.dumps(merged)]
        config = parser.parse_args(base + [f"--{k}={v}" for k, v in pairs(overrides)])
        config.pop("config", None)
        # Defaults that are objects stay objects; dumping and reading them back makes them text.
        text = parser.dump(config, skip_validation=True, skip_none=False)
    import yaml

    return yaml.safe_load(text)


def laid_over(below: Tree, layer: Mapping[str, Any], groups: Collection[str] = ()) -> Tree:
    """A configuration with another on top: what it names replaces what is below.

    Args:
        below: Configuration.
        layer: What goes on top.
        groups: Names, such as `training`, that hold settings rather than an object: they are
            replaced setting by setting.
    """
    top = copy.deepcopy(dict(layer))
    for name in groups:
        if isinstance(below.get(name), Mapping) and isinstance(top.get(name), Mapping):
            top[name] = {**below[name], **top[name]}
    return {**below, **top}


def construct(kind: Callable[..., T], config: Mapping[str, Any]) -> T:
    """Build the object of a resolved configuration.

    Raises:
        ConfigError: If the configuration does not fit, or an object refuses its arguments.
    """
    parser = _parser(kind)
    with _plain_errors(kind, config):
        namespace = parser.parse_object(copy.deepcopy(dict(config)))
        arguments = vars(parser.instantiate(namespace))
        arguments.pop("config", None)
        return kind(**arguments)


def construct_object(kind: Any, spec: Any, trusted: Collection[str] = ()) -> Any:
    """Build one object of a type from its stored configuration, `class_path` and `init_args`.

    Args:
        kind: Type hint, for example `Callable[[Shape], Operator]`.
        spec: Configuration from a file, not trusted.
        trusted: Packages whose classes may be named besides those of latens.

    Raises:
        ConfigError: If the configuration names a class that is not allowed or does not fit.
    """
    from jsonargparse import ArgumentParser

    check_class_paths({"object": spec}, trusted)
    parser = ArgumentParser(exit_on_error=False, default_env=False)
    parser.add_argument("--object", type=kind)
    with _plain_errors(construct_object, {"object": spec}):
        namespace = parser.parse_object({"object": copy.deepcopy(spec)})
        return parser.instantiate(namespace).object


def pairs(overrides: Sequence[str]) -> list[tuple[str, str]]:
    """`--a.b value` and `--a.b=value` as (key, value).

    Raises:
        ConfigError: For a word that is neither an option nor the value of one.
    """
    found, words = [], list(overrides)
    while words:
        word = words.pop(0)
        if not re.match(r"--[A-Za-z_]", word):
            raise ConfigError(
                "arguments", "options such as --sizes [32,64]", word, "Put `--name` before it."
            )
        key, separator, value = word[2:].partition("=")
        if not separator:
            if not words or re.match(r"--[A-Za-z_]", words[0]):
                raise ConfigError(key, "a value", "nothing", f"Write --{key}=VALUE.")
            value = words.pop(0)
        found.append((key.replace("-", "_"), value))
    return found


def nearest(word: str, known: Sequence[str]) -> str:
    """A sentence that names the nearest valid word."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean `{close[0]}`?" if close else f"Valid: {', '.join(known)}."


def _parser(kind: Any):
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, default_env=False, allow_abbrev=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(kind, None, fail_untyped=True)
    return parser


@contextlib.contextmanager
def _plain_errors(kind: Callable[..., Any], tree: Mapping[str, Any]) -> Iterator[None]:
    """Turn the parser's errors into one line of ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, LatensError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise _as_config_error(str(error), kind, tree) from None


def _as_config_error(text: str, kind: Callable[..., Any], tree: Mapping[str, Any]) -> ConfigError:
    line = " ".join(text.split())
    unknown = re.search(
        r"[Oo]ption '([^']+)' is not accepted|accept option '([^']+)'"
        r"|[Uu]nrecognized arguments: (\S+)",
        text,
    )
    if unknown:
        key = str(unknown[unknown.lastindex or 0]).lstrip("-").split("=")[0]
        last = key.rpartition(".")[2]
        known = _settings(kind) | _settings_below(tree)
        remedy = nearest(last, sorted(known - {last}))
        return ConfigError(key, "the name of a setting", "an unknown one", remedy)
    place = re.search(r'[Pp]arser key "([^"]+)"', text)
    missing = re.search(r'[Kk]ey "([^"]+)" is required|required: (\S+)', text)
    argument = place.group(1) if place else "configuration"
    if missing:
        name = missing.group(1) or missing.group(2)
        above = f"{argument}." if place and not name.startswith(argument) else ""
        return ConfigError(
            name,
            "a value",
            "none",
            f"Give it in a configuration file or on the command line: --{above}{name}.",
        )
    models = list(tree.get("models") or {})
    model = argument.split(".")[1] if argument.startswith("models.") else ""
    if model and model not in models:
        return ConfigError(argument, "a model of this study", model, nearest(model, models))
    detail = re.sub(r'^.*?[Pp]arser key "[^"]+": ?', "", line)
    choices = re.search(r"typing\.Literal\[([^\]]*)\]", detail)
    if choices:
        rule = f"one of {choices.group(1)}"
        return ConfigError(argument, rule, detail.rpartition(" ")[2].rstrip("."), "Choose one.")
    if re.search(r"Expected a <class 'list'>", detail):
        return ConfigError(
            argument, "a list", "one value", f"Write it in brackets: --{argument} [1,2]."
        )
    return ConfigError(
        argument,
        "a value that fits its type",
        detail[:300],
        f"Compare with `{_shown(kind)}`.",
    )


def _shown(kind: Callable[..., Any]) -> str:
    """The command that shows what can be configured."""
    name = getattr(kind, "name", None)
    return f"latens run {name} --show" if name else "latens --help"


def _settings(kind: Callable[..., Any]) -> set[str]:
    """Names of the arguments of a constructor, and of the dataclasses among their types."""
    names = set(inspect.signature(kind).parameters)
    return names.union(*_settings_in_groups(kind).values())


def _settings_in_groups(kind: Callable[..., Any]) -> dict[str, set[str]]:
    """Arguments whose defaults are dataclasses, such as `training`, with their fields."""
    return {
        p.name: {field.name for field in dataclasses.fields(p.default)}
        for p in inspect.signature(kind).parameters.values()
        if dataclasses.is_dataclass(p.default)
    }


def _settings_below(tree: Any) -> set[str]:
    """Names of the arguments of every class that a checked configuration names."""
    if isinstance(tree, list):
        return set().union(*map(_settings_below, tree))
    if not isinstance(tree, Mapping):
        return set()
    names = set().union(*map(_settings_below, tree.values()))
    module, _, name = str(tree.get("class_path", "")).rpartition(".")
    with contextlib.suppress(ImportError, AttributeError, ValueError):
        names |= _settings(getattr(importlib.import_module(module), name))
    return names


def load_layers(study: str, names: Sequence[str], files: Sequence[PathLike]) -> list[Tree]:
    """Configuration layers of a command line: what all share, the presets, then each file.

    Raises:
        ConfigError: For an unknown preset, two presets that set the same part, or a file that
            is no configuration.
    """
    layers, owners = [read_yaml(_files(study)[BASE])], {}
    for name in names:
        layers.append(read_preset(study, name))
        for key in sorted(PARTS & layers[-1].keys()):
            if key in owners:
                raise ConfigError(
                    "preset",
                    f"one preset that sets `{key}`",
                    f"{owners[key]} and {name}",
                    "Leave one of them out, or set the rest by hand.",
                )
            owners[key] = name
    for file in files:
        tree = read_yaml(file)
        if not isinstance(tree, dict):
            raise ConfigError(str(file), "keys with values", type(tree).__name__, "Write YAML.")
        layers.append(tree)
    return layers
