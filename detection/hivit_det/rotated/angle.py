"""How a head tells the angle of a box."""

import torch
from mmdet.models.task_modules.coders import BaseBBoxCoder
from mmdet.registry import TASK_UTILS


@TASK_UTILS.register_module()
class DoubleAngle(BaseBBoxCoder):
    """An angle as the cosine and sine of its double, which are the same for a box turned by half a turn."""

    encode_size = 2

    def encode(self, angles: torch.Tensor) -> torch.Tensor:
        """Angles [..., 1] in radians -> [..., 2]."""
        return torch.cat([(2 * angles).cos(), (2 * angles).sin()], dim=-1)

    def decode(self, pairs: torch.Tensor, keepdim: bool = False) -> torch.Tensor:
        """[..., 2], of any length -> angles in [-pi / 2, pi / 2], [..., 1] with `keepdim` or else [...]."""
        cosine, sine = pairs.chunk(2, dim=-1)
        angles = torch.atan2(sine, cosine) / 2
        return angles if keepdim else angles.squeeze(-1)
