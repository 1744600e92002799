"""YAML files read so that they can neither run code nor fill the memory, and with names as they are written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from saratrx.errors import InputError, first_line

LARGEST_BYTES = 1_000_000  # configs have a few thousand
LARGEST_NODES = 100_000  # values, each alias counted as all that it stands for
TEXT = "tag:yaml.org,2002:str"


def read_yaml(path: Path, is_text: Callable[[tuple[str, ...]], bool] = lambda keys: False) -> dict[str, Any]:
    """Read a YAML file of keys and values.

    Args:
        path: the file, UTF-8 with or without a byte order mark.
        is_text: tells of the keys above a value, from the outermost, whether it is text (or a list of texts) and so to
            be taken as it is written: `2019`, `on`, `null`, `010` and `1e3` are then names.

    Raises:
        OSError: if it cannot be read.
        InputError: if it is no YAML of keys and values, names a key twice, or is larger than any config.

    """
    if path.stat().st_size > LARGEST_BYTES:
        raise InputError(f"{path} has more than {LARGEST_BYTES:,} bytes: it is no config")
    content = path.read_bytes()
    try:
        loader = yaml.SafeLoader(content.decode("utf-8-sig"))
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode) or not node.value:
            raise InputError(f"{path}: no config: it must hold keys and values")
        expanded_size(node, path, {})
        mark_texts(node, path, is_text, ())
        found: dict[str, Any] = loader.construct_document(node)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: no config: it is no text in UTF-8") from error
    except RecursionError as error:
        raise InputError(f"{path}: its values lie too deep in each other for a config") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: no YAML, {' '.join(str(error).split()) or first_line(error)}") from error
    return found


def expanded_size(node: yaml.Node, path: Path, known: dict[int, int]) -> int:
    """Count the values in a node, what aliases repeat included; a few lines of aliases can stand for billions.

    Raises:
        InputError: if there are more than `LARGEST_NODES`, or a node holds itself.

    """
    if id(node) not in known:
        known[id(node)] = LARGEST_NODES  # until it is counted: a node that holds itself has no end
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
        known[id(node)] = 1 + sum(expanded_size(part, path, known) for part in parts)
    if known[id(node)] > LARGEST_NODES:
        raise InputError(f"{path}: its aliases stand for more than {LARGEST_NODES:,} values: it is no config")
    return known[id(node)]


def mark_texts(node: yaml.Node, path: Path, is_text: Callable[[tuple[str, ...]], bool], keys: tuple[str, ...]) -> None:
    """Have texts constructed as they are written; see `read_yaml`."""
    if isinstance(node, yaml.MappingNode):
        names = [str(key.value) for key, _ in node.value]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise InputError(f"{path}: names the key {'.'.join((*keys, twice[0]))} twice; keep one")
        for name, (_, value) in zip(names, node.value, strict=True):
            mark_texts(value, path, is_text, (*keys, name))
    elif is_text(keys):
        for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if isinstance(part, yaml.ScalarNode):
                part.tag = TEXT
