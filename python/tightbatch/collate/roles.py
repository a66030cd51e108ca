"""What columns are, by their names: one table for everything that reads a batch.

The names are those of transformers' models and tokenizers, TRL, sentence-transformers, torchtune,
axolotl and verl. A name is a stem (``input_ids``), with what is before it (``query_input_ids``) or
after it (``input_ids_chosen``): its part. Columns of one part belong together.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple

Meaning = Literal[
    "tokens",  # token ids: padded with the padding token
    "features",  # numbers that stand for tokens, with time first: padded
    "attention_mask",  # 1 at the tokens of its part
    "padding_mask",  # 1 at tokens for some libraries, at padding for others
    "key_padding_mask",  # torch's: True at padding
    "token_types",
    "positions",
    "special_tokens",  # 1 at special tokens, of which padding is one
    "labels",
    "mask",  # 1 at tokens that are chosen for something, as the loss
    "values",  # a number for each token: log-probabilities, rewards
    "numbers",  # the same, or anything else: as a name that says nothing, but padded with 0
    "segments",  # lengths of the segments of a pack
    "image",  # not padded: stacked
    "grid",  # one after another, and the image that it describes too
]

# The meaning of each stem. The longest that fits decides: "special_tokens_mask" is no "mask".
STEMS: dict[str, Meaning] = {
    **dict.fromkeys(("input_ids", "token_ids", "tokens", "prompt_ids", "completion_ids"), "tokens"),
    **dict.fromkeys(("chosen_ids", "rejected_ids", "reference_ids", "response_ids"), "tokens"),
    **dict.fromkeys(("query_ids", "source_ids", "target_ids", "context_ids"), "tokens"),
    **dict.fromkeys(("prompts", "responses", "encoder_input", "decoder_input"), "tokens"),
    **dict.fromkeys(("input_features", "input_values", "inputs_embeds"), "features"),
    **dict.fromkeys(("past_values", "future_values", "past_time_features"), "features"),
    **dict.fromkeys(("future_time_features", "audio", "audios", "audio_values"), "features"),
    **dict.fromkeys(("waveform", "waveforms", "wav", "speech", "signal", "signals"), "features"),
    **dict.fromkeys(("features", "feats", "frames", "mel", "mels", "fbank", "mfcc"), "features"),
    **dict.fromkeys(("spectrogram", "series", "time_series", "sequence"), "features"),
    **dict.fromkeys(("attention_mask", "attention_masks"), "attention_mask"),
    **dict.fromkeys(("attn_mask", "attn_masks", "input_mask", "input_masks"), "attention_mask"),
    "padding_mask": "padding_mask",
    **dict.fromkeys(("key_padding_mask", "is_padding", "is_pad"), "key_padding_mask"),
    **dict.fromkeys(("token_type_ids", "segment_ids", "type_ids", "seg_ids"), "token_types"),
    **dict.fromkeys(("mm_token_type_ids", "visual_token_type_ids"), "mask"),
    **dict.fromkeys(("position_ids", "input_pos", "positions_ids", "pos_ids"), "positions"),
    "special_tokens_mask": "special_tokens",
    **dict.fromkeys(("labels", "label", "label_ids", "labels_ids"), "labels"),
    **dict.fromkeys(("tags", "tag_ids", "tags_ids", "targets", "ner_ids"), "labels"),
    **dict.fromkeys(("positions", "word_ids", "word_idx", "sentence_ids"), "numbers"),
    **dict.fromkeys(("seq_idx", "seq_ids", "row_idx", "is_special"), "numbers"),
    **dict.fromkeys(("weights", "scores", "rewards", "is_first", "is_masked"), "numbers"),
    **dict.fromkeys(("mask", "masks", "entity_ids", "bbox"), "mask"),
    **dict.fromkeys(("logps", "logprobs", "log_probs", "token_rewards"), "values"),
    **dict.fromkeys(("advantages", "returns", "token_level_rewards"), "values"),
    **dict.fromkeys(("token_level_scores", "token_weights", "loss_weights"), "values"),
    "seq_lengths": "segments",
    **dict.fromkeys(("pixel_values", "pixel_values_videos", "pixel_mask"), "image"),
    **dict.fromkeys(("pixel_attention_mask", "image", "images", "image_sizes"), "image"),
    **dict.fromkeys(("spatial_shapes", "flattened_patches"), "image"),
    **dict.fromkeys(("image_grid_thw", "video_grid_thw", "image_grid_hw"), "grid"),
}
# What can be anything, as one coordinate of a point, but beside tokens is labels.
LABELS_BESIDE_TOKENS = frozenset(("y", "y_true", "target", "tag", "gold"))
# Parts that can also follow the stem, as in TRL's "input_ids_chosen".
PARTS = frozenset(
    "chosen rejected prompt completion response query anchor positive negative document doc "
    "context question answer passage source target encoder decoder teacher ref reference text "
    "vision left right shifted a b w l".split()
)
# What says which tokens are meant, in a column of the tokens without a part: "completion_mask"
# beside "input_ids", where there are no "completion_ids".
CHOICES = frozenset(
    "loss completion assistant prompt response tool action env global shift shifted sequence "
    "self_distillation old ref rollout user".split()
)
# The images that follow a grid, one after another.
DESCRIBED = {
    "image_grid_thw": "pixel_values",
    "image_grid_hw": "pixel_values",
    "video_grid_thw": "pixel_values_videos",
}
# torch's cross-entropy ignores -100. Tokens, features and what has no meaning are filled with the
# padding value; integers of no meaning beside tokens with none but 0. None: it is not known, and
# padding is an error.
FILLS: dict[Meaning | None, float | None] = {
    "attention_mask": 0,
    "padding_mask": None,
    "key_padding_mask": 1,
    "token_types": 0,
    "positions": 0,
    "special_tokens": 1,
    "labels": -100,
    "mask": 0,
    "values": 0,
    "numbers": 0,
}
# What stands for all columns of a meaning in a mapping of fills.
PATTERNS: dict[Meaning | None, str] = {
    "tokens": "*_input_ids",
    "token_types": "*_token_type_ids",
}
# Columns with a value for each token of their part: as long as it, and padded as it.
PER_TOKEN: frozenset[Meaning] = frozenset(
    ("attention_mask", "token_types", "positions", "special_tokens")
)
# What may be anything: whether its rows are sequences is seen from them.
OPEN: frozenset[Meaning | None] = frozenset((None, "numbers"))
MASKS: frozenset[Meaning] = frozenset(("attention_mask", "padding_mask", "key_padding_mask"))
_LONGEST_FIRST = sorted(STEMS, key=len, reverse=True)


class Name(NamedTuple):
    """A column's name, read: its meaning (None: it says nothing), its stem and its part."""

    meaning: Meaning | None
    stem: str
    before: str
    after: str

    @property
    def part(self) -> tuple[str, str]:
        return self.before, self.after

    def sibling(self, stem: str) -> str:
        """Name another column of the part."""
        return "_".join(word for word in (self.before, stem, self.after) if word)


NOTHING = Name(None, "", "", "")


@functools.lru_cache(4096)
def read_name(key: Any) -> Name:
    """Read a column's name; any object may be a key."""
    if not isinstance(key, str):
        return NOTHING
    found = _match(key, "")
    if found is None:
        stem, _, after = key.rpartition("_")
        if stem and (after in PARTS or after.isdecimal()):
            found = _match(stem, after)
    return NOTHING if found is None else found


def _match(text: str, after: str) -> Name | None:
    for stem in _LONGEST_FIRST:
        if text == stem or text.endswith("_" + stem):
            before = text[: -len(stem)].removesuffix("_")
            return _settle(Name(STEMS[stem], stem, before, after))
    return None


def _settle(name: Name) -> Name:
    """Find the part where the stem holds it ("prompt_ids") or a mask is named by its column."""
    if name.meaning in ("tokens", "features") and name.stem.partition("_")[0] in PARTS:
        before = "_".join(word for word in (name.before, name.stem.partition("_")[0]) if word)
        return name._replace(before=before)
    if name.stem in ("mask", "masks") and name.before:
        masked = _match(name.before, name.after)
        if masked is not None and masked.meaning in ("tokens", "features"):
            return name._replace(meaning="attention_mask", before=masked.before)
    return name
