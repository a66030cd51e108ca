"""What PadCollator makes of the columns of a batch: settled once for each set of keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .. import _core
from . import roles
from .columns import ColumnSettings, Extras, Links, Role, SettingsByKey

NAME = "PadCollator"
# What a setting says of a column: "described" is "concat" where its grid is there.
KINDS = {
    **dict.fromkeys(roles.DESCRIBED, "concat"),
    **dict.fromkeys(roles.DESCRIBED.values(), "described"),
}
GRIDS: dict[str, list[str]] = {}
for _grid, _image in roles.DESCRIBED.items():
    GRIDS.setdefault(_image, []).append(_grid)
ROWS = ("rows", "time_last", "positions_first")  # kinds of columns that have tokens or positions
NOT_MADE = ("listed", "kept", "nested")  # not by C
LENGTHS = "lengths"
MASK, POSITIONS = "attention_mask", "position_ids"
WIDTHS = ("width", "max_length", "pad_to_multiple_of", "boundaries")


class PlannedColumn(NamedTuple):
    """A column that is made in C: its key, its name in the batch, and what happens to it."""

    key: Any
    name: Any
    role: Role
    settings: ColumnSettings


class Plan(NamedTuple):
    """What is made of a batch with these keys and kinds of columns."""

    columns: list[PlannedColumn]
    names: list[Any]  # of the columns and the extras
    links: Links
    extras: Extras
    promote: str
    split: dict[int, str]  # columns of two dimensions that are padded over the second
    listed: dict[Any, Any]  # the names of the keys that become lists
    order: list[Any]  # the names in the order of the keys; the extras follow


@dataclass(frozen=True)
class Wishes:
    """The settings of a PadCollator that a plan follows."""

    named: SettingsByKey
    attention_mask: bool | None
    lengths: Mapping[Any, Any] | None  # keys to names; None: of the main column
    return_lengths: bool
    return_position_ids: bool
    rename: Mapping[Any, Any]

    def tells(self, key: Any) -> bool:
        """Tell whether a setting names the key, so that its rows are sequences."""
        options = (given for name, given in self.named.mappings.items() if "dtype" not in name)
        return (self.lengths is not None and key in self.lengths) or any(
            key in given for given in options
        )

    def of_part(self, kinds: Mapping[Any, str]) -> Wishes:
        """Give what can be asked of a part of a nested batch: other parts have the rest."""
        has_rows = any(kind in ROWS for kind in kinds.values())
        lengths = self.lengths
        if lengths is not None:
            lengths = {key: name for key, name in lengths.items() if key in kinds}
        return replace(
            self,
            attention_mask=self.attention_mask if has_rows else False,
            lengths=lengths,
            return_lengths=self.return_lengths and has_rows,
            return_position_ids=self.return_position_ids and has_rows,
        )

    @property
    def tells_of_all(self) -> bool:
        """Tell whether a setting for all columns is one of sequences."""
        return (
            self.attention_mask is True
            or (self.return_lengths and self.lengths is None)
            or self.return_position_ids
            or any(
                self.named.options[name] is not None and name not in self.named.mappings
                for name in WIDTHS
            )
        )


def plan_columns(wishes: Wishes, kinds: Mapping[Any, str], sample: Any) -> Plan:
    """Settle what is made of columns; ``sample`` is dict, a type of tuple, or None."""
    return _Planner(wishes, kinds, sample).plan()


class _Planner:
    def __init__(self, wishes: Wishes, kinds: Mapping[Any, str], sample: Any) -> None:
        self.wishes, self.kinds, self.sample = wishes, kinds, sample
        self.outputs = _rename(wishes.rename if sample is dict else {}, kinds)
        self.read = {key: roles.read_name(self.outputs[key]) for key in kinds}
        self.rows = [key for key, kind in kinds.items() if kind in ROWS]
        self.made = [key for key, kind in kinds.items() if kind not in (*NOT_MADE, "none")]
        self.mains = self._find_mains()
        self.first = self._find_first()

    def _find_mains(self) -> dict[tuple[str, str], Any]:
        """Give the column of tokens of each part, or else that of features."""
        mains: dict[tuple[str, str], Any] = {}
        for wanted in ("input_ids", "tokens", "features"):
            for key in self.rows:
                name = self.read[key]
                if wanted in (name.stem, name.meaning):
                    mains.setdefault(name.part, key)
        return dict(sorted(mains.items(), key=lambda item: item[0] != ("", "")))

    def _find_first(self) -> Any:
        """Give the index of the main column: -1 is the first of tokens, to be found in C.

        None is no column at all.
        """
        if self.mains:
            return self.made.index(next(iter(self.mains.values())))
        if self.sample is not dict and not hasattr(self.sample, "_fields") and self.rows:
            return self.made.index(self.rows[0])
        named = [key for key in self.rows if self.read[key].meaning not in roles.OPEN]
        if len(named) < len(self.rows):
            return -1
        no_labels = [key for key in named if self.read[key].meaning != "labels"]
        return self.made.index((no_labels or named)[0]) if named else None

    def plan(self) -> Plan:
        columns = [self._plan_column(key) for key in self.made]
        extras = [*self._masks(), *self._lengths(), *self._positions()]
        names = [column.name for column in columns] + [name for name, _, _ in extras]
        links = tuple(
            (i, self.made.index(self.mains[self.read[key].part]))
            for i, key in enumerate(self.made)
            if self.kinds[key] == "rows" and self._is_per_token(key)
        )
        return Plan(
            columns,
            names,
            links,
            tuple((kind, index) for _, kind, index in extras),
            "none" if self.first != -1 else "rows" if self.wishes.tells_of_all else "vectors",
            {i: self.kinds[key] for i, key in enumerate(self.made) if self.kinds[key] in ROWS[1:]},
            {key: self.outputs[key] for key, kind in self.kinds.items() if kind in NOT_MADE},
            [self.outputs[key] for key, kind in self.kinds.items() if kind != "none"],
        )

    def _is_per_token(self, key: Any) -> bool:
        name = self.read[key]
        main = self.mains.get(name.part)
        return (
            name.meaning in roles.PER_TOKEN
            and main is not None
            and self.read[main].meaning == "tokens"
        )

    def _plan_column(self, key: Any) -> PlannedColumn:
        name = self.outputs[key]
        named, kind = self.wishes.named, self.kinds[key]
        role = self._role(key, kind)
        main = self._main_of(key)
        settings = named[name]
        if main is not None and main != key:
            settings = self._as_main(key, main, settings)
        if self._is_labels(key):
            settings = self._as_labels(key, settings)
        elif role == "loose" and self._has_tokens():
            settings = self._beside_tokens(key, settings)
        return PlannedColumn(key, name, role, settings)

    def _is_labels(self, key: Any) -> bool:
        if self.outputs[key] in roles.LABELS_BESIDE_TOKENS:
            return self._has_tokens()
        return self.read[key].meaning == "labels"

    def _as_labels(self, key: Any, settings: ColumnSettings) -> ColumnSettings:
        """Let -100 fill class ids, and nothing fill floats: no loss ignores it there."""
        given = self.wishes.named.mappings.get("padding_value")
        if given is not None and self.outputs[key] in given:
            return settings
        return settings._replace(padding_value=roles.FILLS["labels"], float_padding_value=False)

    def _beside_tokens(self, key: Any, settings: ColumnSettings) -> ColumnSettings:
        """Let a column that is no tokens' by its name not have their padding."""
        if "padding_value" in self.wishes.named.mappings:
            return settings
        is_known = self.read[key].meaning is not None or settings.padding_value == 0
        known = settings.padding_value if is_known else None
        return settings._replace(padding_value=known, float_padding_value=0)

    def _has_tokens(self) -> bool:
        return any(self.read[key].meaning == "tokens" for key in self.mains.values())

    def _role(self, key: Any, kind: str) -> Role:
        if kind in ("number", "stack", "concat"):
            return "numbers" if kind == "number" else kind  # type: ignore[return-value]
        meaning = self.read[key].meaning
        if self.wishes.tells(self.outputs[key]):
            return "rows"
        if meaning == "image":
            return "stack"
        if self._is_labels(key):
            return "labels"
        is_first = isinstance(self.first, int) and self.first >= 0 and self.made[self.first] == key
        return "loose" if meaning in roles.OPEN and not is_first else "sequence"

    def _main_of(self, key: Any) -> Any:
        """Give the column that this one is padded like: that of its part, or which it chooses."""
        name = self.read[key]
        if name.meaning in (None, "tokens", "features", "image", "grid", "segments"):
            return None
        part = name.part
        if part not in self.mains and name.before in roles.CHOICES:
            part = ("", name.after)
        return self.mains.get(part)

    def _as_main(self, key: Any, main: Any, settings: ColumnSettings) -> ColumnSettings:
        """Take the settings that only the main column has from it."""
        named, name = self.wishes.named, self.outputs[key]
        of_main = named[self.outputs[main]]
        labels = self.read[key].meaning == "labels"
        taken = {
            option: getattr(of_main, option)
            for option in (("padding_side",) if labels else (*WIDTHS, "padding_side"))
            if option in named.mappings and name not in named.mappings[option]
        }
        return settings._replace(**taken)

    # --- extras: name, kind, index of the column ---

    def _masks(self) -> Iterable[tuple[Any, str, int]]:
        wanted = self.wishes.attention_mask
        if wanted and self.first is None:
            raise no_rows("attention_mask")
        if wanted is False or self.first is None or (wanted is None and self.sample is not dict):
            return
        if self.sample is not dict:
            yield MASK, "mask", self.first
            return
        there = {name.part for name in self.read.values() if name.meaning in roles.MASKS}
        there |= {name.part for name in self.read.values() if name.stem in ("mask", "masks")}
        plain = any(
            name.meaning in roles.MASKS and name.part == ("", "") for name in self.read.values()
        )
        if not self.mains and ("", "") not in there:
            yield MASK, "mask", self.first
        for place, (part, key) in enumerate(self.mains.items()):
            if part not in there and not (place == 0 and plain):
                yield self.read[key].sibling(MASK), "mask", self.made.index(key)

    def _lengths(self) -> Iterable[tuple[Any, str, int]]:
        if not self.wishes.return_lengths:
            return
        if self.wishes.lengths is None:
            if self.first is None:
                raise no_rows("return_lengths")
            yield self._new(LENGTHS, "return_lengths"), "lengths", self.first
            return
        by_name = {name: key for key, name in self.outputs.items()}
        for key, name in self.wishes.lengths.items():
            source = key if key in self.kinds else by_name.get(key)
            if source not in self.made or self.kinds[source] not in (*ROWS, "concat"):
                raise ValueError(
                    f"{NAME}(): return_lengths= names the key {_core.show(key)}, but the samples "
                    f"have {_core.show(list(self.kinds))}; expected keys of columns of rows"
                )
            yield self._new(name, "return_lengths"), "lengths", self.made.index(source)

    def _positions(self) -> Iterable[tuple[Any, str, int]]:
        if not self.wishes.return_position_ids or self.first is None:
            return
        if self.sample is not dict or not self.mains:
            if not any(name.meaning == "positions" for name in self.read.values()):
                yield POSITIONS, "positions", self.first
            return
        there = {name.part for name in self.read.values() if name.meaning == "positions"}
        for part, key in self.mains.items():
            if part not in there:
                yield self.read[key].sibling(POSITIONS), "positions", self.made.index(key)

    def _new(self, name: Any, setting: str) -> Any:
        if self.sample is dict and name in self.outputs.values():
            raise ValueError(
                f"{NAME}(): {setting}= adds {_core.show(name)}, but the samples have a key "
                f"{_core.show(name)} already"
            )
        return name if self.sample is dict else (LENGTHS, name)


def no_rows(setting: str) -> ValueError:
    return ValueError(f"{NAME}(): {setting}=True, but no column holds rows of tokens; expected one")


def _rename(rename: Mapping[Any, Any], keys: Iterable[Any]) -> dict[Any, Any]:
    """Give the names of keys in the batch; a name that is taken already renames nothing."""
    names = {key: key for key in keys}
    taken = set(names)
    for old, new in rename.items():
        if old in names and new not in taken:
            names[old] = new
            taken.add(new)
    return names


def with_renamed(options: Mapping[str, Any], rename: Mapping[Any, Any]) -> dict[str, Any]:
    """Let settings of a key be those of its new name too."""
    done = dict(options)
    for name, given in options.items():
        if isinstance(given, Mapping):
            more = {new: given[old] for old, new in rename.items() if old in given}
            done[name] = {**more, **given}
    return done
