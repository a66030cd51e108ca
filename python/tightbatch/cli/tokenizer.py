"""Text to tokens, by a tokenizer that is on this machine: nothing is fetched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .arrow import as_text
from .failure import CommandError, need, one_line, shown

if TYPE_CHECKING:
    import pyarrow as pa


class TextTokenizer:
    """A tokenizer, of the package tokenizers or of transformers.

    Parameters
    ----------
    name : str
        A tokenizer.json, a directory with one or with a model's tokenizer, or the name of a model
        in transformers' local cache.

    Raises
    ------
    CommandError
        When there is no such tokenizer, or a package is missing.
    """

    def __init__(self, name: str) -> None:
        place = Path(name)
        file = place / "tokenizer.json" if place.is_dir() else place
        self.fast = self.slow = None
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        if file.is_file():
            need("tokenizers")
            from tokenizers import Tokenizer

            try:
                self.fast = Tokenizer.from_file(str(file))
            except Exception as error:  # of the type Exception, whatever is wrong
                raise CommandError(
                    f"--tokenizer {shown(file)}: not readable as a tokenizer.json: "
                    f"{one_line(error, 100)}"
                ) from None
            self.fast.no_truncation()
            self.fast.no_padding()
            return
        need("transformers")
        from transformers import AutoTokenizer

        try:
            self.slow = AutoTokenizer.from_pretrained(name, local_files_only=True)
        except Exception:
            where = "has no tokenizer" if place.is_dir() else "is no file or directory"
            raise CommandError(
                f"--tokenizer {shown(name)}: {where}, and no model of that name is in the local "
                "cache"
            ) from None

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The tokens of each text, special tokens too."""
        if self.fast is not None:
            return [one.ids for one in self.fast.encode_batch_fast(texts)]
        found: Any = self.slow(texts, verbose=False, truncation=False)["input_ids"]  # type: ignore[misc]
        return list(found)

    def lengths(self, array: pa.Array) -> NDArray[np.int64]:
        """How many tokens each text has."""
        texts = as_text(array).to_pylist()
        if self.fast is not None:
            encodings = self.fast.encode_batch_fast(texts)
            return np.fromiter(map(len, encodings), np.int64, len(texts))
        return np.fromiter(map(len, self.encode(texts)), np.int64, len(texts))
