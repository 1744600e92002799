"""Names to classes."""

from collections.abc import Callable
from typing import Any

from saratrx.errors import InputError
from saratrx.reporting import get_logger

log = get_logger(__name__)
OWN, USERS = ("hivit_cls.",), ("user_datasets", "user_trainers")  # how names of modules begin


def is_of(beginnings: tuple[str, ...], obj: Any) -> bool:
    """Tell whether the module that an object comes from has such a name."""
    return str(getattr(obj, "__module__", "")).startswith(beginnings)


class Registry:
    """What can be named in the config.

    For example:
        TRAINERS = Registry("TRAINER")

        @TRAINERS.register()
        class MyTrainer: ...

        TRAINERS.get("MyTrainer")

    Args:
        name: what is registered, for messages.

    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.objects: dict[str, Any] = {}

    def register(self, obj: Any = None, force: bool = False) -> Any:
        """Register a class or function under its own name: as a decorator with parentheses, or called with it.

        What a user's file registers stands in for what this stage has under that name, whichever comes first.

        Raises:
            KeyError: if the name is taken, unless `force`.

        """
        if obj is None:
            return self._decorator(force)
        known = self.objects.get(obj.__name__)
        if known is not None and is_of(OWN, obj) and is_of(USERS, known):
            return obj
        if known is not None and is_of(OWN, known) and is_of(USERS, obj):
            log.info('%s "%s": that of %s stands in for this stage\'s', self.name, obj.__name__, obj.__module__)
        elif known is not None and not force:
            raise KeyError(f'"{obj.__name__}" is registered as {self.name} already')
        self.objects[obj.__name__] = obj
        return obj

    def _decorator(self, force: bool) -> Callable[[Any], Any]:
        return lambda obj: self.register(obj, force)

    def get(self, name: str) -> Any:
        """Give what was registered under a name.

        Raises:
            InputError: with the names that there are.

        """
        if name not in self.objects:
            choices = ", ".join(self.registered_names()) or "none, since nothing is registered"
            raise InputError(f'{self.name} "{name}": unknown; choose one of {choices}')
        return self.objects[name]

    def registered_names(self) -> list[str]:
        """List all names, in order of registration."""
        return list(self.objects)
