"""Which classes a configuration may name, decided before anything is imported.

A parser that meets a class path imports it, and importing executes code. A configuration that came
with somebody's run folder is therefore checked as plain text first: classes that latens itself
defines, and packages that the user named with `--trust`, nothing else.
"""

import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from latens.errors import ConfigError
from latens.store.safe import parse_yaml

_OWN = re.compile(r"latens(\.[a-z_][a-z0-9_]*)*\.[A-Z][A-Za-z0-9]*")
_PACKAGE = Path(__file__).resolve().parents[1]
_DEPTH = 100
_STRUCTURE = re.compile(r"""^\s*[\[{"'!&*?|>-]|:\s|:$|\n""")
# Names of files with placeholders, which no parser reads as keys with values.
_FILE_PATTERN = re.compile(r"[\w./{}*?-]+")
# A relative file name looks like a class path; these endings are no classes.
_SUFFIX = re.compile(
    r"bmp|bz2|csv|dcm|gif|gz|h5|hdf5|html|idx|jpe?g|json|mat|md|mgz|nii|np[yz]|parquet|pdf|png"
    r"|safetensors|svg|tar|tiff?|toml|tsv|txt|ubyte|xz|ya?ml|zip",
    re.IGNORECASE,
)


def check_class_paths(tree: Any, trusted: Collection[str] = ()) -> None:
    """Refuse a raw configuration that names a class outside latens and the trusted packages.

    Every value under a key `class_path` must be such a class. Every other text that reads like
    an import path, or that holds a configuration of its own (YAML or JSON in quotes), is held to
    the same rule, because a parser resolves those too. Nothing named in the tree is imported.

    Args:
        tree: Configuration as read from YAML: mappings, lists, text, numbers.
        trusted: Top-level packages named by the user, never by the configuration.

    Raises:
        ConfigError: If a class is not allowed, `${…}` appears anywhere, or the tree holds an
            object that YAML does not have. The message names the key, the value and the remedy.
    """
    for package in trusted:
        if not _is_ascii_identifier(package):
            raise ConfigError(
                "trust", "the name of a top-level package", repr(package), "Drop what follows it."
            )
    if not isinstance(tree, (Mapping, list, tuple)):
        raise ConfigError(
            "configuration", "keys with values", repr(tree), "Write `key: value` lines."
        )
    _check(tree, "", frozenset(trusted), _DEPTH)


def check_override(key: str, value: Any, trusted: Collection[str] = ()) -> None:
    """Apply `check_class_paths` to one override of the command line, `--key value`.

    Args:
        key: Option without dashes, for example `model.encoder.class_path`.
        value: Its text (or parsed value).
        trusted: Top-level packages named by the user.

    Raises:
        ConfigError: As in `check_class_paths`.
    """
    check_class_paths({key.lstrip("-"): value}, trusted)


def _check(node: Any, place: str, trusted: frozenset[str], depth: int) -> None:
    if depth == 0:
        raise ConfigError(
            place, f"at most {_DEPTH} nested levels", "more", "Write the values out flat."
        )
    match node:
        case None | bool() | int() | float():
            return
        case str():
            _check_text(node, place, trusted, depth)
        case list() | tuple():
            for index, value in enumerate(node):
                _check(value, f"{place}[{index}]", trusted, depth - 1)
        case Mapping():
            for key, value in node.items():
                inner = f"{place}.{key}" if place else str(key)
                _refuse_interpolation(str(key), inner)
                # Parsers split dotted keys, and append to lists with `key+`.
                if str(key).strip().rstrip("+").rpartition(".")[2] == "class_path":
                    _check_class_path(value, inner, trusted)
                else:
                    _check(value, inner, trusted, depth - 1)
        case _:
            raise ConfigError(
                place,
                "text, a number, a truth value, a list or a mapping",
                type(node).__qualname__,
                "Check the configuration as it was read, before any parser.",
            )


def _check_text(text: str, place: str, trusted: frozenset[str], depth: int) -> None:
    _refuse_interpolation(text, place)
    content = text.strip()
    parts = content.split(".")
    if len(parts) > 1 and all(part.isidentifier() for part in parts):
        if not _SUFFIX.fullmatch(parts[-1]):
            _check_class_path(content, place, trusted)
        return
    try:
        inner = parse_yaml(text) if content else None
    except ValueError as error:
        if _STRUCTURE.search(text) and not _FILE_PATTERN.fullmatch(text):
            raise ConfigError(
                place, "plain text or well-formed YAML", error, "Correct the quotes or brackets."
            ) from error
        return
    if isinstance(inner, (dict, list)) or (isinstance(inner, str) and inner != text):
        _check(inner, place, trusted, depth - 1)


def _check_class_path(value: Any, place: str, trusted: frozenset[str]) -> None:
    if not isinstance(value, str):
        raise ConfigError(
            place, "a class path", repr(value), "Write it as text: `latens.package.Class`."
        )
    _refuse_interpolation(value, place)
    parts = value.split(".")
    if len(parts) < 2 or not all(_is_ascii_identifier(part) for part in parts):
        raise ConfigError(
            place,
            "a dotted class path in ASCII",
            ascii(value),
            "Write `package.module.Class`; write a file in this folder as `./file`.",
        )
    if parts[0] in trusted and parts[0] != "latens":
        return
    if _OWN.fullmatch(value):
        _check_own(value, place)
        return
    remedy = (
        "Name a class, `latens.package.Class`."
        if parts[0] == "latens"
        else f"If you trust this package, add `--trust {parts[0]}`; "
        "if it is a file in this folder, write `./file`."
    )
    raise ConfigError(place, "a class of latens or of a trusted package", f"'{value}'", remedy)


def _check_own(value: str, place: str) -> None:
    """Refuse what a module of latens merely imports: `latens.module.subprocess.Popen`."""
    module, _, name = value.rpartition(".")
    names = _classes(module)
    if name not in names:
        import difflib

        near = difflib.get_close_matches(name, names, n=1) or sorted(names)[:8]
        known = ", ".join(near)
        remedy = f"`{module}` has {known}." if known else f"`{module}` has no classes."
        raise ConfigError(place, "a class that latens defines", f"'{value}'", remedy)


@cache
def _classes(module: str) -> frozenset[str]:
    """Classes that a module of latens defines or lists in `__all__`, read from its source."""
    import ast

    base = _PACKAGE.joinpath(*module.split(".")[1:])
    for source in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if source.is_file():
            break
    else:
        return frozenset()
    names = set()
    for statement in ast.parse(source.read_text(encoding="utf-8")).body:
        match statement:
            case ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id="__all__")], value=listed):
                constants = (n.value for n in ast.walk(listed) if isinstance(n, ast.Constant))
                names.update(text for text in constants if isinstance(text, str))
    return frozenset(name for name in names if name[:1].isupper())


def _refuse_interpolation(text: str, place: str) -> None:
    if "${" in text:
        raise ConfigError(
            place,
            "a written-out value (environment resolvers are off)",
            repr(text),
            "Write the value itself instead of `${…}`.",
        )


def _is_ascii_identifier(text: str) -> bool:
    return text.isascii() and text.isidentifier()
