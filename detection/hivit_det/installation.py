"""Whether MMDetection's packages are there and fit together. Imports none of them."""

from importlib.metadata import packages_distributions, requires, version

from coco_annotations.installation import INSTALL, InstallationError, check_installed

NEEDED = ("torch", "torchvision", "timm", "cv2", "mmengine", "mmcv", "mmdet", "rasterio", "saratrx")


def check_packages() -> None:
    """Look at the installed packages without importing them.

    Raises:
        InstallationError: if one is missing, two have overwritten each other, or torchvision is for another torch.

    """
    check_installed(*NEEDED)
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
