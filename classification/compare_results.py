"""Compare experiments: means, bootstrap 95 % intervals over seeds, and paired tests against the first.

    python compare_results.py output/a/MSTAR_SOC/MIM_linear/vit_b16_5shots output/b/MSTAR_SOC/MIM_linear/vit_b16_5shots

Experiments of unlike protocols (data set, images, shots, what is trained, transforms, schedule) are refused, unless
--unlike is given; the encoder, its weights and its pooling are what may differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hivit_cls.comparison import Measured, bootstrap, pair, read_measured, refuse_unlike
from saratrx.command_line import option, parse
from saratrx.errors import InputError, exit_on_input_error
from saratrx.files import refused_if_unwritable, write_text
from saratrx.reporting import print_any_name

HEADER = ["experiment", "seeds", "95 % interval", "difference to the first", "p (t)", "p (signs)"]


@dataclass(frozen=True)
class Options:
    """What is compared."""

    folders: tuple[str, ...] = option(help="of experiments, one subfolder per seed in each", positional=True)
    keyword: str = option("accuracy", help="which metric: accuracy, error, macro_f1 or another that runs have reported")
    unlike: bool = option(False, help="compare experiments of unlike protocols too")
    markdown: Path | None = option(None, metavar="FILE", help="write the table")

    def __post_init__(self) -> None:
        for folder in self.folders:
            if not Path(folder).is_dir():
                raise InputError(f"{folder}: no such folder")
        if self.markdown and self.markdown.is_dir():
            raise InputError(f"{self.markdown} is a folder: name a file for the table")


def main(argv: Sequence[str] | None = None) -> None:
    """Read, print, and write what the command line (or `argv`) asks for."""
    (options,) = parse([Options], (__doc__ or "").splitlines()[0], argv, hyphens=True)
    experiments = [read_measured(Path(folder), options.keyword) for folder in options.folders]
    if not options.unlike:
        refuse_unlike(experiments)
    rows = [row(experiments[0], experiment) for experiment in experiments]
    lines = [[*HEADER[:2], f"{options.keyword}, %", *HEADER[2:]], ["---"] * len(HEADER), *rows]
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    print(table, end="")
    if options.markdown:
        with refused_if_unwritable(options.markdown):
            write_text(options.markdown, table)
        print(f"wrote {options.markdown}")


def row(first: Measured, experiment: Measured) -> list[str]:
    """Give the cells of an experiment."""
    values = np.array(list(experiment.values.values()))
    cells = [str(experiment.folder), str(len(values)), f"{values.mean():.2f}", interval(bootstrap(values))]
    if experiment is first:
        return [*cells, "", "", ""]
    paired = pair(first, experiment)
    difference = f"{paired.difference:+.2f} ({interval(paired.interval)}) over {paired.seeds} seeds"
    return [*cells, difference, f"{paired.p_t:.3g}", f"{paired.p_signs:.3g}"]


def interval(ends: tuple[float, float]) -> str:
    """Write an interval."""
    return f"{ends[0]:.2f} to {ends[1]:.2f}"


if __name__ == "__main__":
    print_any_name()
    with exit_on_input_error():
        main()
