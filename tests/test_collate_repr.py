"""What collators and batches show of themselves, and what they say without their companions."""

import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import tightbatch as tb
import tightbatch.huggingface as hf
from checks import fails, run_python

torch = pytest.importorskip("torch")
SAMPLES = [
    {"input_ids": [5, 6], "label": 1, "text": "a"},
    {"input_ids": [7], "label": 0, "text": "b"},
]


@pytest.mark.parametrize(
    ("collator", "shown"),
    [
        (tb.PadCollator(), "PadCollator()"),
        (tb.PadCollator(padding_side="right", width=None), "PadCollator()"),
        (
            tb.PadCollator({"x": 3}, max_length=5),
            "PadCollator(padding_value={'x': 3}, max_length=5)",
        ),
        (tb.PadCollator(boundaries=[4, 8]), "PadCollator(boundaries=(4, 8))"),
        (tb.PadCollator(dtype=np.float16), "PadCollator(dtype=<class 'numpy.float16'>)"),
        (tb.PaddingFreeCollator(), "PaddingFreeCollator()"),
        (
            tb.PaddingFreeCollator(naming="megatron", max_tokens=64, return_labels=False),
            "PaddingFreeCollator(naming='megatron', max_tokens=64, return_labels=False)",
        ),
        (hf.DataCollatorWithPadding(), "DataCollatorWithPadding()"),
        (
            hf.DataCollatorForTokenClassification(pad_token_id=0),
            "DataCollatorForTokenClassification(pad_token_id=0)",
        ),
        (
            hf.DataCollatorForLanguageModeling(mlm=False),
            "DataCollatorForLanguageModeling(mlm=False)",
        ),
        (
            hf.DataCollatorWithFlattening("np", return_seq_idx=True),
            "DataCollatorWithFlattening(return_tensors='np', return_seq_idx=True)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_collator_shows_what_differs_from_the_default(collator, shown):
    assert repr(collator) == shown
    assert repr(pickle.loads(pickle.dumps(collator))) == shown


def test_a_batch_shows_keys_types_and_shapes():
    shown = "Batch(input_ids: int64 [2, 2], label: int64 [2], text: list of 2, "
    shown += "attention_mask: int64 [2, 2])"
    for tensors in ("pt", "np"):
        batch = tb.PadCollator(return_tensors=tensors)(SAMPLES)
        assert repr(batch) == str(batch) == shown
    batch = tb.PadCollator(dtype={"x": torch.bfloat16})([{"x": [1.5], "y": [1]}]).to("meta")
    shown = "Batch(x: bfloat16 [1, 1] on meta, y: int64 [1, 1] on meta, "
    assert repr(batch) == shown + "attention_mask: int64 [1, 1] on meta)"
    batch = tb.PaddingFreeCollator(naming="megatron")([{"input_ids": [1, 2]}])
    assert "max_seqlen_q: 2, max_seqlen_kv: 2" in repr(batch)
    assert "qkv_format: 'thd'" in repr(batch)
    assert repr(tb.Batch()) == "Batch()"
    assert repr(tb.Batch({0: None, "n": (1, 2)})) == "Batch(0: None, n: tuple of 2)"


class Shows:
    """A collate_fn that sends what a worker's batch shows."""

    def __call__(self, samples):
        batch = tb.PadCollator()(samples)
        return [repr(batch), type(batch).__name__, isinstance(batch, tb.Batch)]


def test_a_batch_of_a_worker_shows_the_same():
    loader = torch.utils.data.DataLoader(SAMPLES, 2, collate_fn=Shows(), num_workers=1)
    assert list(loader) == [[repr(tb.PadCollator()(SAMPLES)), "Batch", True]]


def test_without_torch_the_error_says_what_to_do():
    run_python(
        """
        import sys
        sys.modules["torch"] = None
        import tightbatch as tb
        import tightbatch.huggingface as hf

        for collate, samples in (
            (tb.PadCollator(), [[1], [2, 3]]),
            (tb.PaddingFreeCollator(), [{"input_ids": [1]}]),
            (hf.DataCollatorWithPadding(pad_token_id=0), [{"input_ids": [1]}]),
            (hf.DataCollatorWithFlattening(), [{"input_ids": [1]}]),
        ):
            try:
                collate(samples)
            except ImportError as error:
                text = str(error)
                assert text.startswith(f"{type(collate).__name__}()"), text
                assert "pip install torch" in text, text
                assert 'return_tensors="np"' in text.replace("'", '"'), text
            else:
                raise AssertionError(collate)
        assert tb.PadCollator(return_tensors="np")([[1], [2, 3]]).tolist() == [[1, 0], [2, 3]]
        """
    )


def test_what_is_no_tokenizer():
    with fails(TypeError, "PadCollator.from_tokenizer()", "str", "AutoTokenizer"):
        tb.PadCollator.from_tokenizer("bert")
    for wrong in (None, 5, tb.PadCollator()):
        with fails(TypeError, "PadCollator.from_tokenizer()", "a tokenizer"):
            tb.PadCollator.from_tokenizer(wrong)
    with fails(TypeError, "DataCollatorWithPadding()", "str", "AutoTokenizer"):
        hf.DataCollatorWithPadding("bert")([{"input_ids": [1]}])


def test_a_full_shared_memory_is_an_error_and_no_wait():
    """In a mount of its own, so that no other process runs out of it."""
    if not _can_mount():
        pytest.skip("needs a mount of its own: unshare")
    script = """
        import numpy as np, torch, tightbatch as tb
        rows = [{"input_ids": np.arange(400_000)} for _ in range(4)]
        for collate in (tb.PadCollator(), tb.PaddingFreeCollator()):
            loader = torch.utils.data.DataLoader(rows, 4, collate_fn=collate, num_workers=1)
            try:
                list(loader)
            except RuntimeError as error:
                expected = (type(collate).__name__, "/dev/shm", "--shm-size", "num_workers=0")
                assert all(part in str(error) for part in expected), str(error)
            else:
                raise AssertionError("it fitted")
    """
    paths = [path for path in sys.path if path]
    program = f"import sys; sys.path[:0] = {paths!r}\n" + textwrap.dedent(script)
    mount = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _can_mount():
    try:
        command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except OSError:
        return False


def test_a_batch_cuts_a_long_string():
    shown = repr(tb.Batch(note="y" * 100_000, n=1))
    assert shown.startswith("Batch(note: 'yyy")
    assert shown.endswith(", n: 1)")
    assert len(shown) < 300


def test_one_is_no_plural():
    assert repr(tb.Ragged.from_sequences([[5]])) == "Ragged(1 row, 1 position, int64)"
    assert repr(tb.RaggedDataset({"x": [1]})) == "RaggedDataset(1 row, x: int64)"
    assert repr(tb.LengthBatchSampler([1], batch_size=2)).startswith("<LengthBatchSampler of 1 row")
    assert str(tb.half_report(np.float32([1]))).startswith("1 tensor of 1 number:")
