"""Prepare images to pre-train on: see which sets there are, build a set without copies and leaks, audit any set.

    python prepare_data.py list --root DIR
    python prepare_data.py build SOURCE [SOURCE ...] --output_dir DIR --keep_out DIR [DIR ...]
    python prepare_data.py audit DIR
After a crash, the same command goes on where it was.
"""

import sys

from hivit_mae.prepare.options import AuditOptions, BuildOptions, parse_options
from saratrx.errors import exit_on_input_error


def main() -> None:
    """Do what the first word says."""
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__)
        return
    options = parse_options(sys.argv[1:])
    if isinstance(options, BuildOptions):
        from hivit_mae.prepare.build import build  # noqa: PLC0415 -- a wrong option has been told by now

        build(options)
    elif isinstance(options, AuditOptions):
        from hivit_mae.prepare.audit import audit  # noqa: PLC0415

        audit(options)
    else:
        from hivit_mae.prepare.recipes import list_sets  # noqa: PLC0415

        list_sets(options.root)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
