"""The one error that means "the user can mend this"."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """A bad option, file or data set: its text is one sentence that names it and says what to do."""


@contextmanager
def exit_on_input_error() -> Iterator[None]:
    """Turn an `InputError` into its sentence on stderr and exit code 2, as the stage scripts promise."""
    try:
        yield
    except InputError as error:
        print(f"error: {sentence(error)}", file=sys.stderr, flush=True)
        sys.exit(2)


def sentence(error: InputError) -> str:
    """The text of an error; of one from a DataLoader's worker, which arrives as a whole traceback, its last line."""
    last = str(error).rstrip().splitlines()[-1]
    return last.partition("Error: ")[2] if "Traceback (most recent call last)" in str(error) else str(error)
