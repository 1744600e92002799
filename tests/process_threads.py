"""The threads of a process."""

from pathlib import Path


def check_groups_ended():
    """See that no thread of Gloo's is left: one that works while Python ends aborts the process."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    assert "pt_gloo_runloop" not in names, f"threads of Gloo are left: {names}"
