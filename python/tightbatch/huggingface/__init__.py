"""transformers' data collators, by the same names: change the import and keep the rest.

Names, parameters, keys, their order, dtypes and shapes are those of transformers 5.23. Each takes
a tokenizer, as there, or just ``pad_token_id`` (and ``padding_side``). Features are lists, arrays
or tensors in dicts, or what a :class:`tightbatch.RaggedDataset` hands over. The result is a
``BatchEncoding`` where transformers is installed, else a :class:`tightbatch.Batch`.

Where transformers loses or spoils data, these do not:

- A key that is in some features only is a ValueError that names it; there the first feature
  decides, and others are dropped without a word.
- Labels of different lengths (``labels``, ``label_ids``) are padded with -100 by
  DataCollatorWithPadding too, to the width of the input; there it is an error about nesting.
  Labels of one length stay as they are, as there: for labels of tokens there is
  DataCollatorForTokenClassification.
- An ``attention_mask`` that features bring is padded even if the tokenizer does not name it.
- ``mlm=False`` takes the padding out of the labels by position and by attention mask. A padding
  token that is also the end-of-sequence token keeps its label; there a model trained so never
  learns to stop.
- An empty row adds nothing to a flattened batch; there labels and inputs go apart.
- A label longer than its input is an error that names the row.
- ``padding=False`` with rows of different lengths is an error that names the row; there it is one
  about nesting, or with NumPy an array of objects.
- Lengths, types and values are checked, and messages say where; columns of text are listed.
- ``max_length`` never cuts, as there. A row longer than "max_length" is an error; there it is one
  about nesting, or, where all rows are as long, a batch wider than asked.
"""

from .flattening import DataCollatorWithFlattening
from .language_modeling import DataCollatorForLanguageModeling
from .padding import (
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
)

__all__ = [
    "DataCollatorForLanguageModeling",
    "DataCollatorForSeq2Seq",
    "DataCollatorForTokenClassification",
    "DataCollatorWithFlattening",
    "DataCollatorWithPadding",
]
