"""Writing JSON."""

import json
import os
from pathlib import Path
from typing import Any

from saratrx.errors import InputError


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file in one step.

    Raises:
        InputError: if it cannot be written.

    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(json.dumps(content), encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
