"""Names of files and folders, which need be no Unicode, as text that can be shown anywhere."""

import os


def readable(name: str) -> str:
    r"""Give a name with escapes, such as \xd3, for bytes that are no UTF-8 and for what cannot be printed."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
