"""What is wrong with an installation, in one sentence. Imports nothing that may be missing."""

import importlib
from importlib.metadata import packages_distributions, requires, version
from importlib.util import find_spec
from pathlib import Path

INSTALL = f"pip install -r {Path(__file__).resolve().parents[2] / 'requirements_detection.txt'}"
HEADLESS = "pip install --force-reinstall --no-deps opencv-python-headless==4.12.0.88"
NEEDED = ("torch", "torchvision", "timm", "cv2", "mmengine", "mmcv", "mmdet", "rasterio", "saratrx")


class InstallationError(ImportError):
    """Packages that are missing or do not fit together; the text says what to do."""


def check_packages() -> None:
    """Look at the installed packages without importing them.

    Raises:
        InstallationError: if one is missing, two have overwritten each other, or torchvision is for another torch.

    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise InstallationError(f"{', '.join(missing)} not installed: {INSTALL}")
    installed = packages_distributions()
    for name in ("mmengine", "mmcv", "mmdet"):
        rivals = sorted(set(installed.get(name, ())))
        if len(rivals) > 1:
            raise InstallationError(
                f"{' and '.join(rivals)} are both installed, and one has overwritten the other's files: "
                f"pip uninstall -y {' '.join(rivals)}, then {INSTALL}"
            )
    wanted = [line.partition(";")[0].replace("(", "").replace(")", "") for line in requires("torchvision") or ()]
    exact = [line.partition("==")[2].strip() for line in wanted if line.replace(" ", "").startswith("torch==")]
    if exact and version("torch").partition("+")[0] != exact[0]:
        raise InstallationError(
            f"torchvision {version('torchvision')} needs torch {exact[0]}, and torch {version('torch')} is installed: "
            f"{INSTALL}"
        )


def check_imports(*modules: str) -> None:
    """Import what others made.

    Raises:
        InstallationError: with the reason if one of them fails, however it does.

    """
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # packages that do not fit together fail in any way
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            mend = HEADLESS if "libGL" in reason else INSTALL
            raise InstallationError(
                f"{module} cannot be imported ({reason}); its packages do not fit together: {mend}"
            ) from error
