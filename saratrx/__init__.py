"""What every stage of SARATR-X shares: the HiViT encoder, its checkpoints, and SAR image reading."""

from saratrx import hivit as hivit  # importing it registers the encoders with timm

__version__ = "0.1.0"
