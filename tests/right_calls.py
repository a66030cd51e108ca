"""How each public function, class and method is called rightly: a call that every test may vary."""

import functools
import os
import tempfile
import types

import numpy as np
import pytest

import tightbatch as tb

ROWS = [[1, 2, 3], [4]]
FEATURES = [{"input_ids": [1, 2], "labels": [1, 2]}, {"input_ids": [3], "labels": [3]}]
PAIRS = [{"prompt_ids": [1], "chosen_ids": [2, 3], "rejected_ids": [4]}]
ANSWERS = [{"prompt_ids": [1], "completion_ids": [2, 3], "label": True}]


def ragged():
    return tb.Ragged.from_sequences([[1, 2], [3], [4]])


def dataset():
    return tb.RaggedDataset({"input_ids": [[1, 2], [3], [4]]})


def stream():
    return tb.Ragged.from_tokens([1, 2, 0, 3, 0], 0)


def sampler():
    return tb.LengthBatchSampler([1, 2, 3], batch_size=2)


@functools.cache
def folder():
    return tempfile.TemporaryDirectory()


def new_path():
    return os.path.join(folder().name, "new.npy")


def saved_plan():
    path = os.path.join(folder().name, "plan.npy")
    sampler().save_plan(path)
    return path


def saved_packing():
    path = os.path.join(folder().name, "packs.npy")
    tb.pack([2, 1, 1], 2).save(path)
    return path


def padding_free_batch():
    return tb.PaddingFreeCollator(return_tensors="np")(FEATURES)


def batcher():
    return tb.StreamBatcher([[1, 2], [3]], batch_size=2)


def report():
    return tb.half_report({"weight": np.float32([1, 2])})


def collate_with(name, **more):
    """Make a collator of huggingface and collate: it may read its settings when it is called."""

    def call(**settings):
        import tightbatch.huggingface as huggingface

        defaults = {"return_tensors": "np", "pad_token_id": 0, **more}
        collator = getattr(huggingface, name)(**{**defaults, **settings})
        return collator([dict(feature) for feature in FEATURES])

    return call


def collate_as_trl(name, features):
    def call(**settings):
        import tightbatch.huggingface.trl as trl

        collator = getattr(trl, name)(**{"return_tensors": "np", "pad_token_id": 0, **settings})
        return collator([dict(feature) for feature in features])

    return call


def made_as_trl(name):
    def make():
        import tightbatch.huggingface.trl as trl

        return getattr(trl, name)(0, return_tensors="np")

    return make


def flatten_with(**settings):
    from tightbatch.huggingface import DataCollatorWithFlattening

    collator = DataCollatorWithFlattening(**{"return_tensors": "np", **settings})
    return collator([dict(feature) for feature in FEATURES])


def trainer():
    """A Trainer that has all that is read when it is told how to batch."""
    transformers = pytest.importorskip("transformers")
    return transformers.Trainer.__new__(transformers.Trainer)


def made_collator(name, **more):
    def make():
        import tightbatch.huggingface as huggingface

        return getattr(huggingface, name)(return_tensors="np", **more)

    return make


def arrow_table():
    pa = pytest.importorskip("pyarrow")
    return pa.table({"input_ids": [[1, None], [3]]})


def numpy_collator(samples):
    return tb.PadCollator(return_tensors="np")(samples)


def hf_dataset():
    rows = {"input_ids": [[1, 2], [3]]}
    return pytest.importorskip("datasets").Dataset.from_dict(rows)


def hf_dataset_with_null():
    rows = {"input_ids": [[1, None], [3]]}
    return pytest.importorskip("datasets").Dataset.from_dict(rows)


def tokenizer():
    return types.SimpleNamespace(pad_token_id=0, pad_token_type_id=0, padding_side="right")


def language_model():
    torch = pytest.importorskip("torch")

    class Model(torch.nn.Embedding):
        def forward(self, input_ids, **entries):
            return super().forward(input_ids)

    return Model(10, 3)


def training():
    import torch

    model = torch.nn.Linear(2, 1)
    return {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}


def amp():
    from tightbatch.amp import Amp

    return Amp(**training(), dtype="float32")


def loss():
    import torch

    return torch.ones(1, requires_grad=True).sum()


def module():
    import torch

    return torch.nn.Embedding(9, 2)


def ray_dataset():
    """A Ray Dataset that has all that is read before it is executed."""
    data = pytest.importorskip("ray.data")
    made = data.Dataset.__new__(data.Dataset)
    made._current_executor = None
    return made


def ray_batch():
    pa = pytest.importorskip("pyarrow")
    return pa.table({"input_ids": [[1, None], [3]]})


def stored_batch():
    return tb.ray.StoreBatch(numpy_collator, 0)(ray_batch())


def collate_in_ray(name):
    def call(**settings):
        return getattr(tb.ray, name)(**settings)(ray_batch())

    return call


MLM = {"mask_token_id": 1, "vocab_size": 9, "special_token_ids": [0]}
# How each is called rightly: a function (itself by default; of a method, what makes its object)
# and its arguments, where a value that is a function makes the argument.
LENGTHS, SEQUENCES = {"lengths": [2, 1]}, {"sequences": ROWS}
FLOATS = {"x": np.float32([1, 2])}
VALID = {
    "analyze": {"data": dataset, "column": "input_ids", "batch_size": 2},
    "attention_mask": LENGTHS,
    "block_mask": LENGTHS,
    "batch_by_length": {"trainer": trainer, "batch_size": 2},
    "bucket_boundaries": {**LENGTHS, "k": 1},
    "bucket_groups": {**LENGTHS, "boundaries": [8, 16]},
    "check_batch": {"batch": {"input_ids": [[1, 2], [3, 4]]}},
    "check_model": {"model": module, "collate_fn": lambda: tb.PadCollator(), "samples": ROWS},
    "context_parallel": {**LENGTHS, "num_ranks": 2},
    "ContextParallel.indices": {"rank": 1},
    "ContextParallel.position_ids": {"rank": 1},
    "ContextParallel.restore": {"shares": [np.arange(4), np.arange(4)]},
    "ContextParallel.shard": {"values": np.arange(5), "rank": 1},
    "ContextParallel.shard_labels": {"labels": np.arange(5), "rank": 1},
    "chunk": {"rows": stream, "max_length": 2},
    "cu_seqlens": LENGTHS,
    "fixed_pad_sequences": {**SEQUENCES, "max_length": 4},
    "half_report": FLOATS,
    "lengths": {"sequences": dataset, "column": "input_ids"},
    "pack": {**LENGTHS, "capacity": 4},
    "pack_dataset": {"dataset": hf_dataset, "capacity": 4},
    "pad": SEQUENCES,
    "pad_sequences_dynamic": SEQUENCES,
    "partition": {"costs": [2, 1], "k": 1},
    "Partition.__getitem__": {"part": 0},
    "Partition.loss_weights": {"tokens": [1, 2, 1]},
    "Partition.restore": {"outputs": [[1, 2], [3]]},
    "position_ids": LENGTHS,
    "segment_ids": LENGTHS,
    "segment_mask": {"segment_ids": [1, 1, 2]},
    "shard_batch": {"batch": padding_free_batch, "num_ranks": 2, "rank": 1},
    "split_report": {"tokens": [1, 2, 3], "candidates": {"end": 2}},
    "to_bfloat16": FLOATS,
    "to_float16": FLOATS,
    "to_float32": FLOATS,
    "uniform_length_batching": {**SEQUENCES, "batch_size": 2},
    "unpad": {"array": np.ones((2, 3), np.int64), "lengths_or_mask": [1, 2]},
    "windows": {"rows": stream, "length": 4, "stride": 1},
    "CheckedCollator": {"collate_fn": lambda: numpy_collator},
    "CheckedCollator.__call__": {"samples": FEATURES},
    "Chunks.apply": {"ragged": ragged},
    "Chunks.merge": {"outputs": [[0.5], [0.5], [1.0], [0.5]]},
    "LengthBatchSampler": {**LENGTHS, "batch_size": 2, "num_replicas": 2, "rank": 0},
    "Fairness.to_dict": {},
    "LengthBatchSampler.even_out": {"epochs": 2},
    "LengthBatchSampler.fairness": {},
    "LengthBatchSampler.load_plan": {"path": saved_plan},
    "LengthBatchSampler.load_state_dict": {"state": lambda: sampler().state_dict()},
    "LengthBatchSampler.restore_order": {"outputs": [[0, 1], [2]]},
    "LengthBatchSampler.save_plan": {"path": new_path},
    "LengthBatchSampler.set_epoch": {"epoch": 1},
    "LengthBatchSampler.state_dict": {},
    "StreamBatcher": {"samples": ROWS, "batch_size": 2, "num_replicas": 2, "rank": 0},
    "StreamBatcher.in_step": {"loader": ROWS},
    "StreamBatcher.load_state_dict": {"state": lambda: batcher().state_dict()},
    "StreamBatcher.set_epoch": {"epoch": 1},
    "StreamBatcher.state_dict": {},
    "PadCollator": {},
    "PadCollator.__call__": {"samples": FEATURES},
    "PadCollator.from_tokenizer": {"tokenizer": tokenizer},
    "PaddingFreeCollator": {},
    "PaddingFreeCollator.__call__": {"samples": FEATURES},
    "PaddingFreeCollator.for_model": {"model": language_model},
    "PaddingReport.__getitem__": {"strategy": "packed"},
    "PaddingReport.plot": {"panel": "strategies"},
    "PaddingReport.to_dict": {},
    "PaddingReport.to_pandas": {},
    "Packing.__getitem__": {"pack": 0},
    "Packing.apply": {"ragged": ragged},
    "Packing.fairness": {},
    "Packing.load": {"path": saved_packing},
    "Packing.save": {"path": new_path},
    "Ragged": {"values": np.arange(3), "offsets": [0, 2]},
    "Ragged.__getitem__": {"index": 0},
    "Ragged.compact": {},
    "Ragged.concatenate": {"parts": lambda: [ragged()]},
    "Ragged.from_arrow": {"source": arrow_table, "fill_null": 0},
    "Ragged.from_sequences": SEQUENCES,
    "Ragged.from_tokens": {"tokens": [1, 2, 3], "end": 2},
    "Ragged.pad": {},
    "Ragged.to_arrow": {},
    "SplitReport.notes": {},
    "Ragged.tolist": {},
    "WasteMeter": {"loader": [{"attention_mask": np.ones((2, 3))}], "lengths": [2, 1]},
    "WasteMeter.metrics": {},
    "RaggedDataset": {"columns": {"input_ids": ROWS}},
    "RaggedDataset.__getitem__": {"index": 0},
    "RaggedDataset.__getitems__": {"indices": [0]},
    "RaggedDataset.from_arrow": {"table": arrow_table, "fill_null": 0},
    "RaggedDataset.from_hf": {"dataset": hf_dataset_with_null, "fill_null": 0},
    "Batch.to": {"device": "cpu"},
    "Batch.pin_memory": {},
    "Batch.copy": {},
    "BatchReport.to_dict": {},
    "ModelReport.plot": {},
    "ModelReport.summary": {},
    "ModelReport.to_dict": {},
    "HalfReport.__contains__": {"name": "weight"},
    "HalfReport.__getitem__": {"key": 0},
    "HalfReport.plot": {},
    "Packing.plot": {},
    "Batch.plot": {},
    "knee": {"waste": [9, 1]},
    "plot_batch": {"batch": {"input_ids": [[1, 2], [3, 4]]}},
    "plot_buckets": {"waste": [9, 1]},
    "plot_exponents": {"counts": [1] * 256},
    "plot_leaks": {"rows": ["row 0"], "movements": [[0.0]] * 6, "tolerance": 1e-5},
    "plot_lengths": LENGTHS,
    "plot_packs": {"pack_lengths": [4, 3], "capacity": 4},
    "plot_ranks": {"loads": [3, 4]},
    "plot_rows": {"panels": lambda: {"batch": tb.plots.Cells(1, 2, np.array([[0, 1]]))}},
    "plot_strategies": {"tokens": {"fixed": {"real": 2, "padding": 1}}},
    "plot_windows": {"windows": [1, 2], "padding": [0.5, 0.1]},
    "HalfReport.to_dict": {},
    "DataCollatorForLanguageModeling": {},
    "DataCollatorForLanguageModeling.__call__": {"features": FEATURES},
    "DataCollatorForSeq2Seq": {},
    "DataCollatorForSeq2Seq.__call__": {"features": FEATURES},
    "DataCollatorForTokenClassification": {},
    "DataCollatorForTokenClassification.__call__": {"features": FEATURES},
    "DataCollatorForPreference": {},
    "DataCollatorForPreference.__call__": {"features": PAIRS},
    "DataCollatorForUnpairedPreference": {},
    "DataCollatorForUnpairedPreference.__call__": {"features": ANSWERS},
    "trl:DataCollatorForLanguageModeling": {},
    "trl:DataCollatorForLanguageModeling.__call__": {"features": FEATURES},
    "DataCollatorWithFlattening": {},
    "DataCollatorWithFlattening.__call__": {"features": FEATURES},
    "DataCollatorWithPadding": {},
    "DataCollatorWithPadding.__call__": {"features": [{"input_ids": [1, 2]}, {"input_ids": [3]}]},
    "Amp": {},
    "Amp.autocast": {},
    "Amp.finish": {},
    "Amp.load_state_dict": {"state_dict": lambda: amp().state_dict()},
    "Amp.state_dict": {},
    "Amp.step": {"loss": loss},
    "BatchLoader": {"shard": ray_dataset},
    "BatchLoader.load_state_dict": {"state": {"epoch": 1, "batches": 2, "fingerprint": 3}},
    "BatchLoader.state_dict": {},
    "CollateFn": {"collator": lambda: numpy_collator, "fill_null": 0},
    "CollateFn.__call__": {"batch": ray_batch},
    "LoadBatch": {},
    "LoadBatch.__call__": {"batch": stored_batch},
    "StoreBatch": {"collator": lambda: numpy_collator, "fill_null": 0},
    "StoreBatch.__call__": {"batch": ray_batch},
    "ray:batch_by_length": {
        "dataset": ray_dataset,
        "collator": lambda: numpy_collator,
        "batch_size": 2,
    },
    "ray:pack_dataset": {"dataset": ray_dataset, "capacity": 4},
    "GradScaler": {"device": "cpu", "min_scale": 1.0},
    "GradScaler.load_state_dict": {"state_dict": lambda: grad_scaler().state_dict()},
    "GradScaler.scale": {"outputs": loss},
    "GradScaler.state_dict": {},
    "GradScaler.step": {"optimizer": lambda: training()["optimizer"]},
    "GradScaler.unscale_": {"optimizer": lambda: training()["optimizer"]},
    "GradScaler.update": {"new_scale": 1.0},
    "Precision.autocast": {},
    "choose_precision": {"device": "cpu"},
}
# What is not called rightly here, and what that needs; other tests do.
NOT_CALLED = {
    "Amp.step": "a loss of the model",
    "Batch.pin_memory": "a GPU",
    "ray:batch_by_length": "a cluster",
    "ray:pack_dataset": "a cluster",
    "GradScaler.step": "a backward pass",
    "GradScaler.unscale_": "a backward pass",
}


def grad_scaler():
    from tightbatch.amp import GradScaler

    return GradScaler("cpu", enabled=False)


def precision():
    from tightbatch.amp import choose_precision

    return choose_precision("cpu")


# What makes the object of a method; of these classes, how their constructor is called.
OBJECTS = {
    "BatchReport": lambda: tb.check_batch({"input_ids": [[1, 2], [3, 4]]}),
    "ContextParallel": lambda: tb.context_parallel([4, 1], 2),
    "CheckedCollator": lambda: tb.CheckedCollator(numpy_collator),
    "Amp": amp,
    "Batch": lambda: tb.Batch(input_ids=np.ones((2, 2), np.int64)),
    "Chunks": lambda: tb.chunk(ragged(), 1),
    "Fairness": lambda: sampler().fairness(),
    "SplitReport": lambda: tb.split_report([1, 2, 3], {"end": 2}),
    "GradScaler": grad_scaler,
    "HalfReport": report,
    "BatchLoader": lambda: tb.ray.BatchLoader(ray_dataset()),
    "CollateFn": lambda: tb.ray.CollateFn(numpy_collator, 0),
    "LoadBatch": lambda: tb.ray.LoadBatch("np"),
    "StoreBatch": lambda: tb.ray.StoreBatch(numpy_collator, 0),
    "LengthBatchSampler": sampler,
    "StreamBatcher": batcher,
    "PadCollator": lambda: tb.PadCollator(return_tensors="np"),
    "PaddingFreeCollator": lambda: tb.PaddingFreeCollator(return_tensors="np"),
    "ModelReport": lambda: tb.check_model(module(), tb.PadCollator(), ROWS),
    "Packing": lambda: tb.pack([2, 1, 1], 2),
    "PaddingReport": lambda: tb.analyze([2, 1, 3], batch_size=2),
    "Partition": lambda: tb.partition([2, 1, 1], 2),
    "Precision": precision,
    "Ragged": ragged,
    "RaggedDataset": dataset,
    "WasteMeter": lambda: tb.WasteMeter([[0, 1]], lengths=[2, 1]),
    "DataCollatorForLanguageModeling": made_collator(
        "DataCollatorForLanguageModeling", pad_token_id=0, **MLM
    ),
    "DataCollatorForSeq2Seq": made_collator("DataCollatorForSeq2Seq", pad_token_id=0),
    "DataCollatorForTokenClassification": made_collator(
        "DataCollatorForTokenClassification", pad_token_id=0
    ),
    "DataCollatorForPreference": made_as_trl("DataCollatorForPreference"),
    "DataCollatorForUnpairedPreference": made_as_trl("DataCollatorForUnpairedPreference"),
    "trl:DataCollatorForLanguageModeling": made_as_trl("DataCollatorForLanguageModeling"),
    "DataCollatorWithFlattening": made_collator("DataCollatorWithFlattening"),
    "DataCollatorWithPadding": made_collator("DataCollatorWithPadding", pad_token_id=0),
}
CONSTRUCTORS = {
    "CollateFn": collate_in_ray("CollateFn"),
    "StoreBatch": collate_in_ray("StoreBatch"),
    "Amp": lambda **settings: __import__("tightbatch.amp").amp.Amp(**{**training(), **settings}),
    "DataCollatorForLanguageModeling": collate_with("DataCollatorForLanguageModeling", **MLM),
    "DataCollatorForSeq2Seq": collate_with("DataCollatorForSeq2Seq"),
    "DataCollatorForTokenClassification": collate_with("DataCollatorForTokenClassification"),
    "DataCollatorForPreference": collate_as_trl("DataCollatorForPreference", PAIRS),
    "DataCollatorForUnpairedPreference": collate_as_trl(
        "DataCollatorForUnpairedPreference", ANSWERS
    ),
    "trl:DataCollatorForLanguageModeling": collate_as_trl(
        "DataCollatorForLanguageModeling", FEATURES
    ),
    "DataCollatorWithFlattening": flatten_with,
    "DataCollatorWithPadding": collate_with("DataCollatorWithPadding"),
}
