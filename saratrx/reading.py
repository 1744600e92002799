"""How a run reads its images: by which remap, and which of several channels."""

from dataclasses import dataclass
from pathlib import Path

from saratrx import sar_image
from saratrx.grey_scale import REMAPS, Grey, Remap


@dataclass(frozen=True)
class Reading:
    """How images are read; see `sar_image.read`.

    Args:
        remap: how values of more than 8 bits become grey, see `grey_scale.GreyScale`.
        channel: name or number, from 0, of the one to use of several; or "span"; None where there is only one.

    """

    remap: Remap = REMAPS[0]
    channel: str | None = None

    def __str__(self) -> str:
        return f"remap {self.remap}" + (f", channel {self.channel}" if self.channel else "")

    def read(self, path: str | Path) -> Grey:
        """Read an image file to uint8 [H, W]; raises ImageError."""
        return sar_image.read(path, remap=self.remap, channel=self.channel)

    def decode(self, name: str, content: bytes) -> Grey:
        """Decode the content of an image file to uint8 [H, W]; raises ImageError."""
        return sar_image.decode(name, content, remap=self.remap, channel=self.channel)


AS_DEFAULT = Reading()
