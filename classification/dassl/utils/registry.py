"""Names to classes."""

from collections.abc import Callable
from typing import Any

from saratrx.errors import InputError


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

        Raises:
            KeyError: if the name is taken, unless `force`.

        """
        if obj is None:
            return self._decorator(force)
        if obj.__name__ in self.objects and not force:
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
