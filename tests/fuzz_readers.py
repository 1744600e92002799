"""All that reads a file of the user's, of every stage, with good files for the fuzzer to damage."""

import hashlib
import importlib.util
import io
import json
import os
import pickle
import shutil
import tarfile
import tempfile
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import rasterio
import rasterio.control
import sar_writers
import scipy.io
import torch
import yaml
from fuzz import Reader
from PIL import Image
from rasterio.io import MemoryFile
from safetensors.torch import save as save_safetensors

from coco_annotations import coco_check, hold_out, voc
from coco_annotations.coco_json import read_coco, usable_boxes
from coco_annotations.conversion import ConversionOptions, convert
from dassl.data.datasets import Datum
from dassl.utils import checkpoints as trainer_checkpoints
from hivit_cls.configuration import setup_cfg
from hivit_cls.datasets.atrnet_star import scene_of
from hivit_cls.datasets.split_files import read_pickled_shots, read_split
from hivit_cls.feature_bank import FeatureBank
from hivit_cls.options import ConfigOptions
from hivit_cls.results import read_experiment
from hivit_cls.settings import read_settings
from hivit_mae.cluster.distributed import Processes
from hivit_mae.data import image_cache
from hivit_mae.data.shards import ShardImages, count_images
from hivit_mae.run.begin import new_state
from hivit_mae.run.options import ModelOptions
from hivit_mae.run.run_log import drop_lines_after
from hivit_mae.run.training_state import Checkpoints
from saratrx import sar_files, sar_image
from saratrx.checkpoint import load_checkpoint, load_encoder
from saratrx.hivit import SIZES, HiViTClassifier
from saratrx.reading import AS_DEFAULT, Reading

ROOT = Path(__file__).parents[1]
PIXELS = 2**21  # allowed in a case, so that what is allowed needs little memory
RNG = np.random.default_rng(0)
GREY = RNG.integers(1, 256, (37, 45), dtype=np.uint8)
AMPLITUDE = RNG.gamma(2.0, 100.0, (37, 45)).astype(np.float32)


def make_readers() -> list[Reader]:
    """All readers, in the order of the table."""
    os.environ["SARATRX_MAX_PIXELS"] = str(PIXELS)
    torch.set_num_threads(1)  # threads do not outlive a fork
    image_cache.decoded = decoded_here  # likewise
    return [*image_readers(), *checkpoint_readers(), *pretraining_readers(), *classification_readers(), *coco_readers()]


def decoded_here(paths: Sequence[str], reading: Reading) -> Iterator[Any]:
    """Decode images for a cache in this process."""
    return map(image_cache.Decoded(paths, reading).__getitem__, range(len(paths)))


def digest(*parts: Any) -> str:
    """Hash arrays, tensors and texts."""
    found = hashlib.sha256()
    for part in parts:
        found.update(np.asarray(part).tobytes() if isinstance(part, np.ndarray | torch.Tensor) else str(part).encode())
    return found.hexdigest()


def written(write: Callable[[Path], Any]) -> bytes:
    """What is written to a file."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "file"))
        return Path(folder, "file").read_bytes()


# --- images ---


def tiff(values: Any, **how: Any) -> bytes:
    """A TIFF of [H, W] or [bands, H, W]."""
    values = values if values.ndim == 3 else values[None]
    count, height, width = values.shape
    colormap, tags = how.pop("colormap", None), how.pop("tags", {})
    with MemoryFile() as memory:
        with memory.open(
            driver=how.pop("driver", "GTiff"), height=height, width=width, count=count, dtype=values.dtype, **how
        ) as file:
            file.write(values)
            file.update_tags(**tags)
            if colormap:
                file.write_colormap(1, colormap)
        return bytes(memory.read())


def tiffs() -> dict[str, bytes]:
    """TIFFs of all kinds that are read."""
    large = np.tile(GREY, (8, 8))
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    colours = np.stack([GREY, GREY.max() - GREY, GREY])
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    return {
        "grey.tif": tiff(GREY),
        "colours.tif": tiff(colours, photometric="RGB"),
        "palette.tif": tiff(GREY, colormap={level: (level, 255 - level, 7, 255) for level in range(256)}),
        "sixteen.tif": tiff(AMPLITUDE.astype(np.uint16), nodata=0),
        "signed.tif": tiff((AMPLITUDE - 200).astype(np.int16), compress="lzw", predictor=2),
        "float.tif": tiff(AMPLITUDE, nodata=-9999, **place),
        "double.tif": tiff(AMPLITUDE.astype(np.float64), compress="deflate", predictor=3),
        "complex.tif": tiff((AMPLITUDE * (1 + 1j)).astype(np.complex64), compress="zstd"),
        "tiled.tif": tiff(large, compress="deflate", **tiled),
        "jpeg.tif": tiff(large, compress="jpeg", **tiled),
        "big.tif": tiff(large.astype(np.uint32), BIGTIFF="YES", compress="packbits"),
        "white_is_zero.tif": tiff(GREY // 128, nbits=1, photometric="MINISWHITE", compress="ccittfax4"),
    }


def with_gcps() -> bytes:
    """A TIFF whose place on the map is given by points, as Sentinel-1's."""
    points = [rasterio.control.GroundControlPoint(r, c, 10 + c / 9, 50 - r / 9) for r in (0, 37) for c in (0, 20, 45)]
    return tiff(AMPLITUDE.astype(np.uint16), gcps=points, crs="EPSG:4326")


def pillow_file(image: Image.Image, kind: str, **how: Any) -> bytes:
    """An image file of Pillow's."""
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def npy(values: Any) -> bytes:
    """A .npy file."""
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


def detection_scenes() -> Any:
    """The module of scenes, without its package, which brings MMDetection."""
    path = ROOT / "detection/hivit_det/scenes/scene.py"
    spec = importlib.util.spec_from_file_location("scene_alone", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCENES = detection_scenes()


def read_scene(path: Path) -> str:
    """Read a scene in windows, and smaller, and place it on the map."""
    scene = SCENES.open_scene(path)
    width, height = min(scene.width, 32), min(scene.height, 32)
    parts = [scene.read(scene.width - width, scene.height - height, width, height), scene.overview(20)]
    return digest(*parts, scene.crs, scene.map_coordinates([(0.0, 0.0), (5.0, 6.0)]))


def has_package(name: str) -> bool:
    """Whether a package of the extra `products` is there."""
    return importlib.util.find_spec(name) is not None


def read_image(path: Path) -> str:
    """Read an image to grey, by the channel that is there or the span, with its facts and a window."""
    with sar_files.open(path) as image:
        facts = (image.channels, image.pixel_spacing, image.sensor, image.geolocation, image.metadata, image.warnings)
        channel = None if len(image.channels) == 1 else sar_files.SPAN
        height, width = image.shape
        window = ((height // 2, height), (width // 2, width))
        return digest(sar_image.read(path, channel=channel), image.read(window, channel), *facts)


def image_readers() -> list[Reader]:
    """Images."""
    grey = Image.fromarray(GREY)
    colours = Image.merge("RGBA", [grey, grey, grey, grey])
    palette = grey.convert("P")
    pngs = {
        "grey.png": pillow_file(grey, "png"),
        "colours.png": pillow_file(colours, "png"),
        "palette.png": pillow_file(palette, "png"),
        "sixteen.png": pillow_file(Image.fromarray(AMPLITUDE.astype(np.uint16)), "png"),
        "one_bit.png": pillow_file(grey.convert("1"), "png"),
    }
    jpegs = {
        "grey.jpg": pillow_file(grey, "jpeg"),
        "progressive.jpg": pillow_file(colours.convert("RGB"), "jpeg", progressive=True),
        "cmyk.jpeg": pillow_file(colours.convert("CMYK"), "jpeg"),
    }
    bmps = {"grey.bmp": pillow_file(grey, "bmp"), "colours.bmp": pillow_file(colours.convert("RGB"), "bmp")}
    arrays = {
        "grey.npy": npy(GREY),
        "float.npy": npy(AMPLITUDE[None]),
        "complex.npy": npy(AMPLITUDE * 1j),
        "order.npy": npy(np.asfortranarray(AMPLITUDE.astype(">i4"))),
    }
    phase = (AMPLITUDE % 6).astype(np.float32)
    complex_values = (AMPLITUDE * np.exp(1j * phase)).astype(np.complex64)
    chips = {
        "a.000": sar_writers.mstar(AMPLITUDE, phase),
        "b.015": sar_writers.mstar(AMPLITUDE, phase, native=b"native" * 40),
    }
    beside = {"azimuth": 12.5, "target": "t72", "notes": {"a": 1}, "axis": np.arange(9.0)}
    matlab = {
        f"{name}.mat": written(
            lambda path, v=values, p=packed: scipy.io.savemat(path.open("wb"), v | beside, do_compression=p)
        )
        for name, values, packed in (
            ("complex", {"complex_img": complex_values}, True),
            ("plain", {"complex_img": complex_values}, False),
            ("sixteen", {"HH": AMPLITUDE.astype(np.uint16)}, True),
        )
    }
    archives = {
        "one.npz": written(lambda path: np.savez(path.open("wb"), image=complex_values, azimuth=3)),
        "packed.npz": written(lambda path: np.savez_compressed(path.open("wb"), HH=AMPLITUDE, name="t72")),
    }
    jpeg_2000 = {
        "grey.jp2": tiff(np.tile(GREY, (3, 3)), driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES"),
        "sixteen.jp2": tiff(AMPLITUDE.astype(np.uint16), driver="JP2OpenJPEG"),
    }
    products = has_package("sarkit") and {
        "single.nitf": written(lambda path: sar_writers.sicd(path, complex_values, "RE32F_IM32F")),
        "grey.ntf": written(lambda path: sar_writers.sidd(path, [GREY], "MONO8I")),
        "sixteen.ntf": written(lambda path: sar_writers.sidd(path, [AMPLITUDE.astype(np.uint16)] * 2, "MONO16I")),
    }
    hdf = has_package("h5py") and {
        "complex.mat": written(
            lambda path: sar_writers.matlab_73(path, {"complex_img": complex_values, "azimuth": 3.0})
        ),
        "sixteen.mat": written(lambda path: sar_writers.matlab_73(path, {"HH": AMPLITUDE.astype(np.uint16)})),
    }
    suffixes = tuple(sorted(sar_image.EXTENSIONS))
    kinds = {"PNG": pngs, "JPEG": jpegs, "BMP": bmps, "TIFF": tiffs(), "NPY": arrays}
    kinds |= {"MSTAR": chips, "MATLAB": matlab, "NPZ": archives, "JPEG 2000": jpeg_2000}
    kinds |= {kind: files for kind, files in (("NITF", products), ("MATLAB 7.3", hdf)) if files}
    readers = [Reader(f"image: {kind}", files, read_image, suffixes=suffixes) for kind, files in kinds.items()]
    hostile = {
        "a.npy": npy(np.array([Runs(), 1], object)),
        "b.npy": pickle.dumps(Runs()),
        "c.png": pickle.dumps(Runs()),
    }
    return [
        *readers,
        Reader("detection: scene", tiffs() | arrays | {"gcps.tif": with_gcps()}, read_scene, suffixes=suffixes),
        Reader("image: pickles", hostile, sar_image.read, suffixes=suffixes, is_hostile=True),
    ]


# --- checkpoints ---


class Runs:
    """Makes a file `ran` in the folder above the case's, where it is unpickled; in one of three ways."""

    def __init__(self, way: int = 0) -> None:
        self.way = way

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        ways = [(os.mknod, ("ran",)), (os.system, ("touch ran",)), (eval, ("open('ran', 'w')",))]
        return ways[self.way]


def micro() -> HiViTClassifier:
    """An encoder with a head."""
    torch.manual_seed(0)
    return HiViTClassifier(img_size=32, num_classes=3, rpe=True, in_chans=1, **SIZES["micro"])


def torch_file(content: Any, **how: Any) -> bytes:
    """A file of torch.save."""
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


def bomb() -> bytes:
    """An archive of torch.save whose megabytes are packed to kilobytes."""
    file = io.BytesIO()
    plain = zipfile.ZipFile(io.BytesIO(torch_file({"w": torch.zeros(5 * 10**6)})))
    with plain, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    return file.getvalue()


def read_weights(path: Path) -> str:
    """Load a checkpoint's weights into an encoder, and run it."""
    model = micro()
    load_encoder(model, path, missing_ok=("head.",))
    return digest(model(torch.ones(1, 1, 32, 32)).detach())


def read_any(path: Path) -> str:
    """Read a checkpoint as all that do not know its form."""
    content = load_checkpoint(path)
    return digest(*sorted(content["model"]), *content["model"].values())


def read_trainer(path: Path) -> str:
    """Go on from a trainer's checkpoint, for a step."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
    epochs = trainer_checkpoints.resume_from_checkpoint(path.parent, model, optimizer, schedule)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    schedule.step()
    return digest(*model.state_dict().values(), epochs)


def trainer_file() -> bytes:
    """A trainer's checkpoint."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict()}
    return torch_file(state | {"epoch": 1, "best_result": np.float64(0.5)})


def checkpoint_readers() -> list[Reader]:
    """Checkpoints, and the hashes beside them."""
    weights = {key: value for key, value in micro().state_dict().items() if "index" not in key}
    content = {"model": weights, "epoch": 3, "args": Namespace(lr=0.1, path="x"), "optimizer": {"state": {}}}
    forms = {
        "zip.pth": torch_file(content),
        "bare.pth": torch_file({f"module.{key}": value.half() for key, value in weights.items()}),
        "legacy.pth": torch_file(content, _use_new_zipfile_serialization=False),
        "a.safetensors": save_safetensors(weights),
    }
    hashed = {"a.pth": forms["zip.pth"], "b.pth": forms["legacy.pth"]}
    sums = {f"{name}.sha256": f"{hashlib.sha256(data).hexdigest()}  {name}\n".encode() for name, data in hashed.items()}
    hostile: dict[str, bytes] = {}
    for way in range(3):
        evil: dict[str, Any] = {"model": weights, "epoch": Runs(way)}
        hostile |= {
            f"zip{way}.pth": torch_file(evil),
            f"legacy{way}.pth": torch_file(evil, _use_new_zipfile_serialization=False),
            f"plain{way}.pth": pickle.dumps({"model": {"w": Runs(way)}}, protocol=way),
            f"polyglot{way}.safetensors": (2).to_bytes(8, "little") + b"{}" + torch_file(evil),
        }
    odd = {
        "spread.pth": weights | {"norm.weight": torch.zeros(1).expand(10**12)},
        "grid.pth": weights | {"absolute_pos_embed": torch.zeros(1).expand(1, 10**10, 32)},
        "sparse.pth": weights | {"norm.weight": torch.zeros(3).to_sparse()},
        "empty.pth": weights | {"norm.weight": torch.zeros(3, device="meta")},
        "quantised.pth": weights | {"norm.weight": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)},
        "eight.pth": weights | {"norm.weight": torch.zeros(3, dtype=torch.uint8).view(torch.float8_e4m3fn)},
        "whole.pth": weights | {"absolute_pos_embed": weights["absolute_pos_embed"].int()},
    }
    hostile |= {name: torch_file(content) for name, content in odd.items()} | {"bomb.pth": bomb()}
    suffixes = (".pth", ".safetensors", ".tar")
    resumed = {"model.pth.tar-1": trainer_file()}
    return [
        Reader("checkpoint: encoder", forms, read_weights, suffixes=suffixes),
        Reader("checkpoint: any", forms, read_any, suffixes=suffixes),
        Reader("checkpoint: hostile", hostile, read_weights, suffixes=suffixes, is_hostile=True),
        Reader("checkpoint: with a hash", hashed, read_any, beside=sums, is_checked=True),
        Reader(
            "checkpoint: the hash", sums, lambda path: read_any(path.with_suffix("")), beside=hashed, is_checked=True
        ),
        Reader("trainer: checkpoint", resumed, read_trainer, beside={"checkpoint": b"model.pth.tar-1\n"}),
        Reader("trainer: the file that names it", {"checkpoint": b"model.pth.tar-1\n"}, read_trainer, beside=resumed),
    ]


# --- pre-training ---

PRETRAINING = ModelOptions(model="mae_hivit_micro_dec32d1b", input_size=32)
ALONE = Processes(0, 1, torch.device("cpu"))


def new_run() -> Any:
    """The state of a run that begins."""
    return new_state(PRETRAINING, 0, lr=0.1, weight_decay=0.05, amp="off", device=ALONE.device)


def step(state: Any) -> None:
    """Do a step, so that a state that does not fit shows."""
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()


def write_states(folder: Path) -> None:
    """Write the checkpoints of a run: of an epoch and of the middle of the next."""
    state = new_run()
    step(state)
    store = Checkpoints(folder, 0, 9, {"lr": 0.1}, "images")
    for state.progress.epoch, state.progress.step in ((1, 0), (1, 2)):
        state.progress.loss_sums = [[3.0, 4]]
        store.save(state)


def read_state(path: Path) -> str:
    """Go on with a run, from the newest checkpoint that can be used, for a step."""
    state = new_run()
    Checkpoints(path.parent, 0, 9, {}, "images").restore("auto", state, ALONE)
    state.progress.count_in(3)
    step(state)
    return digest(*state.model.state_dict().values())


def shard(members: dict[str, bytes], mode: str = "w", kind: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=kind) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if kind == tarfile.PAX_FORMAT:
                member.pax_headers = {"comment": "a" * 20, "mtime": "12.5"}
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def read_shards(path: Path) -> int:
    """Count a shard's images, and read all, twice, as training does."""
    counts = count_images([str(path)], path.parent)
    source = ShardImages([str(path)], counts, 32, 0, 1.0, on_device=False, batch_size=1, rank=0, world_size=1)
    source.examples(2)
    return len(list(source))


def read_cache(path: Path) -> str:
    """Open a cache, which is built anew where it is damaged, and read what it holds."""
    folder = path.parents[1]
    paths = [str(folder / name) for name in ("a.png", "b.png", "c.png")]
    name = image_cache.source_identity(paths, AS_DEFAULT)
    place = folder / name
    if place != path.parent:
        shutil.copytree(path.parent, place)
    cache = image_cache.open_cache(folder, paths)
    parts = []
    for number in range(3):
        try:
            parts.append(cache.read(number).copy())
        except sar_image.ImageError as error:
            if "damaged" in str(error):
                raise
            parts.append("unread")
    return digest(*parts)


def cache_files() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """A cache, and the images that it holds; one of them cannot be read."""
    images = {"a.png": pillow_file(Image.fromarray(GREY), "png"), "b.png": npy(AMPLITUDE), "c.png": b"no image"}
    images["b.png"] = pillow_file(Image.fromarray(AMPLITUDE.astype(np.uint16)), "png")
    with tempfile.TemporaryDirectory() as folder:
        for name, data in images.items():
            Path(folder, name).write_bytes(data)
        Path(folder, "cache").mkdir()
        image_cache.build(Path(folder, "cache"), [str(Path(folder, name)) for name in images], AS_DEFAULT)
        return {f"cache/{path.name}": path.read_bytes() for path in Path(folder, "cache").iterdir()}, images


def read_log(path: Path) -> str:
    """Cut a log.txt back, as a run that goes on does."""
    drop_lines_after(path, 2)
    return path.read_text()


def pretraining_readers() -> list[Reader]:
    """What pre-training reads."""
    with tempfile.TemporaryDirectory() as folder:
        write_states(Path(folder))
        states = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    bare = {name: data for name, data in states.items() if name.endswith(".pth")}
    members = {f"{n}.png": pillow_file(Image.fromarray(GREY + n), "png") for n in range(3)} | {"a.txt": b"text"}
    shards = {
        "plain.tar": shard(members),
        "long.tar": shard({"n" * 120 + name: data for name, data in members.items()}),
        "pax.tar": shard(members, kind=tarfile.PAX_FORMAT),
        "packed.tar.gz": shard(members, "w:gz"),
        "packed.tgz": shard(members, "w:gz", tarfile.PAX_FORMAT),
    }
    cache, images = cache_files()
    log = "".join(json.dumps({"train_lr": 0.1, "train_loss": 0.5, "epoch": epoch}) + "\n" for epoch in range(1, 5))
    sizes = {"sizes.json": json.dumps({"plain.tar": 3}, indent=1).encode()}
    with_sizes = {"plain.tar": shards["plain.tar"]}
    return [
        Reader("pre-training: a state, without hash", bare, read_state),
        Reader("pre-training: a state", states, read_state),
        Reader("pre-training: shards", shards, read_shards, suffixes=(".tar", ".gz", ".tgz")),
        Reader(
            "pre-training: sizes of shards",
            sizes,
            lambda path: read_shards(path.with_name("plain.tar")),
            beside=with_sizes,
            is_text=True,
        ),
        Reader("pre-training: cache", cache, read_cache, beside=images | cache, is_checked=True),
        Reader("pre-training: log.txt", {"log.txt": log.encode()}, read_log, is_text=True),
    ]


# --- classification ---


def read_config(path: Path) -> str:
    """Make a config of a trainer's or a data set's file."""
    is_data = path.name.startswith("data")
    return str(setup_cfg(ConfigOptions(**{"dataset_config_file" if is_data else "config_file": str(path)})))


def read_run_settings(path: Path) -> str:
    """Read a run's settings to test its model, as `--eval-only --model-dir` does, and to go on."""
    return str(setup_cfg(ConfigOptions(), tested_run=str(path.parent))) + str(read_settings(path))


def read_bank(path: Path) -> Any:
    """Read a bank; a file of it that is damaged counts for nothing."""
    found = FeatureBank.read(SimpleNamespace(folder=path.parent))  # type: ignore[arg-type]  # all that it asks for
    for key, value in found.items():
        if digest(value) != BANK[key]:
            raise AssertionError("a damaged file was taken")
    return True


def bank_file() -> dict[str, bytes]:
    """A file of a feature bank."""
    features = torch.arange(24).reshape(3, 8).float()
    content = save_safetensors({"hashes": torch.arange(96).reshape(3, 32).to(torch.uint8), "features": features})
    for number, value in enumerate(features):
        BANK[bytes(range(32 * number, 32 * number + 32)).hex()] = digest(value)
    return {f"{hashlib.sha256(content).hexdigest()}.safetensors": content}


BANK: dict[str, str] = {}  # digests of features, by the images' hashes


def read_table(path: Path) -> str:
    """Read the results of an experiment's runs."""
    experiment = read_experiment(path.parents[1])
    if experiment.values:
        float(f"{experiment.mean} "), float(f"{experiment.std}")
    return str(experiment.values)


def classification_readers() -> list[Reader]:
    """What classification reads."""
    configs = {
        "data.yaml": b"DATASET:\n  NAME: MyDataset\n  CLASSES: [A, 2S1, on]\n  PARTS: [TRAIN, TEST]\n  NUM_SHOTS: 5\n",
        "trainer.yaml": (ROOT / "classification/configs/trainers/MIM_linear/vit_b16.yaml").read_bytes(),
        "own.yaml": b"_BASE_: base.yaml\nOPTIM:\n  LR: 1e-3\n  STEPSIZE: [10, 20]\nINPUT:\n  SIZE: (128, 128)\n",
    }
    settings = {"OPTIM.LR": 0.1, "DATASET.NAME": "A", "SEED": 3, "INPUT.SIZE": [64, 64], "weights": "ab" * 32}
    split = {part: [[f"{n}.png", n % 2, f"class{n % 2}"] for n in range(4)] for part in ("train", "val", "test")}
    images = {f"{n}.png": b"" for n in range(4)}
    shots = {"train": [Datum("x/split/0.png", 0, classname="a")], "val": [Datum("x/split/1.png", 1, classname="b")]}
    pickled = {f"shot{p}.pkl": pickle.dumps(shots, protocol=p) for p in range(5)}
    hostile = {f"shot{way}.pkl": pickle.dumps({"train": [Runs(way)]}, protocol=way) for way in range(3)}
    results = {"trained": True, "split": "test", "results": {"accuracy": 91.5, "error_rate": 8.5}, "images": 4}
    log = b"epoch [3/3]\nFinish training\n=> result\n* total: 4\n* accuracy: 91.50%\n* error: 8.50%\n"
    runs = {"seed0/results.json": json.dumps(results).encode(), "seed1/log.txt": log}
    return [
        Reader("classification: config", configs, read_config, {"base.yaml": configs["trainer.yaml"]}, is_text=True),
        Reader(
            "classification: settings.yaml",
            {"settings.yaml": yaml.safe_dump(settings).encode()},
            read_run_settings,
            is_text=True,
        ),
        Reader(
            "classification: split file",
            {"split.json": json.dumps(split).encode()},
            lambda path: digest(read_split(path)["train"][0].label if read_split(path)["train"] else 0),
            beside=images,
            is_text=True,
        ),
        Reader("classification: pickled shots", pickled, read_shots, beside=images),
        Reader("classification: hostile shots", hostile, read_shots, beside=images, is_hostile=True),
        Reader("classification: feature bank", bank_file(), read_bank),
        Reader("classification: results", runs, read_table, beside=runs, is_text=True),
        Reader(
            "classification: scene of an image",
            {"a.xml": b"<annotation><scene><scene_name>Bare soil</scene_name></scene></annotation>"},
            lambda path: scene_of(f"{path.with_suffix('')}.tif"),
            is_text=True,
        ),
    ]


def read_shots(path: Path) -> int:
    """Read few shots as Dassl's clients pickle them."""
    split = path.parent / "split"
    split.mkdir(exist_ok=True)
    for name in ("0.png", "1.png"):
        (split / name).touch()
    return len(read_pickled_shots(path, split)["train"])


# --- detection ---


def read_boxes(path: Path) -> int:
    """Read annotations as training does, count its boxes, and hold a part out."""
    content = read_coco(path)
    count = usable_boxes(content, ["ship", "tank"])
    try:
        hold_out.split_by_scene(content, 0.3)
    except ValueError:  # what it says of images that cannot be split
        return 0
    return count


def check_set(path: Path) -> str:
    """Check a set as tools/check_coco.py does."""
    coco_check.tqdm = lambda seen, **_: seen  # its bar would have a thread
    files, _ = coco_check.find(path.parents[1])
    coco_check.check(files, {"ship", "tank"})
    return coco_check.table(files) + coco_check.examples(files)


def read_voc(path: Path) -> int:
    """Convert a folder of XML files."""
    images = path.parents[1] / "images"
    paths = voc.xml_files(path.parent, path if path.suffix == ".txt" else None)
    content = voc.convert(paths, images)
    json.dumps(content, allow_nan=False)
    return len(content["annotations"])


def convert_from(kind: str, path: Path) -> int:
    """Convert a folder of annotation files as tools/to_coco.py does."""
    top = path.parents[1]
    content = convert(ConversionOptions((path.parent,), top / "out.json", kind, top / "images"))
    json.dumps(content, allow_nan=False)
    return len(content["annotations"])


def coco_readers() -> list[Reader]:
    """What detection's annotation tools read."""
    boxes = [
        {"id": n, "image_id": 1 + n % 3, "category_id": 1 + n % 2, "bbox": [n, 2.5, 10, 12], "area": 120, "iscrowd": 0}
        for n in range(1, 7)
    ]
    coco = {
        "info": {"year": 2024},
        "images": [{"id": n, "file_name": f"{n}.png", "width": 45, "height": 37} for n in range(1, 4)],
        "annotations": boxes,
        "categories": [{"id": 1, "name": "ship"}, {"id": 2, "name": "tank", "supercategory": "x"}],
    }
    images = {f"images/{n}.png": pillow_file(Image.fromarray(GREY + n), "png") for n in range(1, 4)}
    files = {
        "annotations/train.json": json.dumps(coco).encode(),
        "annotations/b.json": json.dumps(coco, indent=1).encode(),
    }
    files["annotations/b.json"] = files["annotations/b.json"].decode().encode("utf-16")
    train = {"annotations/train.json": files["annotations/train.json"]}
    xml = (
        "<annotation><filename>{0}.png</filename><size><width>45</width><height>37</height></size>"
        "<object><name>ship</name><difficult>0</difficult><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>20</xmax>"
        "<ymax>30</ymax></bndbox></object><object><name>飞机</name><bndbox><xmin>1.5</xmin><ymin>2</ymin>"
        "<xmax>9</xmax><ymax>8</ymax></bndbox></object></annotation>"
    )
    plain = {f"xml/{n}.xml": xml.format(n).encode() for n in (1, 2)}
    chinese = ('<?xml version="1.0" encoding="gb2312"?>' + xml.format(2)).encode("gb2312")
    xmls = plain | {"xml/2.xml": chinese}
    lists = {"xml/list.txt": b"1\n2\n"}
    names = {"labels/data.yaml": b"nc: 2\nnames: [ship, tank]\n"}
    yolo = b"1 0.5 0.5 0.2 0.25\n0 0.1 0.2 0.5 0.25 0.4 0.5 0.1 0.4\n"
    dota = b"imagesource:GoogleEarth\ngsd:0.15\n3 4 20 4 20 30 3 30 ship 0\n1 1 9 2 8 9 1 8 tank 1\n"
    shapes = [
        {"label": "ship", "points": [[3, 4], [20.5, 30]], "shape_type": "rectangle"},
        {"label": "tank", "points": [[1, 1], [9, 2], [8, 9]], "shape_type": "polygon"},
        {"label": "tank", "points": [[1, 1], [9, 2]], "shape_type": "circle"},
    ]
    labelme = {"shapes": shapes, "imagePath": "1.png", "imageWidth": 45, "imageHeight": 37}
    cvat = (
        '<annotations><image id="0" name="1.png" width="45" height="37"><box label="ship" xtl="3" ytl="4" xbr="20" '
        'ybr="30" rotation="30"/><polygon label="tank" points="1,1;9,2;8,9"/></image></annotations>'
    )
    turned = (
        "<annotation><filename>1.png</filename><object><name>ship</name><robndbox><cx>20</cx><cy>15</cy><w>9</w>"
        "<h>5</h><angle>0.5</angle></robndbox></object></annotation>"
    )
    tools = {
        "yolo": {"labels/1.txt": yolo, **names},
        "dota": {"labels/1.txt": dota},
        "labelme": {"labels/1.json": json.dumps(labelme).encode()},
        "voc": {"labels/1.xml": turned.encode(), "labels/2.xml": cvat.replace("1.png", "2.png").encode()},
    }
    return [
        Reader("detection: COCO", files, read_boxes, is_text=True),
        Reader("detection: check_coco", train, check_set, beside=images, is_text=True),
        Reader("detection: VOC", xmls, read_voc, beside=images | plain, is_text=True),
        Reader("detection: list of VOC files", lists, read_voc, beside=images | plain, is_text=True),
        *(
            Reader(
                f"detection: {kind} to COCO", files, partial(convert_from, kind), beside=images | files, is_text=True
            )
            for kind, files in tools.items()
        ),
    ]
