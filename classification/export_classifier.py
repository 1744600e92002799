"""Write the classifier of a finished run as an ONNX file: images in, probabilities out.

    python export_classifier.py output/MSTAR_SOC/MIM_linear/vit_n16_middle_5shots/seed0 exported

FOLDER gets model.onnx, images [B, 1, H, W] of the run's input size, amplitude in [0, 1] -> probabilities [B, C], and
classifier.json: the classes in order, and how an image becomes an input. It computes in single precision. The run's
data set and encoder must still be there, as for predict.py.
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
from saratrx.files import is_folder, refused_if_unwritable, try_writing, write_json
from saratrx.reporting import print_any_name


@dataclass(frozen=True)
class Options:
    """What is exported."""

    run: Path = option(help="output folder of a finished run", positional=True)
    folder: Path = option(help="is made", positional=True)
    root: str | None = option(None, help="folder that holds the data set's folder", default_text="as in the run")
    init_weights: str | None = option(None, help="checkpoint of the encoder", default_text="as in the run")

    def __post_init__(self) -> None:
        if not is_folder(self.run) or not (self.run / "settings.yaml").is_file():
            raise InputError(f"{self.run}: no folder of a run; name one that train.py wrote, such as .../seed0")


def main(argv: Sequence[str] | None = None) -> None:
    """Do what the command line (or `argv`) asks for."""
    (options,) = parse([Options], (__doc__ or "").splitlines()[0], argv, hyphens=True)
    weights = ("MODEL.INIT_WEIGHTS", options.init_weights) if options.init_weights else ()
    asked = ConfigOptions(root=options.root, output_dir=str(options.folder), opts=(*weights, "MODEL.PRECISION", "fp32"))
    cfg = setup_cfg(asked, str(options.run), import_plugins(Path(__file__).parent))
    cfg.FEATURE_BANK = False  # the file computes from images, not from features
    cfg.USE_CUDA = False
    cfg.freeze()

    # With these comes PyTorch, which takes seconds: what is wrong in a call has been told by now
    share_cores()
    with interrupt_ends_at_once():
        import torch  # noqa: PLC0415

        from dassl.utils import reading_of  # noqa: PLC0415
        from hivit_cls.prediction import Whole, load_trained  # noqa: PLC0415
        from hivit_cls.settings import refuse_other_weights  # noqa: PLC0415
        from saratrx.onnx_file import import_runtime, write_onnx  # noqa: PLC0415

    import_runtime()
    refuse_other_weights(cfg, options.run)
    trainer = load_trained(cfg, options.run)
    try_writing(options.folder, "FOLDER")
    generator = torch.Generator().manual_seed(0)
    examples = [torch.rand(number, 1, *cfg.INPUT.SIZE, generator=generator) for number in (2, 3)]
    version = write_onnx(Whole(trainer).eval(), options.folder / "model.onnx", examples, ("probabilities",), free=(0,))
    about = {
        "classes": [trainer.lab2cname[label] for label in range(trainer.num_classes)],
        "input": ["images", 1, *cfg.INPUT.SIZE],
        "reading": str(reading_of(cfg)),
        "transform": str(trainer.dm.tfm_test),
        "opset": version,
        "run": str(options.run.absolute()),
    }
    with refused_if_unwritable(options.folder):
        write_json(options.folder / "classifier.json", about, indent=1)
    print(f"wrote {options.folder}/model.onnx (opset {version}) and classifier.json; ONNX Runtime computes the same")


if __name__ == "__main__":
    print_any_name()
    with exit_on_input_error():
        main()
