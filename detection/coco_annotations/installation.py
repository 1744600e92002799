"""What is wrong with an installation, in one sentence. Imports nothing that others made."""

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from saratrx.cores import share_cores
from saratrx.errors import first_line, interrupt_ends_at_once

INSTALL = f"pip install -r {Path(__file__).resolve().parents[2] / 'requirements_detection.txt'}"
HEADLESS = "pip install --force-reinstall --no-deps opencv-python-headless==4.12.0.88"


class InstallationError(ImportError):
    """Packages that are missing or do not fit together; the text says what to do."""


def check_installed(*modules: str) -> None:
    """Look for packages without importing them.

    Raises:
        InstallationError: naming those that are missing.

    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise InstallationError(f"{', '.join(missing)} not installed: {INSTALL}")


def check_imports(*modules: str) -> None:
    """Import what others made.

    Raises:
        InstallationError: with the reason if one of them fails, however it does.

    """
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # packages that do not fit together fail in any way
            reason = first_line(error).rstrip(".")
            fix = HEADLESS if "libGL" in reason else INSTALL
            raise InstallationError(
                f"{module} cannot be imported ({reason}); its packages do not fit together: {fix}"
            ) from error


def import_or_exit(module: str) -> Any:
    """Import a module that needs PyTorch and MMDetection; end the command with one sentence if it fails."""
    share_cores()
    try:
        with interrupt_ends_at_once():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        sys.exit(
            f"error: {package} is not installed: pip install -r requirements_detection.txt, from the top of the project"
        )
    except ImportError as error:  # its text says what does not fit
        sys.exit(f"error: {error}")
