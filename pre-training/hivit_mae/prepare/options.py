"""The options of each command of prepare_data.py."""

from collections.abc import Sequence
from dataclasses import dataclass

from hivit_mae.data.reading import channel_option
from hivit_mae.prepare.cutting import EACH
from saratrx.command_line import at_least, between, option, parse
from saratrx.cores import available
from saratrx.errors import InputError, raise_problems
from saratrx.files import is_folder
from saratrx.grey_scale import Remap
from saratrx.reading import Reading
from saratrx.sar_image import remap_option

SMALLEST_WINDOW = 64  # px
LARGEST_RADIUS = 16  # bits; beyond, nearly all images of a set would be compared


def no_folder(**values: str) -> list[str]:
    """Name the options whose folder is not there."""
    return [f"--{name} {value}: no such folder" for name, value in values.items() if value and not is_folder(value)]


@dataclass(frozen=True)
class ListOptions:
    """List the sets that the published model was trained on, and what of them is there."""

    root: str = option(help="folder that holds the sets, one folder each", metavar="DIR")

    def __post_init__(self) -> None:
        raise_problems(no_folder(root=self.root))


@dataclass(frozen=True)
class BuildOptions:
    """Build a set to pre-train on."""

    sources: tuple[str, ...] = option(
        help="folders of images, at any depth, or names of sets that `list` knows", positional=True, metavar="SOURCE"
    )
    output_dir: str = option(help="chips, manifest, contact sheets", metavar="DIR")
    root: str = option("", help="folder that holds the sets that are given by name", metavar="DIR")
    keep_out: tuple[str, ...] = option(
        (), help="folders of images to test on: what equals or overlaps one is left out", metavar="DIR"
    )
    remap: Remap = remap_option()  # noqa: RUF009 -- makes a field
    channel: str = channel_option(f"; or {EACH}, as images of their own")
    middle: int = option(0, help="side in pixels of the middle that is cut out of each image first (0: all)")
    window: int = option(512, help="side in pixels of the windows that large images are cut into")
    overlap: int = option(64, help="pixels, at least, that neighbouring windows share")
    empty: float = option(0.05, help="share of the windows that show only background to keep; 1 keeps all")
    radius: int = option(4, help="bits of 63 in which the hashes of near duplicates may differ")
    workers: int = option(available(), help="processes", default_text="a process for each core")

    def __post_init__(self) -> None:
        problems = [f"--keep_out {folder}: no such folder" for folder in self.keep_out if not is_folder(folder)]
        problems += no_folder(root=self.root) + at_least(SMALLEST_WINDOW, window=self.window)
        problems += at_least(1, workers=self.workers) + between(0, 1, empty=self.empty)
        problems += at_least(0, middle=self.middle)
        problems += between(0, max(self.window // 2, 0), overlap=self.overlap)
        raise_problems(problems + between(0, LARGEST_RADIUS, radius=self.radius))

    @property
    def reading(self) -> Reading:
        """How images are read."""
        return Reading(self.remap, self.channel or None)


@dataclass(frozen=True)
class AuditOptions:
    """Report on a set: copies, labels, what images hold, and whether their size tells the class."""

    folder: str = option(help="folder of images, at any depth", positional=True, metavar="DIR")
    remap: Remap = remap_option()  # noqa: RUF009 -- makes a field
    channel: str = channel_option()
    radius: int = option(4, help="bits of 63 in which the hashes of near duplicates may differ")
    workers: int = option(available(), help="processes", default_text="a process for each core")

    def __post_init__(self) -> None:
        raise_problems(at_least(1, workers=self.workers) + between(0, LARGEST_RADIUS, radius=self.radius))

    @property
    def reading(self) -> Reading:
        """How images are read."""
        return Reading(self.remap, self.channel or None)


COMMANDS = {"list": ListOptions, "build": BuildOptions, "audit": AuditOptions}


def parse_options(argv: Sequence[str]) -> ListOptions | BuildOptions | AuditOptions:
    """Read the words after the command's name; the first says what to do.

    Raises:
        InputError: naming every option that is wrong.

    """
    name = argv[0] if argv else "nothing"
    if name not in COMMANDS:
        raise InputError(f"{name} is no command: give list, build or audit, each with --help for its options")
    kind = COMMANDS[name]
    return parse([kind], f"prepare_data.py {name}: {kind.__doc__}", argv[1:])[0]
