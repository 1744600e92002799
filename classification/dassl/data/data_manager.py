"""From a data set to loaders."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

from dassl.data.datasets import Datum, build_dataset
from dassl.data.datasets.base_dataset import centre_crop_of
from dassl.data.samplers import build_sampler
from dassl.data.transforms import build_transform
from dassl.data.transforms.transforms import Transform
from dassl.utils import read_image, reading_of
from saratrx.errors import InputError
from saratrx.loader_workers import end_with_parent
from saratrx.reporting import get_logger

log = get_logger(__name__)
Batch = dict[str, Any]
Wrapper = Callable[..., Dataset[Batch]]  # called as `DatasetWrapper` is

# Augmentation depends on the number of workers, so that it must not follow from the number of cores
warnings.filterwarnings("ignore", message="This DataLoader will create .* worker processes")


class DatasetWrapper(Dataset[Batch]):
    """Dicts of `img`, `label`, `domain`, `impath` and `index` for a list of images.

    With several transforms, or K_TRANSFORMS, there are `img2`, `img3`, ... as well.

    Args:
        cfg: DATALOADER, and INPUT.REMAP and INPUT.CHANNEL, are used.
        data_source: the images.
        transform: of a Pillow image, or a list of several.
        is_train: K_TRANSFORMS holds for training only.

    Raises:
        InputError: for RETURN_IMG0, which only trainers that are not here need, or several views without transform.

    """

    def __init__(
        self,
        cfg: CfgNode,
        data_source: list[Datum],
        transform: Transform | list[Transform] | None = None,
        is_train: bool = False,
    ) -> None:
        self.data_source, self.reading = data_source, reading_of(cfg)
        if cfg.DATALOADER.RETURN_IMG0:
            raise InputError("DATALOADER.RETURN_IMG0 True: there is no untransformed image in a batch")
        several = transform if isinstance(transform, (list, tuple)) else [transform]
        self.transforms = list(several) * (cfg.DATALOADER.K_TRANSFORMS if is_train and len(several) == 1 else 1)
        if len(self.transforms) > 1 and None in self.transforms:
            raise InputError("DATALOADER.K_TRANSFORMS needs a transform, and INPUT.NO_TRANSFORM leaves none")

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, index: int) -> Batch:
        item = self.data_source[index]
        batch: Batch = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": index}
        image = read_image(item.impath, self.reading)
        for place, transform in enumerate(self.transforms):
            batch["img" if place == 0 else f"img{place + 1}"] = image if transform is None else transform(image)
        return batch


def build_data_loader(
    cfg: CfgNode,
    sampler_type: str = "SequentialSampler",
    data_source: list[Datum] | None = None,
    batch_size: int = 64,
    tfm: Transform | list[Transform] | None = None,
    is_train: bool = True,
    dataset_wrapper: Wrapper | None = None,
) -> DataLoader[Any]:
    """Make a loader of batches; training leaves an incomplete batch out if there is a full one.

    Raises:
        InputError: for a sampler that does not exist, or without images.

    """
    if not data_source:
        raise InputError(f"data set {cfg.DATASET.NAME}: a loader was asked for a part without images")
    wrap: Wrapper = dataset_wrapper or DatasetWrapper
    dataset = wrap(cfg, data_source, transform=tfm, is_train=is_train)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=build_sampler(sampler_type, cfg, data_source, batch_size),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        drop_last=is_train and len(data_source) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
        worker_init_fn=end_with_parent,
    )


class DataManager:
    """The data set of a config, its loaders, and what a trainer asks of them.

    Args:
        cfg: DATASET, DATALOADER and INPUT are used.
        custom_tfm_train: training transform instead of INPUT's.
        custom_tfm_test: test transform instead of INPUT's.
        dataset_wrapper: class, or what makes its objects, to be used instead of `DatasetWrapper`.

    Attributes:
        centre_crop: side in pixels of what is cut from the middle of each image, 0 for all of it.

    """

    def __init__(
        self,
        cfg: CfgNode,
        custom_tfm_train: Transform | list[Transform] | None = None,
        custom_tfm_test: Transform | None = None,
        dataset_wrapper: Wrapper | None = None,
    ) -> None:
        dataset = build_dataset(cfg)
        crop = self.centre_crop = centre_crop_of(cfg, dataset)
        tfm_train = custom_tfm_train or build_transform(cfg, is_train=True, centre_crop=crop)
        tfm_test = custom_tfm_test or build_transform(cfg, is_train=False, centre_crop=crop)
        options = cfg.DATALOADER
        unlabeled = options.TRAIN_X if options.TRAIN_U.SAME_AS_X else options.TRAIN_U

        def loader(part: list[Datum] | None, section: CfgNode, is_train: bool) -> DataLoader[Any] | None:
            if not part:
                return None
            tfm = tfm_train if is_train else tfm_test
            return build_data_loader(cfg, section.SAMPLER, part, section.BATCH_SIZE, tfm, is_train, dataset_wrapper)

        self.train_loader_x = loader(dataset.train_x, options.TRAIN_X, is_train=True)
        self.train_loader_u = loader(dataset.train_u, unlabeled, is_train=True)
        self.val_loader = loader(dataset.val, options.TEST, is_train=False)
        self.test_loader = loader(dataset.test, options.TEST, is_train=False)
        self.dataset, self.tfm_train, self.tfm_test = dataset, tfm_train, tfm_test
        self.num_classes, self.lab2cname = dataset.num_classes, dataset.lab2cname
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    def show_dataset_summary(self, cfg: CfgNode) -> None:
        """Print how many images of how many classes there are in each part."""
        dataset = self.dataset
        log.info("data set %s: %s classes in training", cfg.DATASET.NAME, self.num_classes)
        for name in ("train_x", "train_u", "val", "test"):
            part = getattr(dataset, name)
            if part:
                log.info(f"  {name:8}{len(part):,} images of {len({item.label for item in part})} classes")
