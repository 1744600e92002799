"""What the demo page says of an image, as HTML: a section for each thing that can look at it."""

import csv
import html
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from yacs.config import CfgNode

from coco_annotations.scene_options import SceneOptions, WindowOptions
from dassl.data.datasets.base_dataset import centre_crop_of
from dassl.utils import reading_of
from hivit_cls import embedding, pictures, prediction
from hivit_cls.configuration import setup_cfg
from hivit_cls.neighbours import nearest
from hivit_cls.options import ConfigOptions
from hivit_cls.plugins import import_plugins
from hivit_cls.settings import refuse_other_weights
from hivit_cls.unlabelled import split_readable
from hivit_mae.data.augment import whole_image
from hivit_mae.models.targets import DEFAULT, make_target
from hivit_mae.models.trained import load_trained
from hivit_mae.run import panel
from report import drawn, embedded, table
from saratrx import visualize
from saratrx.console import TOP
from saratrx.errors import InputError, sentence
from saratrx.grey_scale import Grey
from saratrx.position import Grid
from saratrx.reading import Reading

SIDE = 640  # px at most, of the image as it is shown
GRADIENT_SIDE = 512  # px at most, of the square whose gradients are shown
SMALLEST = 32  # px; gradients need more than 17 on each side
NEAREST = 6  # images
CLASSES = 5  # the most probable
MASKED = 0.75  # share of the patches that is hidden
Section = Callable[[Path, Reading], str]


def look(sections: dict[str, Section], path: Path, reading: Reading) -> str:
    """Set all sections on a file; of one that cannot look at it, the reason."""
    try:
        parts = [amplitude(path, reading)]
    except InputError as error:
        return said(error, path)
    for title, section in sections.items():
        parts.append(f"<h2>{html.escape(title)}</h2>")
        try:
            parts.append(section(path, reading))
        except InputError as error:
            parts.append(said(error, path))
    return "".join(parts)


def said(error: InputError, path: Path) -> str:
    """Set an error in one sentence, which names the file as the user does."""
    return f"<p><strong>{html.escape(sentence(error).replace(str(path), path.name))}</strong></p>"


def amplitude(path: Path, reading: Reading) -> str:
    """Show an image as it is read."""
    grey = reading.read(path)
    picture = Image.fromarray(grey)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    png = io.BytesIO()
    picture.save(png, "PNG")
    return embedded(png.getvalue(), f"{path.name}: {grey.shape[0]:,} x {grey.shape[1]:,} pixels, {reading}")


def middle(grey: Grey, side: int) -> torch.Tensor:
    """Scale the middle square of an image [H, W] to [1, 1, side, side] in [0, 1]."""
    image: torch.Tensor = whole_image(side)(torch.from_numpy(grey)[None])
    return image[None].float() / 255


def gradients(path: Path, reading: Reading) -> str:
    """Show multi-scale gradient features, which the published model learns to predict."""
    grey = reading.read(path)
    side = max(min(*grey.shape, GRADIENT_SIDE) // 16 * 16, SMALLEST)
    target, images = make_target(DEFAULT), middle(grey, side)
    figure = Figure(figsize=(2.6 * (1 + target.channels), 2.9), layout="constrained")
    axes = figure.subplots(1, 1 + target.channels)
    panel.show(axes[0], images[0, 0], "gray", (0, 1))
    axes[0].set_title("the middle")
    for axis, values, title in zip(axes[1:], target(images)[0], target.titles, strict=True):
        panel.show(axis, values, "magma", (values.quantile(0.005).item(), values.quantile(0.995).item()))
        axis.set_title(title)
    return drawn(figure, f"The middle square at {side} px, and its gradients by ratios of windows' means, r in pixels.")


class Encoder:
    """Shows what a checkpoint makes of an image: a reconstruction if it has a decoder; tokens and attention."""

    def __init__(self, checkpoint: Path) -> None:
        self.model, self.side = visualize.load(checkpoint)
        self.trained = load_trained(checkpoint)
        self.name = checkpoint.name

    def __call__(self, path: Path, reading: Reading) -> str:
        images = middle(reading.read(path), self.side)
        tokens, attention = visualize.look(self.model, images)
        grid: Grid = (self.side // visualize.PATCH, self.side // visualize.PATCH)
        seen = drawn(
            visualize.draw_tokens(images, tokens, attention[-1], grid),
            f"The middle square at {self.side} px, as {self.name} sees it: like colours are alike to the encoder.",
        )
        if self.trained is None:
            name = html.escape(self.name)
            return f"<p>{name} holds an encoder alone: there is no decoder to reconstruct with.</p>{seen}"
        figure = panel.draw(self.trained[0], images, MASKED)
        return drawn(figure, "What is hidden, what should be predicted there, and what is predicted.") + seen


class Neighbours:
    """Shows the images of an embedded folder that are most like another."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.known, memory = embedding.read(folder)
        self.memory, self.work = torch.from_numpy(memory), work
        self.cfg = config(folder, work)

    def __call__(self, path: Path, _: Reading) -> str:
        reading = reading_of(self.cfg)
        reading.read(path)
        with forgotten(self.work):
            asked = embedding.embed(self.cfg, [str(path)])
        if asked.shape[1] != self.memory.shape[1]:
            raise InputError("the folder's settings.yaml and features.npy do not fit together; run embed.py again")
        (similarity,), (places,) = nearest(self.memory, asked, NEAREST)
        found = [(self.known[place], f"{value:.2f}") for place, value in zip(places, similarity.tolist(), strict=True)]
        there = split_readable([name for name, _ in found], reading)[0]
        row = [(str(path), "this one"), *[each for each in found if each[0] in there]]
        title = f"the most similar of {len(self.known):,} (cosine)"
        figure = pictures.beside([row], title, reading, centre_crop_of(self.cfg))
        return drawn(figure, f"Read by {reading}. " + "; ".join(f"{Path(name).name} {value}" for name, value in found))


class Classifier:
    """Shows classes of a finished run, and the nearest of its training images."""

    def __init__(self, run: Path, work: Path) -> None:
        cfg = config(run, work)
        self.trainer, self.work = prediction.load_trained(cfg, run), work
        self.trainer.features(self.trainer.dm.dataset.train_x)  # are then in the bank

    def __call__(self, path: Path, _: Reading) -> str:
        reading = reading_of(self.trainer.cfg)
        reading.read(path)
        with forgotten(self.work):
            (one,) = prediction.predict(self.trainer, [str(path)])
        classes = [[name, f"{100 * share:.1f}"] for name, share in list(one.probabilities.items())[:CLASSES]]
        row = [(str(path), "this one")]
        row += [(near.image, f"{near.classname} {near.similarity:.2f}") for near in one.neighbours]
        figure = pictures.beside([row], "the nearest training images (cosine)", reading, self.trainer.dm.centre_crop)
        return table(["class", "probability, %"], classes) + drawn(figure, f"Read by {reading}.")


class Detector:
    """Shows what a detector finds in a scene."""

    def __init__(self, config: Path, checkpoint: Path, window: int, work: Path) -> None:
        self.files, self.how, self.work = (config, checkpoint), WindowOptions(window=window), work

    def __call__(self, path: Path, reading: Reading) -> str:
        from hivit_det.scenes.finding import find  # noqa: PLC0415 -- with MMDetection, of no use without a detector

        with forgotten(self.work):
            options = SceneOptions(
                *self.files, (path,), self.work / "found", remap=reading.remap, channel=reading.channel
            )
            find(options, self.how)
            (picture,) = options.output_dir.glob("*.jpg")
            (rows,) = options.output_dir.glob("*.csv")
            head, *targets = csv.reader(rows.read_text(encoding="utf-8").splitlines())
            png = io.BytesIO()
            Image.open(picture, formats=["JPEG"]).save(png, "PNG")
        return embedded(png.getvalue(), f"{len(targets)} targets, {reading}") + table(head, targets)


def config(folder: Path, work: Path) -> CfgNode:
    """Give the config of a run or of an embedded folder, with which nothing is written but below `work`.

    Raises:
        InputError: if the folder is no such, or its encoder is not where it was.

    """
    opts = ("FEATURE_BANK_DIR", str(work / "features"), "DATALOADER.NUM_WORKERS", "0")
    cfg = setup_cfg(ConfigOptions(output_dir=str(work), opts=opts), str(folder), import_plugins(TOP / "classification"))
    cfg.freeze()
    refuse_other_weights(cfg, folder)
    return cfg


@contextmanager
def forgotten(work: Path) -> Iterator[None]:
    """Delete what was written below a folder meanwhile."""
    before = set(work.rglob("*"))
    try:
        yield
    finally:
        for path in set(work.rglob("*")) - before:
            if path.is_file():
                path.unlink()
