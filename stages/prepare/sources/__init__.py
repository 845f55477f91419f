"""Data sources: a module for each, with the name that `dataset.source` selects.

Its settings are a class of `stages.prepare.settings`. The module has

    labels(settings) -> Labels                    what stands in the masks
    check(settings)                               raises UserError for a mistake that shows before
                                                  all pictures are decoded
    files(settings) -> Iterable[Path]             what it reads; when none has changed, neither have
                                                  the pictures
    examples(settings, seed) -> {split: examples} an iterable of `Example` for each split, always in
                                                  the same order

A module in this folder is a source; there is no list to add it to. Folders in it are rooms of one.
"""

import pkgutil
from importlib import import_module
from types import ModuleType

SOURCES: dict[str, ModuleType] = {
    module.name: import_module(f"{__name__}.{module.name}")
    for module in pkgutil.iter_modules(__path__)
    if not module.ispkg
}
