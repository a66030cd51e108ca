"""What each column of a batch is for, by its name, and which columns belong together."""

from __future__ import annotations

import functools
import re
from enum import IntEnum
from typing import NamedTuple

from .roles import Meaning, read_name

__all__ = ["Group", "Role", "groups_of", "lend"]


class Role(IntEnum):
    """What a column is for; the numbers are those of tb_role in core/check/check.h."""

    IDS = 0
    EMBEDS = 1
    MASK = 2
    POSITIONS = 3
    BOUNDARIES = 4
    PADDED_BOUNDARIES = 5
    LONGEST = 6
    SEQ_IDX = 7
    SEGMENT_IDS = 8
    SEQ_LENGTHS = 9
    LENGTHS = 10
    LABELS = 11
    SHIFTED_LABELS = 12
    TARGETS = 13
    DECODER_LABELS = 14
    ROW_LABELS = 15
    LOSS_MASK = 16
    OTHER = 17


# What columns of samples are for, by their meaning. Masks of padding are 1 at tokens or at padding.
MEANINGS: dict[Meaning | None, Role] = {
    "tokens": Role.IDS,
    "attention_mask": Role.MASK,
    "padding_mask": Role.OTHER,
    "key_padding_mask": Role.OTHER,
    "token_types": Role.OTHER,
    "special_tokens": Role.OTHER,
    "positions": Role.POSITIONS,
    "labels": Role.LABELS,
    "segments": Role.SEQ_LENGTHS,
}
# The ends of names that only batches have, or that say more there. What remains names the group.
ENDS: tuple[tuple[str, Role], ...] = (
    (r"inputs_embeds", Role.EMBEDS),
    (r"shift(?:ed)?_labels|labels_shift(?:ed)?", Role.SHIFTED_LABELS),
    (r"pos_ids", Role.POSITIONS),
    (r"seq_idx|sequence_idx|sequence_id|doc(?:ument)?_ids?", Role.SEQ_IDX),
    (r"segment_ids|segmentation", Role.SEGMENT_IDS),
    (r"seq_lengths|pack_lengths|segment_lengths|seq_lens", Role.SEQ_LENGTHS),
    (r"loss_mask|completion_mask|assistant_masks?", Role.LOSS_MASK),
    (r"lengths?|seq_len|lens", Role.LENGTHS),
)
# Whole names.
NAMES: dict[str, Role] = {
    **dict.fromkeys(("ids", "tokens"), Role.IDS),
    **dict.fromkeys(("mask", "causal_mask", "block_mask", "attention_bias"), Role.MASK),
    # The entries of a dict of masks, one for each kind of layer.
    **dict.fromkeys(("full_attention", "sliding_attention", "chunked_attention"), Role.MASK),
    "positions": Role.POSITIONS,
    **dict.fromkeys(("targets", "target"), Role.TARGETS),
}
BOUNDARIES = re.compile(
    r"(?:(?P<group>.+)_)?cu_?(?:seq_?lens?|seq_?lengths?|seqs?|doc_?lens?|lens?|lengths?)"
    r"(?:_(?P<axis>q|k|kv))?(?P<padded>_padded)?"
)
LONGEST = re.compile(
    r"(?:(?P<group>.+)_)?max_?(?:(?:seq_?lens?|seq_?lengths?|doc_?lens?|lens?|lengths?)(?:_|$))?"
    r"(?:in_batch)?(?P<axis>q|k|kv)?"
)
# Groups whose columns are about other things than tokens.
PICTURES = re.compile(r"(?:pixel|image|images|vision|video|videos|audio|patch|cross)(?:_.*)?")
# Tokens that are beside those of the rows they are a part of, as in verl.
BESIDE = frozenset(("prompts", "responses"))
# What X_ids are the tokens of.
TEXTS = frozenset(
    "prompt completion chosen rejected query response anchor positive negative answer".split()
)
# What says where rows begin, in a batch without padding.
LENT = frozenset(
    (
        Role.POSITIONS,
        Role.BOUNDARIES,
        Role.PADDED_BOUNDARIES,
        Role.LONGEST,
        Role.SEQ_IDX,
        Role.SEGMENT_IDS,
    )
)
MOST_COLUMNS = 127  # of one group: the C code numbers them by a byte


Place = tuple[str, str]  # of a group: where it is nested, and its prefix or "-" with its suffix


class Group(NamedTuple):
    """The columns that tell one story, as the C code reads them."""

    name: str
    keys: tuple[str, ...]
    roles: bytes
    partners: bytes  # of a longest row the index of its boundaries; 255: none
    place: Place
    lent_from: int = 0  # the columns from here on are those of `lend`; 0: none

    @property
    def columns(self) -> dict[str, Role]:
        """The role of each column."""
        return dict(zip(self.keys, map(Role, self.roles), strict=True))


def groups_of(names: tuple[str, ...]) -> tuple[Group, ...]:
    """Give the groups of columns with these names; names of other columns are left out.

    Nested columns are named "query.input_ids".
    """
    found: dict[Place, dict[str, Role]] = {}
    for name in names:
        path, _, last = name.rpartition(".")
        within = (other.rpartition(".") for other in names)
        affix, role = _role_among(last, {n for p, _, n in within if p == path})
        if role is not None:
            found.setdefault((path, affix), {})[name] = role
    for place in sorted(found, key=lambda place: (-place[0].count("."), not place[1])):
        _join(found, place)
    _join_targets(found)
    for path, affix in list(found):
        _settle_labels(found, path, affix)
    groups = []
    for (path, affix), columns in found.items():
        roles = dict(list(columns.items())[:MOST_COLUMNS])
        if not set(roles.values()) <= {Role.OTHER, Role.LONGEST}:
            name = ".".join(filter(None, (path, affix.strip("-"))))
            place = (path, affix)
            groups.append(Group(name, tuple(roles), bytes(roles.values()), _partners(roles), place))
    return tuple(groups)


def lend(groups: tuple[Group, ...]) -> tuple[Group, ...]:
    """Let boundaries and positions beside no tokens be those of tokens with a prefix or suffix.

    A batch without padding has one list of boundaries for all its columns. Whether they are those
    of some tokens, shapes tell.
    """
    found = {group.place: group.columns for group in groups}
    return tuple(_with_lent(group, found.get((group.place[0], ""), {})) for group in groups)


def _with_lent(group: Group, around: dict[str, Role]) -> Group:
    own = group.columns
    lent = {key: role for key, role in around.items() if role in LENT - {*own.values()}}
    tells_rows = not (LENT - {Role.POSITIONS, Role.LONGEST}).isdisjoint(own.values())
    if not lent or not _has_tokens(own) or _has_tokens(around) or tells_rows:
        return group
    columns = dict(list({**own, **lent}.items())[:MOST_COLUMNS])
    return group._replace(
        keys=tuple(columns),
        roles=bytes(columns.values()),
        partners=_partners(columns),
        lent_from=len(own),
    )


def _role_among(name: str, siblings: set[str]) -> tuple[str, Role | None]:
    """Give the affix that names a column's group, and its role, beside the names it is with."""
    pair = re.fullmatch(r"(?!input_|token_)(.+)_(ids|mask)", name)
    if pair and {f"{pair[1]}_ids", f"{pair[1]}_mask"} <= siblings:  # TRL's prompt_ids, prompt_mask
        return pair[1], Role.IDS if pair[2] == "ids" else Role.MASK
    if pair and pair[2] == "ids" and pair[1] in TEXTS:
        return pair[1], Role.IDS
    if name == "target_ids" and not {"target_attention_mask", "target_mask"} & siblings:
        return "", Role.ROW_LABELS  # of T5's scripts; padding may be the ignored label
    return _role_of(name)


@functools.cache
def _role_of(name: str) -> tuple[str, Role | None]:
    if name in NAMES:
        return "", NAMES[name]
    if match := BOUNDARIES.fullmatch(name):
        role = Role.PADDED_BOUNDARIES if match["padded"] else Role.BOUNDARIES
        return match["group"] or "", role
    if match := LONGEST.fullmatch(name):
        return match["group"] or "", Role.LONGEST
    for pattern, role in ENDS:
        if match := re.fullmatch(rf"(?:(?P<group>.+)_)?(?:{pattern})", name):
            return match["group"] or "", role
        match = re.fullmatch(rf"(?:{pattern})_(?P<group>.+)", name)
        if match and role in (Role.SHIFTED_LABELS, Role.EMBEDS):
            return f"-{match['group']}", role
    read = read_name(name)
    if read.stem in BESIDE:
        return "_".join(filter(None, (read.before, read.stem, read.after))), Role.IDS
    affix = f"-{read.after}" if read.after and not read.before else read.before
    return affix, MEANINGS.get(read.meaning)


def _has_tokens(columns: dict[str, Role]) -> bool:
    return not {Role.IDS, Role.EMBEDS}.isdisjoint(columns.values())


def _join(found: dict[Place, dict[str, Role]], place: Place) -> None:
    """Let columns without tokens of their own belong to the tokens around them."""
    (path, affix), columns = place, found[place]
    if _has_tokens(columns) or place == ("", ""):
        return
    if PICTURES.fullmatch(affix or path.rpartition(".")[2]):
        del found[place]
        return
    if affix:
        around: Place = (path, "")
        if Role.MASK in columns.values() and not affix.startswith("-"):
            return
        columns = {key: role for key, role in columns.items() if _is_of_tokens(affix, role)}
    else:
        around = (path.rpartition(".")[0], "")
        if not _has_tokens(found.get(around, {})):
            return
    del found[place]
    if columns:
        found.setdefault(around, {}).update(columns)


def _is_of_tokens(affix: str, role: Role) -> bool:
    """Tell whether a column is about the tokens around it: input_lengths are, image_lengths not."""
    if role is Role.LENGTHS:
        return affix in ("input", "token", "seq", "sequence", "row")
    return role is not Role.POSITIONS or affix.startswith("-")


def _join_targets(found: dict[Place, dict[str, Role]]) -> None:
    """Let the labels of (inputs, targets) belong to the only inputs."""
    inputs = [place for place, columns in found.items() if _has_tokens(columns)]
    if len(inputs) == 1 and inputs[0][0] and not inputs[0][1]:
        for place in [place for place in found if place != inputs[0] and not place[1]]:
            found[inputs[0]].update(found.pop(place))


def _settle_labels(found: dict[Place, dict[str, Role]], path: str, affix: str) -> None:
    """Labels are the decoder's where there is one; beside `tokens` they may be shifted."""
    columns = found[path, affix]
    if affix == "decoder" and (path, "") in found:
        own = Role.DECODER_LABELS if Role.IDS in columns.values() else Role.LABELS
        for key, role in list(found[path, ""].items()):
            if role is Role.LABELS:
                del found[path, ""][key]
                columns[key] = own
    lasts = {key.rpartition(".")[2] for key in columns}
    if "tokens" in lasts and "input_ids" not in lasts:
        for key, role in columns.items():
            if role is Role.LABELS:
                columns[key] = Role.TARGETS


def _partners(columns: dict[str, Role]) -> bytes:
    """Give for each longest row the index of the boundaries that it is of."""
    boundaries = [
        (i, BOUNDARIES.fullmatch(key.rpartition(".")[2]))
        for i, (key, role) in enumerate(columns.items())
        if role is Role.BOUNDARIES
    ]
    partners = []
    for key, role in columns.items():
        match = LONGEST.fullmatch(key.rpartition(".")[2]) if role is Role.LONGEST else None
        axis = (match["axis"] or "q")[0] if match else ""
        of = [i for i, found in boundaries if match and found and (found["axis"] or "q")[0] == axis]
        partners.append((of or [i for i, _ in boundaries] or [255])[0] if match else 255)
    return bytes(partners)
