"""Trainers. Every module here is imported; those that users add lie beside train.py, see `hivit_cls.plugins`."""

from importlib import import_module
from pkgutil import iter_modules

for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")
