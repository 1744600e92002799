"""What is known of published sets: one YAML file each in `recipes`, beside this module."""

from dataclasses import dataclass, fields
from pathlib import Path

import yaml
from tabulate import tabulate

from saratrx.errors import InputError, first_line
from saratrx.files import find_images, is_folder
from saratrx.reporting import get_logger

log = get_logger(__name__)

FOLDER = Path(__file__).with_suffix("")


@dataclass(frozen=True)
class Recipe:
    """A published set.

    Attributes:
        name: as in the paper's table.
        folders: names, in any case of letters, that its folder may have.
        images: that the paper used; None where it used none of it.
        about: year, task, sizes and sensor, as the paper gives them.
        layout: how its owner publishes it, and whether that is sure.
        request: where to ask for it.
        licence: what its owner allows.
        keep_out: folders in it, in any case of letters, whose images must stay out of pre-training.
        keep_out_why: why, and what to do where there are no such folders.

    """

    name: str
    folders: tuple[str, ...]
    images: int | None
    about: str
    layout: str
    request: str
    licence: str
    keep_out: tuple[str, ...]
    keep_out_why: str

    def find(self, root: str | Path) -> Path | None:
        """Find its folder under a root."""
        return find_folder(Path(root), self.folders)

    def find_kept_out(self, folder: Path) -> list[Path]:
        """Find, in its folder, those that must stay out."""
        found = [descend(folder, name.split("/")) for name in self.keep_out]
        return sorted({path for path in found if path is not None})


def descend(folder: Path, names: list[str]) -> Path | None:
    """Follow names of folders, in any case of letters."""
    found: Path | None = folder
    for name in names:
        found = found and find_folder(found, (name,))
    return found


def find_folder(parent: Path, names: tuple[str, ...]) -> Path | None:
    """Find the first folder, by its name, that has one of these names in any case of letters.

    Raises:
        InputError: if the parent cannot be listed.

    """
    wanted = {name.lower() for name in names}
    try:
        found = [path for path in sorted(parent.iterdir()) if path.name.lower() in wanted and is_folder(path)]
    except OSError as error:
        raise InputError(f"{parent} cannot be listed: {first_line(error)}") from error
    return found[0] if found else None


def read_recipes() -> dict[str, Recipe]:
    """Read all, by their names in small letters, in the order of the paper's table.

    Raises:
        InputError: for a file without the keys that it needs.

    """
    recipes = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = {each.name for each in fields(Recipe)}
        if not isinstance(content, dict) or set(content) != names:
            raise InputError(f"{path}: must have the keys {', '.join(sorted(names))}, and no others")
        content |= {key: tuple(content[key]) for key in ("folders", "keep_out")}
        recipes[content["name"].lower()] = Recipe(**content)
    return recipes


def count(folder: Path) -> int:
    """Count the images in a folder, none included."""
    try:
        return len(find_images(folder))
    except InputError:
        return 0


def list_sets(root: str) -> None:
    """Tell of all sets, what of them is under `root`, and what is known of each."""
    recipes = list(read_recipes().values())
    rows = []
    for recipe in recipes:
        folder = recipe.find(root)
        found = count(folder) if folder else 0
        kept_out = sum(map(count, recipe.find_kept_out(folder))) if folder else 0
        used = recipe.images
        share = f"{(found - kept_out) / used:.0%}" if used and folder else ""
        rows.append(
            (recipe.name, used or "", folder.name if folder else "not there", found or "", kept_out or "", share)
        )
    head = ("set", "images in the paper", "folder", "images there", "to keep out", "the rest, of the paper's")
    log.info(tabulate(rows, head, intfmt=","))
    for recipe in recipes:
        log.info("\n%s: %s", recipe.name, recipe.about)
        for title, text in (
            ("layout", recipe.layout),
            ("request", recipe.request),
            ("licence", recipe.licence),
            ("keep out", ", ".join(recipe.keep_out) + (": " if recipe.keep_out else "") + recipe.keep_out_why),
        ):
            log.info("  %s: %s", title, text)
