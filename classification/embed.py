"""Turn images into features of a frozen encoder: features.npy [N, D], and images.csv with the file of each row.

    python embed.py chips --output-dir embedded --config-file configs/trainers/kNN/vit_n16_middle.yaml \
        MODEL.INIT_WEIGHTS ../example/weights/model.safetensors

Any encoder of this stage can be taken, by any key of the config; --dataset-config-file tells what is cut from the
middle of that set's images. The same command goes on with what was interrupted. Next: similar.py.
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
from saratrx.files import refused_if_unwritable
from saratrx.reporting import print_any_name


@dataclass(frozen=True)
class Options:
    """What is turned into features."""

    images: tuple[str, ...] = option(help="files, and folders of them at any depth")
    output_dir: Path = option(help="where the features go", metavar="DIR")


@dataclass(frozen=True)
class EncoderOptions:
    """The encoder, and what it sees."""

    config_file: str = option("", help="config of a trainer; one that ends in .py is run, so trust it")
    dataset_config_file: str = option("", help="config of a data set; likewise")
    opts: tuple[str, ...] = option((), help="any key of the config", metavar="KEY VALUE", positional=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Do what the command line (or `argv`) asks for."""
    options, encoder = parse([Options, EncoderOptions], (__doc__ or "").splitlines()[0], argv, hyphens=True)
    asked = ConfigOptions(
        output_dir=str(options.output_dir),
        config_file=encoder.config_file,
        dataset_config_file=encoder.dataset_config_file,
        opts=encoder.opts,
    )
    cfg = setup_cfg(asked, extensions=import_plugins(Path(__file__).parent))
    cfg.freeze()

    # With these comes PyTorch, which takes seconds: what is wrong in a call has been told by now
    share_cores()
    with interrupt_ends_at_once():
        from dassl.utils import reading_of  # noqa: PLC0415
        from hivit_cls import embedding  # noqa: PLC0415
        from hivit_cls.encoder import refuse_bad_encoder  # noqa: PLC0415
        from hivit_cls.settings import holds_run, write_settings  # noqa: PLC0415
        from hivit_cls.unlabelled import find_all, split_readable  # noqa: PLC0415
        from saratrx.output_folder import claimed  # noqa: PLC0415

    refuse_bad_encoder(cfg)
    if holds_run(options.output_dir):
        raise InputError(f"--output-dir {options.output_dir}: holds a run of train.py; choose another folder")
    paths = find_all(options.images)
    with claimed(options.output_dir, "--output-dir") as folder:
        readable, wrong = split_readable(paths, reading_of(cfg))
        if not readable:
            raise InputError(f"none of {len(paths)} images can be read: {next(iter(wrong.values()))}")
        features = embedding.embed(cfg, readable)
        with refused_if_unwritable(folder):
            (folder / embedding.FEATURES).unlink(missing_ok=True)  # never beside the settings of another encoder
        write_settings(cfg)
        embedding.write(folder, readable, features)
        print(f"wrote {folder}/features.npy, {len(features):,} images of {features.shape[1]} features, and images.csv")
        if wrong:
            raise InputError(f"{len(wrong)} of {len(paths)} images cannot be read: {'; '.join(wrong.values())[:500]}")


if __name__ == "__main__":
    print_any_name()
    with exit_on_input_error():
        main()
