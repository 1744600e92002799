"""Classify images with the classifier of a finished run: class, probability, and the nearest training images.

    python predict.py output/MSTAR_SOC/MIM_linear/vit_n16_middle_5shots/seed0 chips --output-dir predicted

The run is a folder that train.py wrote; of a table, one of its seeds. Its data set and its encoder must still be where
they were, or where --root and --init-weights say. Writes predictions.csv, predictions.json and predictions.png.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hivit_cls.configuration import setup_cfg
from hivit_cls.options import ConfigOptions
from hivit_cls.plugins import import_plugins
from saratrx.command_line import option, parse
from saratrx.cores import share_cores
from saratrx.errors import InputError, exit_on_input_error, interrupt_ends_at_once
from saratrx.files import is_folder, refused_if_unwritable, write_json, write_text
from saratrx.reporting import print_any_name


@dataclass(frozen=True)
class Options:
    """What is classified, and by what."""

    run: Path = option(help="output folder of a finished run", positional=True)
    images: tuple[str, ...] = option(help="files, and folders of them at any depth", positional=True)
    output_dir: Path = option(help="where the predictions go", metavar="DIR")
    root: str | None = option(None, help="folder that holds the data set's folder", default_text="as in the run")
    init_weights: str | None = option(None, help="checkpoint of the encoder", default_text="as in the run")

    def __post_init__(self) -> None:
        if not is_folder(self.run):
            raise InputError(f"{self.run}: no such folder; name one that train.py wrote")
        if not (self.run / "settings.yaml").is_file():
            raise InputError(f"{self.run} has no settings.yaml: name the folder of one run, such as .../seed0")


def main(argv: Sequence[str] | None = None) -> None:
    """Do what the command line (or `argv`) asks for."""
    (options,) = parse([Options], (__doc__ or "").splitlines()[0], argv, hyphens=True)
    weights = ("MODEL.INIT_WEIGHTS", options.init_weights) if options.init_weights else ()
    asked = ConfigOptions(root=options.root, output_dir=str(options.output_dir), opts=weights)
    cfg = setup_cfg(asked, str(options.run), import_plugins(Path(__file__).parent))
    cfg.freeze()

    # With these comes PyTorch, which takes seconds: what is wrong in a call has been told by now
    share_cores()
    with interrupt_ends_at_once():
        from dassl.utils import reading_of  # noqa: PLC0415
        from hivit_cls import prediction  # noqa: PLC0415
        from hivit_cls.settings import refuse_other_weights  # noqa: PLC0415
        from hivit_cls.unlabelled import find_all, split_readable  # noqa: PLC0415
        from saratrx.output_folder import claimed  # noqa: PLC0415

    refuse_other_weights(cfg, options.run)
    paths = find_all(options.images)
    with claimed(options.output_dir, "--output-dir") as folder:
        readable, wrong = split_readable(paths, reading_of(cfg))
        if not readable:
            raise InputError(f"none of {len(paths)} images can be read: {next(iter(wrong.values()))}")
        trainer = prediction.load_trained(cfg, options.run)
        made = prediction.predict(trainer, readable)
        about = {"run": str(options.run.absolute()), "trainer": cfg.TRAINER.NAME, "backbone": cfg.MODEL.BACKBONE.NAME}
        with refused_if_unwritable(folder):
            write_text(folder / "predictions.csv", prediction.as_csv(made, wrong))
            write_json(folder / "predictions.json", prediction.as_json(made, wrong, about), indent=1)
        prediction.draw(trainer, made, folder / "predictions.png")
        counts = {name: sum(one.classname == name for one in made) for name in trainer.lab2cname.values()}
        print(f"{len(made):,} images: " + ", ".join(f"{name} {number}" for name, number in counts.items() if number))
        print(f"wrote {folder}/predictions.csv, predictions.json and predictions.png")
        if wrong:
            first = next(iter(wrong.values()))
            raise InputError(f"{len(wrong)} of {len(paths)} images cannot be read, see predictions.csv: {first}")


if __name__ == "__main__":
    print_any_name()
    with exit_on_input_error():
        main()
