"""Find the images of an embedded folder that are most like others.

    python similar.py embedded chip.png --output-dir found

EMBEDDED is a folder that embed.py wrote; the encoder is the one that it names. Writes similar.csv and similar.png.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hivit_cls.configuration import setup_cfg
from hivit_cls.options import ConfigOptions
from hivit_cls.plugins import import_plugins
from saratrx.command_line import at_least, option, parse
from saratrx.cores import share_cores
from saratrx.errors import InputError, exit_on_input_error, interrupt_ends_at_once, raise_problems
from saratrx.files import is_file, is_folder, refused_if_unwritable, write_text
from saratrx.reporting import print_any_name

DRAWN = 8, 6  # images, and of each those that are nearest to it


@dataclass(frozen=True)
class Options:
    """What is looked for, and among what."""

    embedded: Path = option(help="folder that embed.py wrote", positional=True)
    images: tuple[str, ...] = option(help="files, and folders of them at any depth", positional=True)
    output_dir: Path = option(help="where the results go", metavar="DIR")
    top: int = option(10, help="how many are named for each image")
    init_weights: str | None = option(None, help="checkpoint of the encoder", default_text="as embed.py had it")

    def __post_init__(self) -> None:
        raise_problems(at_least(1, top=self.top))
        if not is_folder(self.embedded) or not is_file(self.embedded / "settings.yaml"):
            raise InputError(f"{self.embedded}: is no folder that embed.py wrote")


def main(argv: Sequence[str] | None = None) -> None:
    """Do what the command line (or `argv`) asks for."""
    (options,) = parse([Options], (__doc__ or "").splitlines()[0], argv, hyphens=True)
    weights = ("MODEL.INIT_WEIGHTS", options.init_weights) if options.init_weights else ()
    asked = ConfigOptions(output_dir=str(options.output_dir), opts=weights)
    cfg = setup_cfg(asked, str(options.embedded), import_plugins(Path(__file__).parent))
    cfg.freeze()

    # With these comes PyTorch, which takes seconds: what is wrong in a call has been told by now
    share_cores()
    with interrupt_ends_at_once():
        import torch  # noqa: PLC0415

        from dassl.data.datasets.base_dataset import centre_crop_of  # noqa: PLC0415
        from dassl.utils import reading_of  # noqa: PLC0415
        from hivit_cls import embedding, pictures  # noqa: PLC0415
        from hivit_cls.neighbours import nearest  # noqa: PLC0415
        from hivit_cls.settings import refuse_other_weights  # noqa: PLC0415
        from hivit_cls.unlabelled import find_all, split_readable  # noqa: PLC0415
        from saratrx.output_folder import claimed  # noqa: PLC0415

    known, memory = embedding.read(options.embedded)
    refuse_other_weights(cfg, options.embedded)
    paths = find_all(options.images)
    with claimed(options.output_dir, "--output-dir") as folder:
        readable, wrong = split_readable(paths, reading_of(cfg))
        if not readable:
            raise InputError(f"none of {len(paths)} images can be read: {next(iter(wrong.values()))}")
        asked_features = embedding.embed(cfg, readable)
        if asked_features.shape[1] != memory.shape[1]:
            raise InputError(
                f"{options.embedded}: settings.yaml and features.npy do not fit together; run embed.py again"
            )
        similarity, places = nearest(torch.from_numpy(memory), asked_features, options.top)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", "rank", "similar", "cosine"])
        rows: list[list[tuple[str, str]]] = []
        for path, values, where in zip(readable, similarity.tolist(), places.tolist(), strict=True):
            found = [(known[place], value) for place, value in zip(where, values, strict=True)]
            writer.writerows([path, rank, *each] for rank, each in enumerate(found, start=1))
            if len(rows) < DRAWN[0]:
                near, _ = split_readable([name for name, _ in found[: DRAWN[1]]], reading_of(cfg))
                captions = [(name, f"{value:.2f}") for name, value in found[: DRAWN[1]] if name in near]
                rows.append([(path, pictures.shown(Path(path).name)[:20]), *captions])
        with refused_if_unwritable(folder):
            write_text(folder / "similar.csv", text.getvalue())
        title = f"images, and the most similar of {len(known):,} (cosine)"
        figure = pictures.beside(rows, title, reading_of(cfg), centre_crop_of(cfg))
        pictures.save(figure, folder / "similar.png")
        print(f"wrote {folder}/similar.csv and similar.png")
        if wrong:
            raise InputError(f"{len(wrong)} of {len(paths)} images cannot be read: {'; '.join(wrong.values())[:500]}")


if __name__ == "__main__":
    print_any_name()
    with exit_on_input_error():
        main()
