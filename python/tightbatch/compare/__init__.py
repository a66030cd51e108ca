"""``python -m tightbatch compare``: what each way of padding costs, on real text.

One file has one job, in the order in which they are used:

settings      what was asked for, and the checks that need no heavy import
library_text  the default text: the documentation that ships with Python
data_file     --data: .txt, .jsonl, .csv and .parquet
model         tokenizer and model, built or loaded
dataset       texts to token rows, cut and counted, split for training and testing
lines         batches in which rows share a line: packs, and without padding
forward       a batch through the model, whichever way its rows lie
strategies    the ways of padding and batching
train         the timed loop and the held-out accuracy
check         padding does not affect the model: shown
table         the table and the notes under it
record        JSON and the plot
run           all of it, in order

Nothing here is imported by ``import tightbatch``.
"""
