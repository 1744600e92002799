"""The one error that means "the user can fix this", and how a command ends on it, or on Ctrl-C."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class InputError(Exception):
    """A bad option, file or data set: its text is one sentence that names it and says what to do."""


class SeveralInputErrors(InputError):  # noqa: N818 -- one error that holds several
    """Several mistakes, told together: one line each."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("\nerror: ".join(sentences))
        self.sentences = sentences


def raise_problems(sentences: list[str]) -> None:
    """Raise `SeveralInputErrors` if there is any sentence."""
    if sentences:
        raise SeveralInputErrors(sentences)


LONGEST_REASON = 300  # characters; a damaged file's error may quote all of it
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
INTERRUPTED = 130  # the shell's exit code for SIGINT
INTERRUPTED_LINE = "interrupted: what was finished is kept"


@contextmanager
def exit_on_input_error() -> Iterator[None]:
    """End a command without a traceback: an `InputError` is its sentence and exit code 2, Ctrl-C one line and 130.

    A full disk, wherever it is noticed, is an input error too.
    """
    try:
        yield
    except InputError as error:
        print(f"error: {sentence(error)}", file=sys.stderr, flush=True)
        sys.exit(2)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        if sys.stdout is sys.__stdout__:  # it may be what is full: nothing is left to be written when Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        where = error.filename or "what this command tells"
        print(f"error: {where} cannot be written: {first_line(error)}; make room", file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        print(INTERRUPTED_LINE, file=sys.stderr, flush=True)
        sys.exit(INTERRUPTED)


@contextmanager
def interrupt_ends_at_once() -> Iterator[None]:
    """End the process on Ctrl-C without unwinding it, while libraries are imported.

    Interrupted half-way, PyTorch's imports turn a KeyboardInterrupt into errors of any kind. Where SIGINT has another
    meaning already, as for a job in the background, it keeps that.
    """

    def end(*_: object) -> NoReturn:
        print(INTERRUPTED_LINE, file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def sentence(error: InputError) -> str:
    """Give the text of an error; of a whole traceback, as it comes from a DataLoader's worker, the last line."""
    last = str(error).rstrip().splitlines()[-1]
    return last.partition("Error: ")[2] if "Traceback (most recent call last)" in str(error) else str(error)


def first_line(error: BaseException) -> str:
    """Say in one line why something failed: the system's reason, else the first line of the text, else the type."""
    reason = error.strerror if isinstance(error, OSError) else None
    return (reason or (str(error).splitlines() or [type(error).__name__])[0])[:LONGEST_REASON]
