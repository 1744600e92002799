"""What can be predicted: the targets by name, without PyTorch, so that options can name them.

A new target is one class (see `target`) and one line here: where the class is, and what it is made with.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hivit_mae.models.targets.target import Target

DEFAULT = "mgf"
TARGETS: dict[str, tuple[Any, ...]] = {
    "pixel": ("targets.plain:Pixel",),
    "lowpass": ("targets.plain:LowPass",),
    "hog": ("targets.histogram:Hog",),
    "sar_hog": ("targets.histogram:SarHog",),
    DEFAULT: ("gradient_feature:GradientFeature",),
    "sar_jepa": ("gradient_feature:SarJepa",),
    "pixel_v2": ("targets.scales:StandardPixel",),
    "s1": ("targets.scales:Scale", 1),
    "s2": ("targets.scales:Scale", 3),
    "s3": ("targets.scales:Scale", 5),
    "s4": ("targets.scales:Scale", 9),
    "s5": ("targets.scales:Scale", 13),
    "s6": ("targets.scales:Scale", 17),
    "fused": ("targets.scales:Fused",),
    "fused_frozen": ("targets.scales:Fused", False),
}


def make_target(name: str) -> "Target":
    """Make a target of `TARGETS`."""
    where, *arguments = TARGETS[name]
    target: Target = resolve_name(f"hivit_mae.models.{where}")(*arguments)
    return target
