"""One picture of many chips, for a person to look at."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from saratrx import sar_image
from saratrx.files import write_bytes

COLUMNS, ROWS = 8, 6
CELL, LINE = 128, 14  # px: the side of a chip, the height of the line below it


def write_sheet(path: Path, title: str, chips: list[Path]) -> None:
    """Draw up to 48 of these chips, from everywhere among them, as PNG; raises OSError."""
    places = np.linspace(0, len(chips) - 1, min(len(chips), COLUMNS * ROWS)).round().astype(int)
    rows = -(-len(places) // COLUMNS)
    sheet = Image.new("L", (COLUMNS * (CELL + 4), LINE + 4 + rows * (CELL + LINE + 4)), 255)
    pen = ImageDraw.Draw(sheet)
    pen.text((2, 2), title.encode("latin-1", "replace").decode("latin-1"), 0)
    for number, place in enumerate(places.tolist()):
        chip = Image.fromarray(sar_image.read(chips[place]))
        size = f"{chip.width} x {chip.height}"
        scale = CELL / max(chip.size)
        shown = max(1, round(chip.width * scale)), max(1, round(chip.height * scale))
        chip = chip.resize(shown, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)
        left, top = number % COLUMNS * (CELL + 4), LINE + 4 + number // COLUMNS * (CELL + LINE + 4)
        sheet.paste(chip, (left + 2, top))
        pen.text((left + 2, top + CELL), size, 0)
    content = BytesIO()
    sheet.save(content, "PNG")
    write_bytes(path, content.getvalue())
