"""Bad input that others take without a word, or refuse with a misleading one: theirs, then ours."""

import numpy as np
import pytest

import tightbatch as tb
from checks import assert_same, checked, fails

torch = pytest.importorskip("torch")
pad_sequence = torch.nn.utils.rnn.pad_sequence


def test_incumbents_cut_floats_to_ints():
    assert torch.tensor([1.9, 2], dtype=torch.int64).tolist() == [1, 2]
    assert np.array([1.9, 2], np.int64).tolist() == [1, 2]
    assert np.fromiter([1.9, 2], np.int64).tolist() == [1, 2]
    with fails(TypeError, "pad()", "row 0", "column 0", 1.9):
        checked(tb.pad, [[1.9, 2]], dtype=np.int64)


def test_incumbents_let_the_first_type_win():
    rows = [torch.tensor([1, 2]), torch.tensor([1.9])]
    assert pad_sequence(rows, batch_first=True).tolist() == [[1, 2], [1, 0]]
    with fails(TypeError, "pad()", "row 1", "int64", "float32"):
        checked(tb.pad, rows)
    with fails(TypeError, "pad()", "row 1", "float32"):
        checked(tb.pad, rows, dtype=np.int64)
    result = checked(tb.pad, rows, dtype=np.float64)
    assert_same(result, [[1, 2], [float(np.float32(1.9)), 0]], np.float64)


def test_incumbents_pad_ints_with_a_cut_value():
    rows = [torch.tensor([1, 2]), torch.tensor([3])]
    peer = pad_sequence(rows, batch_first=True, padding_value=1.5)
    assert peer.tolist() == [[1, 2], [3, 1]]
    for ours in (rows, [[1, 2], [3]]):
        with fails(ValueError, "pad()", "padding_value", 1.5):
            checked(tb.pad, ours, padding_value=1.5)


def test_incumbents_take_the_value_through_double():
    rows, value = [torch.tensor([1, 2]), torch.tensor([3])], 2**53 + 1
    peer = pad_sequence(rows, batch_first=True, padding_value=value)
    assert peer[1, 1].item() in (2**53, value)
    assert_same(checked(tb.pad, rows, padding_value=value), [[1, 2], [3, value]], np.int64)


def test_incumbents_wrap_ints():
    row = np.array([1, 2**40])
    assert row.astype(np.int32).tolist() == [1, 0]
    with fails(OverflowError, "pad()", "row 0", "column 1", 2**40):
        checked(tb.pad, [row], dtype=np.int32)


def test_incumbents_refuse_ints_without_a_place():
    with pytest.raises(RuntimeError) as caught:
        torch.tensor([1, 2**40], dtype=torch.int32)
    assert "1" not in str(caught.value).split()
    with fails(OverflowError, "pad()", "row 1", "column 1", 2**40):
        checked(tb.pad, [[1], [1, 2**40]], dtype=np.int32)


def test_incumbents_max_length_shorter_than_a_row():
    with fails(ValueError, "pad()", "row 1", 3, 2):
        checked(tb.pad, [[1], [1, 2, 3]], width=2)
    assert_same(checked(tb.pad, [[1], [1, 2, 3]], max_length=2), [[1, 0], [1, 2]], np.int64)


def test_incumbents_multiple_of_zero_or_less():
    for multiple in (0, -8):
        with fails(ValueError, "pad()", "pad_to_multiple_of", multiple):
            checked(tb.pad, [[1], [1, 2, 3]], pad_to_multiple_of=multiple)


def test_incumbents_empty_batches_and_generators():
    with pytest.raises(RuntimeError):
        pad_sequence([], batch_first=True)
    assert_same(checked(tb.pad, []), [], np.int64, (0, 0))
    assert_same(checked(tb.pad, (row for row in ([1], [2, 3]))), [[1, 0], [2, 3]], np.int64)


def test_incumbents_widen_int32_to_int64():
    rows = [np.array([1, 2], np.int32), np.array([3], np.int32)]
    assert_same(checked(tb.pad, rows), [[1, 2], [3, 0]], np.int32)
    assert_same(checked(tb.pad, rows, dtype=np.int64), [[1, 2], [3, 0]], np.int64)


def test_incumbents_share_read_only_memory():
    """Inputs are never written, and outputs are ours to write."""
    row = np.arange(3)
    row.flags.writeable = False
    for rows in ([row], row.reshape(1, 3)):
        result = checked(tb.pad, rows)
        result += 1
        assert result.tolist() == [[1, 2, 3]]
    assert row.tolist() == [0, 1, 2]


def test_incumbents_half_overflows_in_silence():
    assert torch.tensor(70000.0).half().item() == float("inf")
    with fails((OverflowError, ValueError), "pad()", "row 0", "column 1"):
        checked(tb.pad, [torch.tensor([1.0, 70000.0])], dtype=np.float16)
