"""Nothing that a configuration names is imported before it has been allowed."""

import ast
import json
import sys
from pathlib import Path

import pytest

import latens
from latens.errors import ConfigError
from latens.store import check_class_paths, check_override
from latens.store.class_paths import _classes

# Classes that exist whatever else the package grows.
OWN = ["latens.errors.ConfigError", "latens.store.RunFolder", "latens.store.status.Outcome"]
ATTACKS = [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "torch.nn.Linear",
    "antigravity.Thing",
    "latens",
    "latens.",
    ".latens.store.RunFolder",
    "latens..RunFolder",
    "latens.store.run.os.system",
    "latens.cli.os.system",
    "latens.store.provenance.subprocess.Popen",
    "latens.store.run.Path",
    "latens.store.run.RunFolder.create",
    "latens.store.content_hash",
    "latens.store.NoSuchClass",
    "latens.nowhere.RunFolder",
    "latens.store.__class__.RunFolder",
    "latens.store.RunFolder.__init__",
    "latens_evil.RunFolder",
    "latensevil.RunFolder",
    "Latens.store.RunFolder",
    "l\u0430tens.store.RunFolder",  # Cyrillic a
    "latens.store.\uff32unFolder",  # full-width R
    "latens.stor\u212f.RunFolder",  # script e
    "latens.store.RunFolder ",
    " latens.store.RunFolder",
    "latens.store.RunFolder\n",
    "latens.store:RunFolder",
    "latens/store/RunFolder",
    "latens.store.RunFolder()",
    "../evil.Thing",
    "RunFolder",
    "",
    "${oc.env:HOME}",
    "latens.store.${name}",
]
# As ordinary text these are words or files, which no parser imports.
HARMLESS_AS_TEXT = {"latens", "latens.", ".latens.store.RunFolder", "latens..RunFolder", ""}
HARMLESS_AS_TEXT |= {"latens.store:RunFolder", "latens/store/RunFolder", "../evil.Thing"}
HARMLESS_AS_TEXT |= {"latens.store.RunFolder()", "RunFolder"}
HARMLESS_AS_TEXT |= {
    f"{s}latens.store.RunFolder{e}" for s, e in ((" ", ""), ("", " "), ("", "\n"))
}
PLACES = {
    "model.class_path": lambda value: {"model": {"class_path": value}},
    "a[1].b[0].class_path": lambda value: {"a": [1, {"b": [{"class_path": value}]}]},
    "a[0][0].class_path": lambda value: {"a": (({"class_path": value},),)},
    "model.init_args.net.class_path": lambda value: {
        "model": {"class_path": OWN[0], "init_args": {"net": {"class_path": value}}}
    },
    "model.class_path ": lambda value: {"model.class_path ": value},
    "class_path": lambda value: {"class_path": value},
}


@pytest.fixture(autouse=True)
def nothing_imported():
    modules = set(sys.modules)
    yield
    loaded = {name for name in set(sys.modules) - modules if not name.startswith("yaml")}
    assert not {name.split(".")[0] for name in loaded} & {"torch", "antigravity", "this", "evil"}
    assert "latens.cli" not in loaded


@pytest.mark.parametrize("value", ATTACKS, ids=ascii)
def test_attacks_are_refused_wherever_they_stand(value):
    for place, build in PLACES.items():
        with pytest.raises(ConfigError) as caught:
            check_class_paths(build(value))
        assert caught.value.argument == place
        message = str(caught.value)
        assert "\n" not in message
        if value and value.isascii():
            assert value.strip() in message


@pytest.mark.parametrize("value", OWN)
@pytest.mark.parametrize("place", PLACES)
def test_own_classes_pass(place, value):
    check_class_paths(PLACES[place](value))
    check_override(place, value)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda v: v,
        lambda v: [v],
        lambda v: f"  {v} ",
        lambda v: json.dumps(v),
        lambda v: json.dumps([v]),
        lambda v: json.dumps({"class_path": v}),
        lambda v: json.dumps({"a": [{"class_path": v}]}),
        lambda v: json.dumps(json.dumps({"class_path": v})),
        lambda v: f"{{class_path: {json.dumps(v)}}}",
        lambda v: f"class_path: {json.dumps(v)}\n",
        lambda v: f"!!str {json.dumps(v)}",
        lambda v: f"&a {json.dumps(v)}",
        lambda v: f"{json.dumps(v)} # harmless",
        lambda v: '{"class\\u005fpath": ' + json.dumps(v) + "}",
        lambda v: '{"class_path": "latens.store.RunFolder", "class_path": ' + json.dumps(v) + "}",
        lambda v: '{\t"class_path": ' + json.dumps(v) + "}",
    ],
)
def test_attacks_hidden_in_text_are_refused(wrap):
    for value in ATTACKS:
        if value in HARMLESS_AS_TEXT:
            continue
        for key in ("model", "model.init_args.net", "callbacks+", "--model"):
            with pytest.raises(ConfigError):
                check_override(key, wrap(value))
        with pytest.raises(ConfigError):
            check_class_paths({"outer": [{"inner": wrap(value)}]})


@pytest.mark.parametrize("key", ["class_path", "a.class_path", "--a.class_path", "a.class_path+"])
@pytest.mark.parametrize("value", ["os.system", "file.npz", "RunFolder", "1", ""])
def test_class_paths_of_overrides_follow_the_strict_rule(key, value):
    with pytest.raises(ConfigError):
        check_override(key, value)


@pytest.mark.parametrize(
    "value",
    [
        *sorted(HARMLESS_AS_TEXT),
        "data.npz",
        "brain.nii.gz",
        "IMAGE.PNG",
        "./data.v2",
        "/data/os.system",
        "sub-01.T1w",
        "1.5",
        "1e-3",
        "[16, 64, 256]",
        "{a: 1, b: [x, y]}",
        "train/loss",
        "two words. And more.",
        "note: x",
        "https://example.org/a.b",
        "σ",
        "$HOME",
        "cvae",
        "don't",
        "a [b",
        "{subject}/{subject}_t1c.nii.gz",
        "*/seg.nii.gz",
    ],
)
def test_ordinary_values_pass(value):
    check_override("--data.path", value)
    check_class_paths({"data": {"path": value, "list": [value, 1, 2.5, None, True]}})


@pytest.mark.parametrize(
    "tree",
    [
        {"a": "x${b}"},
        {"a": ["${oc.env:SECRET}"]},
        {"${a}": 1},
        {"a": "\\${b}"},
        {"a": {"b": "${"}},
        {"model": {"class_path": "my.${b}.Net"}},
    ],
)
def test_interpolation_is_refused_everywhere(tree):
    with pytest.raises(ConfigError, match="environment resolvers are off"):
        check_class_paths(tree, trusted=["my"])


def test_trusted_packages():
    tree = {"model": {"class_path": "my_package.nets.Net"}, "loss": "my_package.losses.mse"}
    with pytest.raises(ConfigError, match="--trust my_package"):
        check_class_paths(tree)
    check_class_paths(tree, trusted=["my_package"])
    check_override("model", "my_package.nets.Net", trusted=["my_package"])
    for value in ("my_package_evil.Net", "evil.my_package.Net", "my_package..Net", "my_package"):
        with pytest.raises(ConfigError):
            check_class_paths({"class_path": value}, trusted=["my_package"])
    with pytest.raises(ConfigError):
        check_class_paths({"class_path": "latens.store.run.Path"}, trusted=["latens"])


@pytest.mark.parametrize("package", ["my.package", "", "m\u0443", "--x", "a b"])
def test_trusted_names_are_packages(package):
    with pytest.raises(ConfigError, match="trust"):
        check_class_paths({}, trusted=[package])


@pytest.mark.parametrize("value", [None, 3, ["os.system"], {"a": 1}, True])
def test_class_path_must_be_text(value):
    with pytest.raises(ConfigError, match="a class path"):
        check_class_paths({"class_path": value})


@pytest.mark.parametrize("tree", ["os.system", None, {"a": object()}, {"a": {1, 2}}, {"a": b"x"}])
def test_trees_must_be_plain(tree):
    with pytest.raises(ConfigError):
        check_class_paths(tree)


def test_circle_is_refused():
    tree: dict = {}
    tree["self"] = [tree]
    with pytest.raises(ConfigError, match="nested levels"):
        check_class_paths(tree)


@pytest.mark.parametrize("text", ["- " * 2000, "[" * 150 + "]" * 150])
def test_deeply_nested_text_is_refused(text):
    with pytest.raises(ConfigError, match="nested levels"):
        check_override("model", text)


def test_message_says_key_value_and_remedy():
    with pytest.raises(ConfigError) as caught:
        check_class_paths({"model": {"net": {"class_path": "evil.Net"}}})
    assert str(caught.value) == (
        "`model.net.class_path`: expected a class of latens or of a trusted package, "
        "got 'evil.Net'. If you trust this package, add `--trust evil`; "
        "if it is a file in this folder, write `./file`."
    )


def test_nearest_class_is_named():
    with pytest.raises(ConfigError, match=r"`latens\.store` has RunFolder"):
        check_class_paths({"class_path": "latens.store.RunFoldr"})


def test_allowed_classes_are_exactly_the_declared_ones():
    assert {"RunFolder", "Outcome", "Status", "Schema"} == {
        name for name in _classes("latens.store") if not name.isupper() and "_" not in name
    }
    assert _classes("latens.store.run") == {"RunFolder"}
    assert _classes("latens.nowhere") == frozenset()


def test_every_public_class_of_the_package_can_be_named():
    package = Path(latens.__file__).parent
    checked = 0
    for source in package.rglob("*.py"):
        parts = source.relative_to(package.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        for statement in ast.parse(source.read_text()).body:
            if isinstance(statement, ast.ClassDef) and statement.name[0] != "_":
                check_class_paths({"class_path": ".".join((*parts, statement.name))})
                checked += 1
    assert checked >= 10
