"""transformers' data collators, by the same names: change the import and keep the rest.

Names, parameters, keys, their order, dtypes and shapes are those of transformers 5.23. Each takes
a tokenizer, as transformers' do, or just ``pad_token_id`` (and ``padding_side``). Features are
lists, arrays or tensors in dicts, or what a :class:`tightbatch.RaggedDataset` hands over. The
result is a ``BatchEncoding`` where transformers is installed, else a :class:`tightbatch.Batch`.

Where transformers loses or spoils data, these do not:

- A key that is in some features only is a ValueError that names it; transformers takes the keys
  of the first feature and drops others without a word.
- Labels of different lengths (``labels``, ``label_ids``) are padded with -100 by
  DataCollatorWithPadding too, to the width of the input; transformers raises an error about
  nesting. Labels of one length stay as they are in both: DataCollatorForTokenClassification pads
  labels of tokens.
- An ``attention_mask`` that features bring is padded even if the tokenizer does not name it.
- ``mlm=False`` takes the padding out of the labels by position and by attention mask. A padding
  token that is also the end-of-sequence token keeps its label; with transformers' labels a model
  never learns to stop.
- An empty row adds nothing to a flattened batch; transformers gives it a label, and labels and
  inputs no longer match.
- A label longer than its input is an error that names the row.
- ``padding=False`` with rows of different lengths is an error that names the row; transformers
  raises one about nesting, or with NumPy gives an array of objects.
- Lengths, types and values are checked, and messages say where; columns of text are listed.
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

__all__ = [
    "DataCollatorForLanguageModeling",
    "DataCollatorForSeq2Seq",
    "DataCollatorForTokenClassification",
    "DataCollatorWithFlattening",
    "DataCollatorWithPadding",
]
