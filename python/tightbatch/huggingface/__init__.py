"""transformers' data collators under the same names: change the import and keep the rest.

:func:`batch_by_length` lets a Trainer take batches of similar length.

Names, parameters, keys, their order, dtypes and shapes are those of transformers 5.23. Each
collator takes a tokenizer, as in transformers, or only ``pad_token_id`` (and ``padding_side``).
Those that pad inputs and labels take a feature extractor or a processor too. TRL's collators are in
:mod:`tightbatch.huggingface.trl`.
Features are dicts of lists, arrays or tensors, or a batch of a :class:`tightbatch.RaggedDataset`.
The result is a ``BatchEncoding`` if transformers is installed, else a :class:`tightbatch.Batch`.

transformers' collators lose data in some cases. These do not:

- A key that only some features have is a ValueError that names it; transformers takes the keys of
  the first feature and silently drops all others.
- Labels of different lengths (``labels``, ``label_ids``) are padded with -100 by
  DataCollatorWithPadding too, to the width of the input (beside a feature extractor's input, to a
  width of their own); transformers raises an error about nesting. Labels of one length stay as they
  are in both: DataCollatorForTokenClassification pads labels of tokens.
- An ``attention_mask`` of the features is padded even if the tokenizer does not name it.
- ``mlm=False`` sets labels of padding to -100 by position and by attention mask. A padding token
  that is also the end-of-sequence token keeps its label; with transformers' labels a model never
  learns to stop.
- The rows of a flattened batch stay apart in ``model(**batch)``: ``use_cache=False`` is one of its
  entries. Without it most models make a cache, and then look for no boundaries under eager, sdpa
  and flex attention.
- Packs, rows with ``seq_lengths``, stay apart in a flattened batch too; transformers flattens each
  as one row. The collators that pad refuse them.
- An empty row adds nothing to a flattened batch; transformers gives it a label, and labels and
  inputs no longer match.
- A label longer than its input is an error that names the row.
- ``padding=False`` with rows of different lengths is an error that names the row; transformers
  raises one about nesting, or with NumPy gives an array of objects.
- Any processor with a feature extractor works, also one without a pad(), and for labels of
  sequences. Features with more numbers at a position are padded in the first dimension only;
  transformers pads the others too where ``feature_size`` is 1.
- Lengths, types and values are checked, and messages say where; columns of text become lists.
- ``max_length`` never cuts, in both. A row longer than "max_length" is an error that names it;
  transformers raises one about nesting, or, where all rows have one length, gives a batch that is
  wider than asked.
"""

from .flattening import DataCollatorWithFlattening
from .language_modeling import DataCollatorForLanguageModeling
from .padding import (
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
)
from .trainer import batch_by_length

__all__ = [
    "DataCollatorForLanguageModeling",
    "DataCollatorForSeq2Seq",
    "DataCollatorForTokenClassification",
    "DataCollatorWithFlattening",
    "DataCollatorWithPadding",
    "batch_by_length",
]
