"""Running means of what a trainer reports."""

from collections import defaultdict
from collections.abc import Mapping

import torch


class AverageMeter:
    """The last value and the mean of all, or with `ema` their exponential moving average (0.9 of it is kept)."""

    def __init__(self, ema: bool = False) -> None:
        self.ema = ema
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.val = self.avg = self.sum = 0.0
        self.count = 0

    def update(self, val: float | torch.Tensor, n: int = 1) -> None:
        """Add a value that stands for `n` samples."""
        self.val = val.item() if isinstance(val, torch.Tensor) else val
        self.sum += self.val * n
        self.count += n
        self.avg = 0.9 * self.avg + 0.1 * self.val if self.ema and self.count > n else self.sum / self.count


class MetricMeter:
    """An `AverageMeter` per name; as text: `name last (mean)`, joined by the delimiter."""

    def __init__(self, delimiter: str = " ") -> None:
        self.delimiter = delimiter
        self.meters: defaultdict[str, AverageMeter] = defaultdict(AverageMeter)

    def update(self, input_dict: Mapping[str, float | torch.Tensor] | None) -> None:
        """Add one value for each name.

        Raises:
            TypeError: for anything but a dict of numbers.

        """
        if input_dict is None:
            return
        if not isinstance(input_dict, Mapping):
            raise TypeError(f"forward_backward must return a dict of numbers, not a {type(input_dict).__name__}")
        for name, value in input_dict.items():
            self.meters[name].update(value)

    def __str__(self) -> str:
        return self.delimiter.join(f"{name} {meter.val:.4f} ({meter.avg:.4f})" for name, meter in self.meters.items())
