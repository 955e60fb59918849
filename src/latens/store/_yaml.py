"""YAML dialect of latens: PyYAML's safe subset, the numbers of YAML 1.2, no key twice."""

import re
from typing import Any

import yaml

_FLOAT = re.compile(
    r"""^(?:
        [-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?
        |[-+]?(?:[0-9][0-9_]*)[eE][-+]?[0-9]+
        |[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
        |[-+]?\.(?:inf|Inf|INF)
        |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
_UNUSED = {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float"}


class PlainLoader(yaml.SafeLoader):
    """Safe loader that refuses a key given twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML reads this attribute of the class)
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _UNUSED]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping, before merge keys are written out."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key '{key.value}' twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return node


PlainLoader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


class PlainDumper(yaml.SafeDumper):
    """Safe dumper that writes shared values out instead of using anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never use an alias."""
        return True
