"""The text of one run: read, its empty rows counted, the wanted number of rows drawn."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from tightbatch.compare.data_file import data_file
from tightbatch.compare.library_text import library_text
from tightbatch.compare.settings import CompareError, Settings

FEWEST = 20  # rows; fewer leave nothing to hold out
HELD_OUT = 0.2  # of the rows


@dataclass(frozen=True)
class Corpus:
    """Texts with labels, and what was left out of them."""

    source: str
    label_meaning: str
    label_names: list[str]
    texts: list[str]
    labels: list[int]
    training: list[int]  # rows to train on
    held_out: list[int]  # rows to test on
    rows_found: int
    rows_empty: int
    rows_repeated: int

    @property
    def majority(self) -> float:
        """The accuracy of always answering the commonest training label, on the held-out rows."""
        commonest = Counter(self.labels[i] for i in self.training).most_common(1)[0][0]
        return sum(self.labels[i] == commonest for i in self.held_out) / len(self.held_out)


def check_labels(source: str, meaning: str, labels: list[str]) -> None:
    """Raise CompareError when there is nothing to learn from these labels."""
    kinds = len(set(labels))
    if kinds < 2:
        raise CompareError(
            f"{source}: only one label ({labels[0]!r}, {meaning}): there is nothing to learn"
        )
    if kinds > len(labels) // 4:
        raise CompareError(
            f"{source}: {kinds} labels in {len(labels)} rows ({meaning}): too many to learn, "
            "give another --label-column"
        )


def read_corpus(settings: Settings) -> Corpus:
    """Read the text, drop and count empty rows, draw the rows to use and split them.

    Raises
    ------
    CompareError
        If there is too little text, or the labels cannot be learnt from.
    """
    repeated = 0
    if settings.data is None:
        source, meaning = "Python's own documentation", "the part of the library"
        texts, labels, repeated = library_text()
    else:
        source = str(settings.data)
        texts, labels, meaning = data_file(
            settings.data, settings.text_column, settings.label_column
        )
    found = len(texts) + repeated
    kept = [i for i, text in enumerate(texts) if text.strip()]
    empty = len(texts) - len(kept)
    # One seed decides which rows take part, in which order, and which are held out.
    random.Random(settings.seed).shuffle(kept)
    if settings.rows:
        kept = kept[: settings.rows]
    if len(kept) < FEWEST:
        raise CompareError(f"{source}: {len(kept)} rows of text; at least {FEWEST} are needed")
    texts, labels = [texts[i] for i in kept], [labels[i] for i in kept]
    check_labels(source, meaning, labels)
    names = sorted(set(labels))
    number = {name: i for i, name in enumerate(names)}
    tested = max(1, round(len(kept) * HELD_OUT))
    return Corpus(
        source=source,
        label_meaning=meaning,
        label_names=names,
        texts=texts,
        labels=[number[label] for label in labels],
        training=list(range(tested, len(kept))),
        held_out=list(range(tested)),
        rows_found=found,
        rows_empty=empty,
        rows_repeated=repeated,
    )
