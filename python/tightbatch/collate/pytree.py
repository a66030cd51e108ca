"""Batches as pytrees: containers that torch and JAX look into, where they take dicts.

Neither looks into a subclass of dict that it does not know. Neither is imported here: a class is
registered with what is imported already, whenever a batch is made.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from .shared import plain_type

_classes: list[type] = []
_lock = threading.RLock()
seen = 0  # how many there were when this was last looked at


def add(cls: type) -> None:
    """Make a class, derived from dict, a pytree; its batches become those of a plain class."""
    with _lock:
        _classes.append(cls)
        for name in [name for name in _registers if name not in waiting]:
            _registers[name](sys.modules[name], cls)


def register_imported() -> None:
    """Register all classes with what has been imported since."""
    global seen
    seen = len(sys.modules)
    for name in list(waiting):
        module = sys.modules.get(name)
        if module is None or not hasattr(module, _LAST[name]):
            seen -= module is not None  # not completely imported: look again
            continue
        with _lock:
            if waiting.pop(name, None):
                for cls in _classes:
                    _registers[name](module, cls)


def is_compiling() -> bool:
    """Tell whether torch.compile traces this; torch's own function, once torch is imported."""
    return False


def _register_with_torch(module: Any, cls: type) -> None:
    global is_compiling
    key_of, make = module.MappingKey, plain_type(cls)
    torch = sys.modules["torch"]
    is_compiling = torch.compiler.is_compiling

    def flatten(batch: Any) -> tuple[list[Any], Any]:
        return list(batch.values()), list(batch)

    def flatten_with_keys(batch: Any) -> tuple[list[tuple[Any, Any]], Any]:
        return [(key_of(key), value) for key, value in batch.items()], list(batch)

    def unflatten(values: Iterable[Any], keys: Any) -> Any:
        return make(zip(keys, values, strict=True))

    module.register_pytree_node(
        cls,
        flatten,
        unflatten,
        serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
        flatten_with_keys_fn=flatten_with_keys,
    )
    torch.serialization.add_safe_globals([cls])  # torch.load() and torch.export.load() read it


def _register_with_jax(module: Any, cls: type) -> None:
    key_of, make = module.DictKey, plain_type(cls)

    def flatten(batch: Any) -> tuple[list[Any], Any]:
        keys = _in_order(batch)
        return [batch[key] for key in keys], keys

    def flatten_with_keys(batch: Any) -> tuple[list[tuple[Any, Any]], Any]:
        keys = _in_order(batch)
        return [(key_of(key), batch[key]) for key in keys], keys

    def unflatten(keys: Any, values: Iterable[Any]) -> Any:
        return make(zip(keys, values, strict=True))

    module.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


def _in_order(batch: Any) -> tuple[Any, ...]:
    """Give the keys in one order for all batches, as JAX does it for dicts."""
    try:
        return tuple(sorted(batch))
    except TypeError:
        return tuple(batch)


_registers: dict[str, Callable[[Any, type], None]] = {
    "torch.utils._pytree": _register_with_torch,
    "jax.tree_util": _register_with_jax,
}
# What each module has once it is imported completely.
_LAST = {
    "torch.utils._pytree": "register_pytree_node",
    "jax.tree_util": "register_pytree_with_keys",
}
waiting = dict.fromkeys(_registers, True)
