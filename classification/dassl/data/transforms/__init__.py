"""From a Pillow image to the model's input."""

from dassl.data.transforms.transforms import INTERPOLATION_MODES as INTERPOLATION_MODES
from dassl.data.transforms.transforms import build_transform as build_transform
from dassl.data.transforms.transforms import is_random as is_random
