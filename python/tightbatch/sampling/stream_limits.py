"""What a sample of a stream is read for: its length, or two, and what it costs by each limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

from .. import _core
from .limits import Limit, read_limits_by
from .stream_source import NAME

__all__ = ["Getters", "cost_getter", "read_length", "read_stream_limits", "say_missing"]


class Getters(tuple[Callable[[Any], Any], ...]):
    """Functions of a sample, called one after another."""

    def __call__(self, sample: Any) -> tuple[Any, ...]:
        """Give what each of them gives."""
        return tuple([get(sample) for get in self])


def _getter(given: Any) -> Callable[[Any], Any] | None:
    """Give the function that a key or a function stands for."""
    if isinstance(given, str):
        return itemgetter(given)
    return given if callable(given) else None


def _getters(given: tuple[Any, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Give one function for several keys or functions."""
    if len(given) > 1 and all(isinstance(one, str) for one in given):
        return itemgetter(*given)
    return Getters(map(_getter, given))  # type: ignore[arg-type]


def read_length(length: Any) -> Callable[[Any], Any] | None:
    """Read ``length=``: what gives one length or two; None where a sample must say."""
    if isinstance(length, tuple | list):
        if len(length) == 2 and all(_getter(side) is not None for side in length):
            return _getters(tuple(length))
        raise TypeError(
            f"{NAME}(): length={_core.describe(length)}; expected two keys or functions, for "
            "source and target"
        )
    if length is None or callable(length) or isinstance(length, str):
        return itemgetter(length) if isinstance(length, str) else None
    raise TypeError(
        f"{NAME}(): length={_core.describe(length)}; expected a key, a function, two of them or "
        "None"
    )


def read_stream_limits(limits: Any) -> dict[str, Limit]:
    """Read ``limits=`` of a stream, whose costs are keys or functions."""

    def read_costs(where: str, costs: Any) -> Any:
        if _getter(costs) is None:
            raise TypeError(
                f"{NAME}(): costs of {where}={_core.describe(costs)}; expected a key or a function "
                "of the sample, as the samples of a stream are not known before"
            )
        return costs

    return read_limits_by(NAME, limits, read_costs)


def as_stream_settings(limits: Mapping[str, Limit]) -> tuple[Any, ...]:
    """Give limits as the core takes them: costs come with the samples."""
    return tuple((name, None, None, cap, padded) for name, (_, cap, padded) in limits.items())


def cost_getter(limits: Mapping[str, Limit]) -> Callable[[Any], tuple[Any, ...]] | None:
    """Give the function that tells what a sample costs by each limit."""
    return _getters(tuple(limit.costs for limit in limits.values())) if limits else None


def say_missing(
    sample: Any, row: int, key: Any, limits: Mapping[str, Limit] | None
) -> tuple[type[Exception], str] | None:
    """Tell which key a sample lacks: one of its lengths, or of the costs of a limit."""
    keys = list(key) if isinstance(key, tuple | list) else [key]
    wanted = [("as length=", one) for one in keys]
    wanted += [(f"in limits[{name!r}]", limit.costs) for name, limit in (limits or {}).items()]
    for where, one in wanted:
        if not isinstance(one, str):
            continue
        try:
            sample[one]
        except (KeyError, TypeError) as error:
            return type(error), (
                f"{NAME}(): row {row}: found {type(sample).__name__} without {_core.show(one)}; "
                f"expected it in every sample, or a function {where}"
            )
        except Exception:
            return None
    return None
