"""Steps whose loss is not finite: skipped on the device without waiting for it, counted, and their images named."""

import torch
from torch.optim import Optimizer


class NonFiniteLossError(Exception):
    """The loss was not finite in too many steps in a row; `images` are those of the last such batch."""

    def __init__(self, text: str, images: list[str]) -> None:
        super().__init__(text)
        self.images = images


class NonFiniteGuard:
    """Counts on the device; `read` waits for it.

    A step is judged by the norm of its gradient, which every process knows alike: one bad loss spoils the average. With
    float16's scaler, which skips steps of its own as it seeks its scale, it is judged by the process's own loss.

    Args:
        device: of the loss.
        uses_scaler: whether the scaler is used.
        skipped: steps that the run skipped before.

    """

    def __init__(self, device: torch.device, uses_scaler: bool, skipped: int = 0) -> None:
        self.uses_scaler = uses_scaler
        # in a row now, most in a row since the last reading, all, last step whose own loss was not finite
        self.counts = torch.tensor([0, 0, skipped, -1], device=device)
        self.images: dict[int, torch.Tensor] = {}  # of the steps since the last reading: [images]

    def note_images(self, step: int, indices: torch.Tensor) -> None:
        """Remember the images of a batch of a step, indices [B] on the CPU, until the next reading."""
        seen = self.images.get(step)
        self.images[step] = indices if seen is None else torch.cat([seen, indices])

    @torch.no_grad()
    def judge(self, step: int, loss: torch.Tensor, grad_norm: torch.Tensor, optimizer: Optimizer) -> None:
        """Let the optimizer, a fused AdamW, skip its next step if it is bad; all are device scalars."""
        own_is_bad = ~loss.isfinite()
        is_bad = own_is_bad if self.uses_scaler else ~grad_norm.isfinite()
        if not self.uses_scaler:
            setattr(optimizer, "found_inf", is_bad.float())  # noqa: B010 -- read by fused AdamW, declared nowhere
        in_row, most, total, last = self.counts.unbind()
        in_row.add_(1).mul_(is_bad)
        torch.maximum(most, in_row, out=most)
        total.add_(is_bad)
        last.copy_(torch.where(own_is_bad, step, last))

    def read(self) -> tuple[int, int, list[int]]:
        """Most bad steps in a row since the last reading, all since the start, indices of the last bad batch's images.

        If no loss of this process was bad, the images are those of its last step, whose gradient was.
        """
        in_row, most, total, last = self.counts.tolist()
        images = self.images.get(last, next(reversed(self.images.values()), torch.empty(0)))
        self.counts[1], self.counts[3] = in_row, -1
        self.images.clear()
        return most, total, images.tolist()
