"""Let every Python of this environment find the stand-in: python -m mmcv_stand_in."""

import sys
import sysconfig
from pathlib import Path

from saratrx.errors import exit_on_input_error
from saratrx.files import refused_if_unwritable, write_text

# Python runs this line whenever it starts; without the package it does nothing
LINE = "import importlib.util as u; u.find_spec('mmcv_stand_in') and __import__('mmcv_stand_in')\n"


def main(folder: Path) -> None:
    """Write the file that Python looks for in its folder of packages."""
    path = folder / "mmcv_stand_in.pth"
    with refused_if_unwritable(path):
        write_text(path, LINE)
    print(f"wrote {path}; MMDetection's own tools now run in this environment ({sys.prefix})")


if __name__ == "__main__":
    with exit_on_input_error():
        main(Path(sysconfig.get_path("purelib")))
