"""How many images a second can the data path deliver, against the published one on the same cores in the same run?

    python benchmarks/loader.py                                   # 2,000 synthetic chips, one loader process a core
    python benchmarks/loader.py --data_path DIR [DIR ...]         # real images
    python benchmarks/loader.py --device cuda --batch_size 256    # augmentation on the GPU

The published path opens each file with Pillow, crops, flips and jitters it image by image, and makes a tensor. Ours is
timed from folders, from shards (where WebDataset is installed) and from the decoded cache, with augmentation in the
loader or on the device. Nothing is trained. --json is written anew after each round. Prints
images/s, images/s per core, and the ratio to the published path (the median over interleaved rounds).
"""

import os
import tarfile
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from hivit_mae.cluster.distributed import Processes
from hivit_mae.cluster.host_memory import keep_freed_memory
from hivit_mae.data.loading import BatchLoader, open_images
from hivit_mae.run.options import DataOptions
from machine import describe, parsed
from saratrx.command_line import Parser
from saratrx.errors import exit_on_input_error
from saratrx.files import find_images, write_json

IMAGES_A_SHARD = 500


class PublishedImages(Dataset[torch.Tensor]):
    """Images as published: Pillow and torchvision's transforms, one by one."""

    def __init__(self, paths: list[str], input_size: int) -> None:
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(
                    input_size, scale=(0.2, 1.0), interpolation=transforms.InterpolationMode.BICUBIC
                ),
                transforms.RandomHorizontalFlip(),
                transforms.ColorJitter(contrast=0.5),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[index]).convert("L"))


def make_chips(folder: Path, number_of_chips: int) -> None:
    """Chips of speckle of 100 to 190 px, as 8-bit JPEG, like MSTAR's."""
    rng = np.random.default_rng(0)
    speckle = rng.gamma(1.0, 40.0, (512, 512)).clip(0, 255).astype(np.uint8)
    folder.mkdir()
    for number in range(number_of_chips):
        height, width = rng.integers(100, 191, 2)
        top, left = rng.integers(0, 512 - 190, 2)
        Image.fromarray(speckle[top : top + height, left : left + width]).save(folder / f"{number:06d}.jpg", quality=95)


def make_shards(folder: Path, paths: list[str]) -> list[str]:
    """Write the same images into tar files."""
    folder.mkdir()
    shards = []
    for number, first in enumerate(range(0, len(paths), IMAGES_A_SHARD)):
        shards.append(str(folder / f"shard-{number:03d}.tar"))
        with tarfile.open(shards[-1], "w") as tar:
            for place, path in enumerate(paths[first : first + IMAGES_A_SHARD], start=first):
                tar.add(path, f"{place:06d}{Path(path).suffix}")
    return shards


def published_path(
    paths: list[str], input_size: int, batch_size: int, workers: int, device: torch.device
) -> Callable[[], int]:
    """Make an epoch of the published path, which returns its number of images."""
    dataset = PublishedImages(paths, input_size)
    loader = DataLoader(dataset, batch_size, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True)

    def epoch() -> int:
        return sum(len(images.to(device)) for images in loader)

    return epoch


def our_path(
    data: DataOptions, input_size: int, batch_size: int, device: torch.device, folder: Path
) -> Callable[[], int]:
    """Make an epoch of one of our paths, which returns its number of images."""
    processes = Processes(0, 1, device)
    source = open_images(data, processes, input_size=input_size, batch_size=batch_size, seed=0, sizes_folder=folder)
    loader, epochs = BatchLoader(source, processes, batch_size, data.num_workers), count()

    def epoch() -> int:
        return sum(len(batch.images) for batch in loader.batches(next(epochs)))

    return epoch


def speed(epoch: Callable[[], int], device: torch.device) -> float:
    """Images a second over one epoch."""
    begun = time.perf_counter()
    images = epoch()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - begun)


def figures(speeds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Give the median of each form's speeds, and of its ratios to the published form, over the rounds so far."""
    return {
        name: {
            "images_per_second": median(of_rounds),
            "ratio": median(f / p for f, p in zip(of_rounds, speeds["published"], strict=True)),
        }
        for name, of_rounds in speeds.items()
    }


def main() -> None:
    """Measure and print."""
    parser = Parser(description="Time the data path against the published one.")
    parser.add_argument("--data_path", nargs="+", metavar="DIR", help="folders of images (default: synthetic chips)")
    parser.add_argument("--chips", type=int, default=2000, help="how many to make, without --data_path")
    parser.add_argument("--input_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--num_workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parsed(parser)

    keep_freed_memory()
    device, cores = torch.device(args.device), len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        folders = args.data_path or [str(top / "chips")]
        if not args.data_path:
            make_chips(top / "chips", args.chips)
        paths = [path for data in folders for path in find_images(data)]
        cache, batches = str(top / "cache"), (args.input_size, args.batch_size)
        sources = [("folders", folders, ""), ("cache", folders, cache)]
        if find_spec("webdataset"):
            sources.insert(1, ("shards", make_shards(top / "shards", paths), ""))
        else:
            print("shards are left out: webdataset is not installed")
        forms = {"published": published_path(paths, *batches, args.num_workers, device)}
        for name, data_path, cached in sources:
            for augment in ("loader", "device"):
                data = DataOptions(tuple(data_path), cached, augment=augment, num_workers=args.num_workers)
                forms[f"{name}, augment {augment}"] = our_path(data, *batches, device, top)
        if device.type == "cpu":  # the main process has the cores to itself then
            data = DataOptions(tuple(folders), cache, augment="device", num_workers=0)
            forms["cache, augment device, no loader processes"] = our_path(data, *batches, device, top)

        machine = describe(device)
        print(f"{machine}\n{len(paths)} images, batches of {args.batch_size}, {args.num_workers} loader processes")
        results = {"machine": machine, "images": len(paths), "batch_size": args.batch_size, "cores": cores}
        results["num_workers"] = args.num_workers
        speeds: dict[str, list[float]] = {name: [] for name in forms}
        for number in range(args.rounds + 1):
            for name, epoch in forms.items():
                # more threads than cores would wait for each other, in vain
                torch.set_num_threads(cores if "no loader" in name else max(cores - args.num_workers, 1))
                found = speed(epoch, device)
                if number:  # the first round starts the processes and fills the page cache
                    speeds[name].append(found)
            if number and args.json:  # after each round: the time on a machine may end
                write_json(args.json, results | figures(speeds), indent=1)
        for name, figure in figures(speeds).items():
            rate = figure["images_per_second"]
            print(
                f"  {name:42} {rate:7.0f} images/s  {rate / cores:8.0f} per core  ratio {figure['ratio']:6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    with exit_on_input_error():
        main()
