"""What is wrong with an installation, in one sentence."""

import importlib
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from saratrx.errors import InputError

INSTALL = f"pip install -r {Path(__file__).resolve().parents[2] / 'requirements_detection.txt'}"
NEEDED = ("torch", "torchvision", "cv2", "mmengine", "mmcv", "mmdet")


def check_packages() -> None:
    """Look at the installed packages without importing them.

    Raises:
        InputError: if one is missing, two have overwritten each other, or torchvision is not made for this torch.

    """
    installed = packages_distributions()
    missing = [name for name in NEEDED if name not in installed]
    if missing:
        raise InputError(f"{', '.join(missing)} not installed: {INSTALL}")
    for name in ("mmengine", "mmcv", "mmdet"):
        rivals = sorted(set(installed[name]))
        if len(rivals) > 1:
            raise InputError(
                f"{' and '.join(rivals)} are both installed, and one has overwritten the other's files: "
                f"pip uninstall -y {' '.join(rivals)}, then {INSTALL}"
            )
    for requirement in map(Requirement, requires("torchvision") or []):
        if requirement.name == "torch" and not requirement.specifier.contains(version("torch"), prereleases=True):
            raise InputError(
                f"torchvision {version('torchvision')} needs torch{requirement.specifier}, and torch "
                f"{version('torch')} is installed: {INSTALL}"
            )


def check_imports(*modules: str) -> None:
    """Import what others made.

    Raises:
        InputError: with the reason if one of them fails, however it does.

    """
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # packages that do not fit together fail in any way
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            headless = "pip install --force-reinstall --no-deps opencv-python-headless==4.12.0.88"
            mend = headless if "libGL" in reason else INSTALL
            raise InputError(
                f"{module} cannot be imported ({reason}); its packages do not fit together: {mend}"
            ) from error
