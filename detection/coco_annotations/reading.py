"""The two options of how images become grey, for commands with a config, which says it too."""

from typing import Any

from saratrx.command_line import option


def remap_option() -> Any:
    """Declare the option `remap: Remap | None`, see `saratrx.grey_scale.GreyScale`."""
    said = "how amplitudes of more than 8 bits become grey; 8-bit files stay as they are"
    return option(None, help=said, default_text="the config's, else percentile")


def channel_option() -> Any:
    """Declare the option `channel: str | None`, see `saratrx.sar_files.SarImage.read`."""
    said = "the one to use of several: its name, its number from 0, or all of them as one: span, or max"
    return option(None, metavar="NAME", help=said, default_text="the config's, else the only one")


def given(options: Any) -> dict[str, Any]:
    """Give `remap` and `channel` of a command's options, where they were given."""
    return {name: value for name in ("remap", "channel") if (value := getattr(options, name)) is not None}
