"""Features of images under a frozen encoder, computed once and kept on disk.

A bank is a folder, named by all that decides a feature but the image: weights, encoder, how images are read,
transform, input size, precision, device, PyTorch. In it, `recipe.json` says what these are, and each `*.safetensors`
holds some images' features with the hashes of the images' contents. A file's own name is the hash of what it holds, so
that damage shows. It is written in one step and never changed, so any number of runs can read and add at once; what two
of them add twice does no harm.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

from dassl.data import DatasetWrapper
from dassl.data.data_manager import Batch
from dassl.data.datasets import Datum
from dassl.data.transforms import is_random
from dassl.data.transforms.transforms import Transform
from dassl.utils import mkdir_if_missing, reading_of, write_json
from dassl.utils.progress import Progress
from hivit_cls.encoder import FrozenEncoder
from saratrx.cores import available
from saratrx.files import content_hash, refused_if_unwritable, write_bytes
from saratrx.loader_workers import end_with_parent
from saratrx.reading import AS_DEFAULT
from saratrx.reporting import get_logger

log = get_logger(__name__)

FORMAT = 2  # to be raised when features of the same recipe, or the names of files, change
WORTH_WORKERS = 500  # images from which on loader processes pay
SAVED_TOGETHER = 2000  # images per file, about 4 MB; an interrupted run loses at most these


def is_usable(cfg: CfgNode) -> bool:
    """Tell whether a run with a frozen encoder can use a bank, and wants to."""
    return bool(cfg.FEATURE_BANK) and not is_random(cfg)


class FeatureBank:
    """The features of one recipe.

    Args:
        encoder: computes what is missing; of its config FEATURE_BANK_DIR, OUTPUT_DIR, DATALOADER and
            INPUT are used.
        transform: of a Pillow image to [1, H, W]; its text is part of the recipe.

    """

    def __init__(self, encoder: FrozenEncoder, transform: Transform) -> None:
        self.cfg, self.encoder, self.transform = encoder.cfg, encoder, transform
        recipe = encoder.identity | {"transform": str(transform), "format": FORMAT}
        reading = reading_of(self.cfg)
        if reading != AS_DEFAULT:  # which banks had before there was another
            recipe |= asdict(reading)
        name = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = Path(self.cfg.FEATURE_BANK_DIR or Path(self.cfg.OUTPUT_DIR, "feature_bank"), name)
        mkdir_if_missing(self.folder)
        if not (self.folder / "recipe.json").exists():
            write_json(recipe, self.folder / "recipe.json")

    def features(self, data_source: list[Datum]) -> torch.Tensor:
        """Give the mean tokens [N, D], float32, of images: read where they are known, else computed and added."""
        known = self.read()
        hashes = [content_hash(item.impath) for item in data_source]
        missing = {digest: item for digest, item in zip(hashes, data_source, strict=True) if digest not in known}
        read = len(set(hashes) - set(missing))
        log.info(f"feature bank {self.folder}: {read:,} read, {len(missing):,} to compute")
        if missing:
            known |= self.compute(missing)
        return torch.stack([known[digest] for digest in hashes])

    def read(self) -> dict[str, torch.Tensor]:
        """Read all features [D] of the bank, by the images' hashes; files that are damaged are removed, with a line."""
        known: dict[str, torch.Tensor] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                content = path.read_bytes()
            except OSError as error:
                log.warning("%s cannot be read (%s): its features are computed again", path, error.strerror)
                continue
            if hashlib.sha256(content).hexdigest() != path.stem:
                log.warning("%s is damaged: its features are computed again", path)
                with suppress(OSError):  # it can stay: it is never used
                    path.unlink()
                continue
            tensors = load(content)
            rows = tensors["hashes"].numpy()
            known |= {row.tobytes().hex(): value for row, value in zip(rows, tensors["features"], strict=True)}
        return known

    def compute(self, missing: dict[str, Datum]) -> dict[str, torch.Tensor]:
        """Compute the features of images and add them to the bank."""
        workers = self.cfg.DATALOADER.NUM_WORKERS if len(missing) > WORTH_WORKERS else 0
        loader = DataLoader(
            DatasetWrapper(self.cfg, list(missing.values()), self.transform),
            batch_size=self.cfg.DATALOADER.TEST.BATCH_SIZE,
            num_workers=min(workers, available()),
            worker_init_fn=end_with_parent,
            generator=torch.Generator(),  # its own: what is drawn in training must not depend on what is missing
        )
        hashes = list(missing)
        computed: dict[str, torch.Tensor] = {}
        unsaved: dict[str, torch.Tensor] = {}
        for batch in Progress(loader, "features", len(missing)):
            features = self.encoder(batch["img"]).cpu()
            unsaved |= {hashes[index]: value for index, value in zip(batch["index"].tolist(), features, strict=True)}
            if len(unsaved) >= SAVED_TOGETHER:
                computed |= self.add(unsaved)
                unsaved = {}
        return computed | (self.add(unsaved) if unsaved else {})

    def add(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Write features as a new file, and return them.

        Raises:
            InputError: if it cannot be written.

        """
        hashes = torch.tensor([list(bytes.fromhex(digest)) for digest in features], dtype=torch.uint8)
        content = save({"hashes": hashes, "features": torch.stack(list(features.values()))})
        path = self.folder / f"{hashlib.sha256(content).hexdigest()}.safetensors"
        with refused_if_unwritable(path):
            write_bytes(path, content)
        return features


class FeatureView(Dataset[Batch]):
    """What `DatasetWrapper` gives, with an image's feature [D] as `img`; nothing is computed before the first is asked.

    Args:
        cfg: as for `DatasetWrapper`; the encoder has its own.
        data_source: the images.
        transform: see `FeatureBank`.
        is_train: as for `DatasetWrapper`; makes no difference.
        encoder: see `FeatureBank`.

    """

    def __init__(
        self,
        cfg: CfgNode,
        data_source: list[Datum],
        transform: Transform,
        is_train: bool = False,
        *,
        encoder: FrozenEncoder,
    ) -> None:
        self.data_source = data_source
        self.bank = FeatureBank(encoder, transform)

    @cached_property
    def features(self) -> torch.Tensor:
        """[N, D], float32."""
        return self.bank.features(self.data_source)

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, index: int) -> Batch:
        item = self.data_source[index]
        batch = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": index}
        return batch | {"img": self.features[index]}
