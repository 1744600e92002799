"""The sizes of HiViT: parameters, the names of pre-training's models, and the configs that begin from each.

python -m saratrx.models
"""

import torch

from saratrx.command_line import Parser
from saratrx.console import TOP
from saratrx.hivit import SIZES, HiViTClassifier


def table() -> list[list[str]]:
    """Give a row for each size: name, width, blocks, parameters in millions, configs of the later stages."""
    rows = []
    for size, shape in SIZES.items():
        with torch.device("meta"):  # nothing is allocated
            model = HiViTClassifier(**shape, img_size=224, num_classes=0)
        parameters = sum(each.numel() for each in model.parameters()) / 1e6
        depths = "-".join(map(str, shape["depths"]))
        rows.append([f"hivit_{size}", str(shape["embed_dim"]), depths, f"{parameters:.3g}", *configs_of(size)])
    return rows


def configs_of(size: str) -> tuple[str, str]:
    """Name the configs of classification and of detection for a size."""
    trainers = sorted((TOP / "classification/configs/trainers").glob(f"*/vit_{size[0]}16*.yaml"))
    detectors = sorted((TOP / "detection/configs/_hivit_").glob(f"hivit_{size}_*.py"))
    return (
        " ".join(dict.fromkeys(path.stem for path in trainers)),
        " ".join(path.stem.removeprefix(f"hivit_{size}_") for path in detectors),
    )


def main() -> None:
    """Print the table."""
    Parser(description="List the sizes of HiViT, and the configs that belong to each.").parse_args()
    for name, width, depths, parameters, classifiers, detectors in table():
        print(f"{name}: {parameters} M parameters, width {width}, blocks {depths}")
        print(f"  pre-training    --model mae_{name}_dec..., see main_pretrain.py --help")
        print(f"  classification  {classifiers or 'no config; MODEL.BACKBONE.NAME ' + name}")
        print(f"  detection       {detectors or 'no config'}")
    print("weights: example/weights/model.safetensors is of hivit_nano; nothing else is shipped or downloaded")


if __name__ == "__main__":
    main()
