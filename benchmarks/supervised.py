"""What a network of timm learns from a few labelled chips alone, with random weights at the start."""

import math

import timm
import torch
from torch.nn import functional as F

from hivit_mae.run.precision import resolve_amp

STEPS = 200
BATCH = 50
RATE, DECAY = 1e-3, 0.05
LARGEST_SHIFT = 4  # px


def learn_from_shots(
    name: str, seen: torch.Tensor, labels: torch.Tensor, asked: torch.Tensor, seed: int
) -> torch.Tensor:
    """Train on few images, flipped and shifted, and classify others.

    Args:
        name: network of timm.
        seen: uint8 [N, 1, S, S].
        labels: [N], 0 to C - 1.
        asked: uint8 [M, 1, S, S].
        seed: of weights and augmentation.

    Returns:
        Classes [M].

    """
    is_fast = resolve_amp("auto", torch.device("cpu"))[0] == "bf16"
    torch.manual_seed(seed)
    side = {"img_size": seen.shape[-1]} if name.startswith("vit") else {}
    model = timm.create_model(name, in_chans=1, num_classes=int(labels.max()) + 1, **side)
    images, others = ((part.float() / 255 - 0.25) / 0.2 for part in (seen, asked))  # about 0 and 1 on MSTAR's middles
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / STEPS)))
    for _ in range(STEPS):
        chosen = torch.randint(len(images), (BATCH,))
        with torch.autocast("cpu", torch.bfloat16, enabled=is_fast):
            logits = model(augmented(images[chosen]))
        loss = F.cross_entropy(logits.float(), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        return torch.cat([model(batch).argmax(dim=1) for batch in others.split(256)])


def augmented(images: torch.Tensor) -> torch.Tensor:
    """Flip half of the images left to right and shift each by up to 4 px either way, edges repeated: [B, 1, S, S]."""
    batch, size = len(images), images.shape[-1]
    flip = torch.rand(batch, 1, 1, 1) < 0.5
    padded = F.pad(torch.where(flip, images.flip(3), images), [LARGEST_SHIFT] * 4, mode="replicate")
    windows = padded.unfold(2, size, 1).unfold(3, size, 1)[:, 0]  # B, shifts, shifts, S, S
    top, left = torch.randint(2 * LARGEST_SHIFT + 1, (2, batch))
    return windows[torch.arange(batch), top, left][:, None]
