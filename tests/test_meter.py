"""WasteMeter: the tokens of any library's batches, and a loader that stays what it was."""

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

import tightbatch as tb
from tightbatch.analysis.counting import count_tokens

LENGTHS = [3, 9, 1, 4, 4, 7]
SAMPLES = [{"input_ids": list(range(1, n + 1)), "labels": [1] * n} for n in LENGTHS]
REAL, PADDED = sum(LENGTHS), 6 * 9


def batch(**options):
    return tb.PadCollator(return_tensors="np", **options)(SAMPLES)


def without(found, *names):
    return {name: column for name, column in found.items() if name not in names}


def positions():
    """Rows that only position_ids tell, with a padding of -1."""
    found = np.full((6, 9), -1)
    for row, length in enumerate(LENGTHS):
        found[row, :length] = np.arange(length)
    return found


KINDS = {
    "right": lambda: batch(),
    "left": lambda: batch(padding_side="left"),
    "bool": lambda: {**batch(), "attention_mask": batch()["attention_mask"].astype(bool)},
    "float": lambda: {**batch(), "attention_mask": batch()["attention_mask"].astype(np.float32)},
    "lists": lambda: {name: column.tolist() for name, column in batch().items()},
    "the mask alone": lambda: {"attention_mask": batch()["attention_mask"]},
    "lengths": lambda: {
        **without(batch(), "attention_mask"),
        "lengths": np.array(LENGTHS),
    },
    "a mask with holes": lambda: {**batch(), "attention_mask": 1 * (batch()["labels"] == 1)},
    "nested": lambda: {"query": batch(), "id": 4},
    "a list of dicts": lambda: [batch()],
    "a prefix": lambda: {f"query_{name}": column for name, column in batch().items()},
}


@pytest.mark.parametrize("kind", KINDS)
def test_padded_batches(kind):
    found = count_tokens(KINDS[kind]())
    assert (found.real, found.padded) == (REAL, PADDED)


def test_two_groups_are_added():
    pair = {
        f"{side}_{key}": value for side in ("query", "answer") for key, value in batch().items()
    }
    found = count_tokens(pair)
    assert (found.real, found.padded) == (2 * REAL, 2 * PADDED)


@pytest.mark.parametrize("naming", ["transformers", "flash_attn", "megatron"])
def test_batches_without_padding(naming):
    found = count_tokens(tb.PaddingFreeCollator(naming=naming, return_tensors="np")(SAMPLES))
    assert (found.real, found.padded) == (REAL, REAL)


@pytest.mark.parametrize("key", ["cu_seq_lens_q", "seq_idx", "position_ids"])
def test_one_column_is_enough(key):
    whole = tb.PaddingFreeCollator(return_tensors="np")(SAMPLES)
    found = count_tokens({"input_ids": whole["input_ids"], key: whole[key]})
    assert (found.real, found.padded) == (REAL, REAL)


def test_what_does_not_tell():
    assert count_tokens(without(batch(), "attention_mask")) is None
    assert count_tokens({"x": np.ones((2, 3)), "y": 1}) is None
    assert count_tokens(np.ones((2, 3))) is None
    assert count_tokens((np.ones((2, 3)), 1)) is None
    assert count_tokens([]) is None
    assert count_tokens({}) is None
    meter = tb.WasteMeter([(np.ones((2, 3)), 1)] * 3)
    assert len(list(meter)) == 3
    metrics = meter.metrics()
    assert math.isnan(metrics["waste"])
    assert (metrics["batches"], metrics["counted"]) == (3, 0)


def test_torch_batches():
    torch = pytest.importorskip("torch")
    made = tb.PadCollator()(SAMPLES)
    assert count_tokens(made)[:2] == (REAL, PADDED)
    for dtype in (torch.bool, torch.int32, torch.float32, torch.bfloat16):
        found = count_tokens({**made, "attention_mask": made["attention_mask"].to(dtype)})
        assert found[:2] == (REAL, PADDED)
    mask = made["attention_mask"].bool()
    square = mask[:, None, None, :] & mask[:, None, :, None]
    assert count_tokens({**made, "attention_mask": square})[:2] == (REAL, PADDED)
    assert count_tokens({**made, "attention_mask": mask.to("meta")}) is None


def test_transformers_batches():
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    collate = transformers.DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    assert count_tokens(collate(copy.deepcopy(SAMPLES)))[:2] == (REAL, REAL)
    encoding = transformers.BatchEncoding(tb.PadCollator()(SAMPLES))
    assert count_tokens(encoding)[:2] == (REAL, PADDED)


@pytest.mark.cuda
def test_a_gpu_counts_without_being_waited_for():
    torch = pytest.importorskip("torch")
    batches = [tb.PadCollator()(SAMPLES).to("cuda"), tb.PaddingFreeCollator()(SAMPLES).to("cuda")]
    meter = tb.WasteMeter(batches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in meter:
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert meter.metrics()["waste"] == 1 - 2 * REAL / (PADDED + REAL)


def test_metrics_while_it_runs():
    collate = tb.PadCollator(return_tensors="np")
    batches = [collate(SAMPLES[:2]), collate(SAMPLES[2:4]), collate(SAMPLES[4:])]
    meter = tb.WasteMeter(batches)
    real = padded = 0
    for given, expected in zip(meter, batches, strict=True):
        assert given is expected
        real += int(expected["attention_mask"].sum())
        padded += expected["attention_mask"].size
        metrics = meter.metrics()
        assert metrics["waste"] == 1 - real / padded
        assert all(type(value) is float for value in metrics.values())
        assert metrics["tokens_per_second"] > 0
    assert metrics["batches"] == metrics["counted"] == 3
    last = meter.metrics()
    assert last == meter.metrics()  # an iteration that has ended stays as it was
    assert 0 < last["wait_p50"] <= last["wait_p95"]
    assert 0 < last["wait_share"] <= 1
    for _ in meter:
        break
    assert meter.metrics()["batches"] == 1
    unused = tb.WasteMeter(batches).metrics()
    assert unused["batches"] == unused["wait_p50"] == 0


def test_waits_are_those_of_the_loader():
    import time

    def slow():
        for k in range(20):
            if k == 10:
                time.sleep(0.05)
            yield {"attention_mask": np.ones((2, 3), np.int64)}

    meter = tb.WasteMeter(slow())
    assert len(list(meter)) == 20
    metrics = meter.metrics()
    assert metrics["wait_p50"] < 0.05 <= metrics["wait_share"] * 1e9
    assert metrics["waste"] == 0


def test_the_median_and_the_slowest_waits(monkeypatch):
    ticks = iter(np.cumsum([0, *(x for wait in (1, 2, 3, 4, 50) for x in (wait, 100))]).tolist())
    last = [0.0]

    def clock():
        last[0] = next(ticks, last[0])
        return last[0]

    batches = [{"attention_mask": np.ones((2, 3), np.int64)}] * 5
    meter = tb.WasteMeter(batches)
    monkeypatch.setattr("time.perf_counter", clock)
    assert len(list(meter)) == 5
    waits = sorted(meter._counts.waits)
    metrics = meter.metrics()
    monkeypatch.undo()
    assert metrics["wait_p50"] == np.median(waits)
    assert metrics["wait_p95"] == pytest.approx(np.quantile(waits, 0.95))
    assert waits[-1] > 2 * waits[0]


def test_a_loader_stays_what_it_is():
    torch = pytest.importorskip("torch")
    sampler = tb.LengthBatchSampler(LENGTHS, batch_size=2, seed=1)
    loader = torch.utils.data.DataLoader(
        SAMPLES, batch_sampler=sampler, collate_fn=tb.PadCollator()
    )
    meter = tb.WasteMeter(loader)
    assert len(meter) == len(loader) == 3
    assert meter.dataset is SAMPLES
    assert meter.batch_sampler is sampler
    assert meter.num_workers == 0
    assert not hasattr(meter, "nothing")
    expected = [found["input_ids"].tolist() for found in loader]
    sampler.set_epoch(0)
    assert [found["input_ids"].tolist() for found in meter] == expected
    fairness = tb.LengthBatchSampler(LENGTHS, batch_size=2, seed=1).fairness()
    assert meter.metrics()["waste"] == pytest.approx(fairness.plan.padding)
    assert "DataLoader" in repr(meter)
    assert copy.copy(meter).dataset is SAMPLES


def test_batch_samplers():
    sampler = tb.LengthBatchSampler(LENGTHS, batch_size=2, seed=1)
    meter = tb.WasteMeter(sampler, lengths=LENGTHS)
    meter.set_epoch(3)
    assert sampler.epoch == 3
    batches = list(meter)
    assert sorted(row for rows in batches for row in rows) == list(range(6))
    padded = sum(len(rows) * max(LENGTHS[i] for i in rows) for rows in batches)
    assert meter.metrics()["waste"] == 1 - REAL / padded
    torch = pytest.importorskip("torch")
    loader = torch.utils.data.DataLoader(SAMPLES, batch_sampler=meter, collate_fn=tb.PadCollator())
    assert sum(len(found["input_ids"]) for found in loader) == 6
    assert meter.metrics()["counted"] == 3


def test_it_pickles():
    meter = pickle.loads(pickle.dumps(tb.WasteMeter([[0, 1]], lengths=[2, 5])))
    assert list(meter) == [[0, 1]]
    assert meter.metrics()["waste"] == 1 - 7 / 10


def test_what_is_no_loader():
    with pytest.raises(TypeError, match=r"WasteMeter\(\): loader=7"):
        tb.WasteMeter(7)
    with pytest.raises(ValueError, match=r"WasteMeter\(\): lengths, row 1: length -2"):
        tb.WasteMeter([], lengths=[1, -2])
    with pytest.raises(TypeError, match=r"has no len\(\)|__len__"):
        len(tb.WasteMeter(iter([])))  # as of the iterator itself


def test_a_trainer_logs_it(tmp_path):
    pytest.importorskip("accelerate")
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, num_labels=2,
    )  # fmt: skip
    rows = [{"input_ids": sample["input_ids"], "labels": 1} for sample in SAMPLES]
    args = transformers.TrainingArguments(
        str(tmp_path), num_train_epochs=2, report_to="none", logging_steps=1, use_cpu=True,
        per_device_train_batch_size=2, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    trainer = transformers.Trainer(model, args, train_dataset=rows, data_collator=tb.PadCollator())
    loader, log = trainer.get_train_dataloader(), trainer.log
    meter = tb.WasteMeter(loader)
    trainer.get_train_dataloader = lambda: meter
    trainer.log = lambda logs, *more: log({**logs, **meter.metrics()}, *more)
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(steps) == 6
    assert all(0 <= entry["waste"] < 1 and entry["tokens_per_second"] > 0 for entry in steps)
    assert meter.metrics()["batches"] == 3


@pytest.mark.parametrize(
    ("batch", "error", "said"),
    [
        ([0, 9], IndexError, "a batch has row 9; expected 0 to 2"),
        ([0, -1], IndexError, "a batch has row -1; expected 0 to 2"),
        ({"a": 1}, TypeError, "expected lists of row numbers"),
        (0, TypeError, "expected lists of row numbers"),
        ([0.5], TypeError, "expected lists of row numbers"),
    ],
)
def test_with_lengths_batches_are_row_numbers(batch: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        list(tb.WasteMeter([batch], lengths=[1, 2, 3]))
