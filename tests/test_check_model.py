"""check_model on modules of torch: what leaks is found, what does not is not accused."""

import random
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

import tightbatch as tb

torch = pytest.importorskip("torch")
nn = torch.nn
rnn = torch.nn.utils.rnn

LENGTHS = (7, 1, 12, 3)


def rows(lengths=LENGTHS, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(5, 50, n).tolist() for n in lengths]


def samples(lengths=LENGTHS):
    return [{"input_ids": row, "label": i % 2} for i, row in enumerate(rows(lengths))]


class Recurrent(nn.Module):
    def __init__(self, packed, batch_first=True, bidirectional=True):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(50, 8, padding_idx=0)
        self.lstm = nn.LSTM(8, 6, bidirectional=bidirectional, batch_first=batch_first)
        self.packed, self.batch_first = packed, batch_first

    def forward(self, input_ids, lengths, **_):
        x = self.embed(input_ids)
        if not self.packed:
            tokens, (last, _) = self.lstm(x)
        else:
            x = rnn.pack_padded_sequence(
                x, lengths, batch_first=self.batch_first, enforce_sorted=False
            )
            tokens, (last, _) = self.lstm(x)
            tokens = rnn.pad_packed_sequence(tokens, batch_first=self.batch_first)[0]
        return {"tokens": tokens, "last": last}


class Convolutions(nn.Module):
    def __init__(self, masked, norm=False, pool="max"):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(50, 8, padding_idx=0)
        self.first = nn.Conv1d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.second = nn.Conv1d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)
        self.masked, self.pool = masked, pool

    def forward(self, input_ids, attention_mask, **_):
        keep = attention_mask[:, None].float() if self.masked else 1
        x = self.embed(input_ids).transpose(1, 2) * keep
        x = torch.relu(self.norm(self.first(x))) * keep
        x = torch.relu(self.second(x)) * keep
        return self.head(x.max(-1).values if self.pool == "max" else x.mean(-1))


class Mean(nn.Module):
    """The mean over tokens: with the mask, without it, or by the padding's id."""

    def __init__(self, by=None):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.by = nn.Embedding(50, 4), by

    def forward(self, x, attention_mask=None):
        keep = attention_mask if self.by == "mask" else x != 0
        x = self.embed(x)
        if self.by is None:
            return x.mean(1)
        return (x * keep[..., None]).sum(1) / keep.sum(1, keepdim=True)


def as_x(batch):
    return {"x": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def padded(**options):
    return lambda batch: as_x(tb.PadCollator(**options)(batch))


def time_first(batch):
    made = tb.PadCollator(return_lengths=True)(batch)
    return {"input_ids": made["input_ids"].T.contiguous(), "lengths": made["lengths"]}


WITH_LENGTHS = tb.PadCollator(return_lengths=True)


@pytest.mark.parametrize(
    ("model", "collate"),
    [
        (Recurrent(packed=True), WITH_LENGTHS),
        (Recurrent(packed=True, bidirectional=False), WITH_LENGTHS),
        (Recurrent(packed=True, batch_first=False), time_first),
        (Convolutions(masked=True), tb.PadCollator()),
        (Convolutions(masked=True), tb.PadCollator(padding_side="left")),
        (Convolutions(masked=True, norm=True), tb.PadCollator()),
        (Mean("mask"), padded()),
        (Mean("mask"), padded(width=16)),
        (Mean("mask"), padded(return_tensors="np")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_leaks_nothing_holds(model, collate):
    report = tb.check_model(model, collate, samples())
    assert report.holds, report
    assert report.leaks == report.unmoved == ()
    assert report.place is None
    assert report.largest <= report.tolerance < 1e-5
    assert (np.diagonal(report.matrix) > 1000 * report.tolerance).all()
    for moved in (report.padding, report.alone, report.company, report.again):
        assert (moved <= report.tolerance).all()  # and none is NaN: all was tried
    assert report.dtype == "float32"


@pytest.mark.parametrize(
    ("model", "collate", "place", "told"),
    [
        (Recurrent(packed=False), WITH_LENGTHS, ("lstm", "LSTM"), "pack_padded_sequence"),
        (
            Recurrent(packed=False, bidirectional=False),
            WITH_LENGTHS,
            ("lstm", "LSTM"),
            "pack_padded_sequence",
        ),
        (
            Recurrent(packed=False, batch_first=False),
            time_first,
            ("lstm", "LSTM"),
            "pack_padded_sequence",
        ),
        (Convolutions(masked=False), tb.PadCollator(), ("first", "Conv1d"), "a convolution"),
        (
            Convolutions(masked=True, pool="mean"),
            tb.PadCollator(),
            ("", "Convolutions"),
            "a mean",
        ),
        (Mean(), padded(), ("", "Mean"), "needs the mask"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_leaks_is_found_and_named(model, collate, place, told):
    report = tb.check_model(model, collate, samples())
    assert not report.holds
    assert report.leaks
    assert (report.place.module, report.place.kind) == place
    assert told in report.place.hint
    assert told in str(report)
    # The longest row has no padding, and nothing moves it.
    moved = [leak for leak in report.leaks if "->" in leak and not leak.startswith("more padding")]
    assert not any("row 2" in leak.split("-> ")[-1] for leak in moved)


def test_batch_norm_mixes_rows_in_training_alone():
    model = Convolutions(masked=True, norm=True)
    report = tb.check_model(model, tb.PadCollator(), samples(), training=True)
    assert report.place.kind == "BatchNorm1d"
    others = report.matrix[~np.eye(4, dtype=bool)]
    assert (others > 100 * report.tolerance).all()
    assert any("BatchNorm1d" in note for note in report.notes)


def test_a_mean_without_its_mask_is_placed_between_modules():
    report = tb.check_model(Convolutions(True, pool="mean"), tb.PadCollator(), samples())
    assert report.place.between == ("after second", "before head")


def test_padding_that_is_told_by_its_id_is_no_leak():
    report = tb.check_model(Mean("id"), padded(), samples())
    assert report.holds, report
    assert any("tells padding by its id" in note for note in report.notes)


def test_the_model_and_random_states_are_left_as_they_were():
    model = Convolutions(masked=True, norm=True)
    model.train()
    model.first.eval()
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    legacy = np.random.get_state
    states = torch.get_rng_state(), legacy()[1].tolist(), random.getstate()
    tb.check_model(model, tb.PadCollator(), samples(), training=True)
    assert model.training
    assert not model.first.training
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert legacy()[1].tolist() == states[1]
    assert random.getstate() == states[2]
    assert torch.is_grad_enabled()


def test_no_id_is_beyond_the_vocabulary():
    model = nn.Sequential(nn.Embedding(3, 8), nn.Linear(8, 2)).double()
    few = [{"input_ids": [1, 2, 2, 1][:n] * 3} for n in (4, 2, 3)]
    report = tb.check_model(model, tb.PadCollator(), few, call=lambda m, b: m(b["input_ids"]))
    assert (report.matrix.diagonal() > 0).all()
    assert report.largest <= report.tolerance


def test_samples_are_left_as_they_were():
    given = samples()
    tb.check_model(Mean("mask"), padded(), given)
    assert given == samples()


# Samples and batches of every kind.


class First(nn.Module):
    """A mean by the mask, of the first of what it gets."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(50, 4)

    def forward(self, ids, *rest):
        keep = (ids != 0)[..., None]
        return (self.embed(ids) * keep).sum(1)


Pair = namedtuple("Pair", "ids mask")


@dataclass(frozen=True)
class Sample:
    ids: list


KINDS = {
    "lists": (lambda row: row, tb.PadCollator()),
    "arrays": (np.array, tb.PadCollator()),
    "tensors": (torch.tensor, tb.PadCollator()),
    "int32 tensors": (lambda row: torch.tensor(row, dtype=torch.int32), tb.PadCollator()),
    "tuples": (lambda row: (row, 1), tb.PadCollator()),
    "tuples with a mask": (lambda row: (row, [1] * len(row)), tb.PadCollator()),
    "namedtuples": (lambda row: Pair(row, [1] * len(row)), tb.PadCollator()),
    "dataclasses": (
        Sample,
        lambda batch: tb.PadCollator()([sample.ids for sample in batch]),
    ),
    "nested dicts": (
        lambda row: {"text": {"ids": row}},
        lambda batch: tb.PadCollator()([sample["text"]["ids"] for sample in batch]),
    ),
    "a list as batch": (lambda row: row, lambda batch: [tb.PadCollator()(batch), "name"]),
    "torch's pad_sequence": (
        torch.tensor,
        lambda batch: rnn.pad_sequence(batch, batch_first=True),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_every_kind(kind):
    make, collate = KINDS[kind]
    given = [make(row) for row in rows()]
    report = tb.check_model(First(), collate, given)
    assert report.holds, report
    wrong = tb.check_model(
        First(), collate, given, call=lambda model, batch: model.embed(tokens_of(batch)).mean(1)
    )
    assert not wrong.holds
    assert any(leak.startswith("padding") for leak in wrong.leaks)


def tokens_of(batch):
    return batch[0] if isinstance(batch, (tuple, list)) else batch


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("by", ["mask", "nothing"])
def test_features(dtype, by):
    class Frames(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(5, 4, dtype=dtype)

        def forward(self, x, attention_mask):
            keep = attention_mask[..., None] if by == "mask" else torch.ones_like(x[..., :1])
            return (self.layer(x) * keep).sum(1) / keep.sum(1)

    given = [{"x": torch.randn(n, 5, dtype=dtype)} for n in LENGTHS]
    report = tb.check_model(Frames(), tb.PadCollator({"x": 0}), given)
    assert report.holds is (by == "mask"), report
    assert report.dtype == str(dtype).removeprefix("torch.")
    assert report.tolerance < (1e-4 if dtype == torch.float32 else 1e-12)


def test_frames_last_and_fewer_steps_out():
    """[batch, features, time], with a stride: outputs have a time of their own."""

    class Strided(nn.Module):
        def __init__(self, masked):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Conv1d(5, 4, 2, stride=2)
            self.masked = masked

        def forward(self, x, lengths):
            if self.masked:
                x = x * (torch.arange(x.shape[2]) < lengths[:, None])[:, None]
            return self.layer(x).transpose(1, 2)  # of which a row has lengths // 2

    def collate(batch):
        made = tb.PadCollator({"x": 0}, return_lengths=True)(batch)
        return {"x": made["x"].transpose(1, 2).contiguous(), "lengths": made["lengths"]}

    given = [{"x": torch.randn(n, 5)} for n in (6, 4, 10)]
    assert tb.check_model(Strided(True), collate, given).holds
    assert tb.check_model(Strided(False), collate, given).holds  # 2 | length: nothing is read
    report = tb.check_model(
        Strided(False),
        collate,
        given,
        call=lambda model, batch: model(**batch) + model(**batch).mean(1, keepdim=True),
    )
    assert any(leak.startswith("padding") for leak in report.leaks)


def test_a_width_that_is_also_a_number_of_classes():
    """Logits [4 rows, 12 classes] beside tokens [4 rows, 12 columns] are of rows."""
    torch.manual_seed(0)
    model = nn.Embedding(50, 12)

    def call(model, batch):
        return (model(batch) * (batch != 0)[..., None]).sum(1)

    report = tb.check_model(model, tb.PadCollator(), rows(), call=call)
    assert report.outputs == {"output": "for each row"}
    assert report.holds, report


def test_tokens_of_all_rows_in_one_dimension():
    """A batch of [total], as for flash attention: rows by their boundaries alone."""

    class Line(nn.Module):
        def __init__(self, wrong):
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.wrong = nn.Embedding(50, 4), wrong

        def forward(self, ids, cu_seqlens):
            x = self.embed(ids).cumsum(0)
            if not self.wrong:
                starts = torch.cat([torch.zeros(1, 4), x])[cu_seqlens[:-1]]
                x = x - starts.repeat_interleave(cu_seqlens.diff(), 0)
            ends = x[cu_seqlens[1:] - 1]
            return {"tokens": x, "rows": ends}

    def collate(batch):
        ids = [torch.tensor(sample["input_ids"]) for sample in batch]
        return {
            "ids": torch.cat(ids),
            "cu_seqlens": torch.from_numpy(tb.cu_seqlens([len(row) for row in ids])).long(),
        }

    right = tb.check_model(Line(wrong=False), collate, samples())
    assert right.outputs == {"tokens": "for each token", "rows": "for each row"}
    assert right.holds, right
    assert any("no padding" in note for note in right.notes)
    wrong = tb.check_model(Line(wrong=True), collate, samples())
    assert {"row 0 -> row 1", "row 0 -> row 3", "alone: row 1"} <= set(wrong.leaks)
    assert "row 1 -> row 0" not in wrong.leaks


def test_packs_are_checked_row_by_row():
    tokens = rows()
    packs = [
        {"input_ids": tokens[0] + tokens[1], "seq_lengths": [7, 1]},
        {"input_ids": tokens[2] + tokens[3], "seq_lengths": [12, 3]},
    ]

    def collate(batch):
        made = tb.PadCollator()([{"input_ids": sample["input_ids"]} for sample in batch])
        lengths = [list(sample["seq_lengths"]) for sample in batch]
        ids = tb.segment_ids(lengths, made["input_ids"].shape[1])
        return {"ids": made["input_ids"], "segments": torch.from_numpy(ids)}

    class Segments(nn.Module):
        def __init__(self, separate):
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.separate = nn.Embedding(50, 4), separate

        def forward(self, ids, segments):
            segments = segments if self.separate else (segments > 0).long()
            same = (segments[:, :, None] == segments[:, None]) & (segments > 0)[:, None]
            return same.float() @ self.embed(ids)

    right = tb.check_model(Segments(True), collate, packs)
    assert right.rows == ("row 0.0", "row 0.1", "row 1.0", "row 1.1")
    assert right.holds, right
    wrong = tb.check_model(Segments(False), collate, packs)
    inside = {"row 0.0 -> row 0.1", "row 0.1 -> row 0.0", "row 1.0 -> row 1.1"}
    assert inside <= set(wrong.leaks)
    assert not any(leak.startswith("row 0") and "-> row 1" in leak for leak in wrong.leaks)
    # Positions that start anew say the same as seq_lengths.
    for pack in packs:
        pack["position_ids"] = [i for n in pack["seq_lengths"] for i in range(n)]
    told = [{k: pack[k] for k in ("input_ids", "position_ids")} for pack in packs]

    def by_positions(batch):
        starts = [np.flatnonzero(np.array(s["position_ids"]) == 0) for s in batch]
        sizes = [len(s["input_ids"]) for s in batch]
        lengths = [np.diff([*s, n]).tolist() for s, n in zip(starts, sizes, strict=True)]
        return collate([{**s, "seq_lengths": n} for s, n in zip(batch, lengths, strict=True)])

    assert tb.check_model(Segments(True), by_positions, told).holds
    assert inside <= set(tb.check_model(Segments(False), by_positions, told).leaks)


@pytest.mark.parametrize("count", [2, 9, 33])
def test_many_rows_are_changed_by_halves_and_leaks_found_one_by_one(count):
    lengths = np.random.default_rng(1).integers(1, 20, count).tolist()
    given = samples(lengths)
    report = tb.check_model(Mean("mask"), padded(), given)
    assert report.holds, report
    assert not np.isnan(report.matrix).any()

    class Neighbour(Mean):
        """Adds a little of row 0 to the last row."""

        def forward(self, x, attention_mask):
            found = super().forward(x, attention_mask)
            if len(x) > 1:
                found[-1] = found[-1] + 1e-3 * found[0]
            return found

    wrong = tb.check_model(Neighbour("mask"), padded(), given)
    last = count - 1
    assert f"row 0 -> row {last}" in wrong.leaks
    assert [leak for leak in wrong.leaks if "->" in leak] == [f"row 0 -> row {last}"]


# Controls.


def test_a_model_that_forgets_its_input_proves_nothing():
    class Deaf(Mean):
        def forward(self, x, attention_mask):
            return super().forward(x, attention_mask) * 0 + 1

    report = tb.check_model(Deaf("mask"), padded(), samples())
    assert not report.holds
    assert report.leaks == ()
    assert report.unmoved == report.rows
    assert "SHOWS NOTHING" in str(report)


def test_random_numbers_and_states_prove_nothing():
    class Noisy(Mean):
        calls = 0

        def forward(self, x, attention_mask):
            Noisy.calls += 1
            return super().forward(x, attention_mask) + (
                torch.rand(()) if self.by == "mask" else Noisy.calls
            )

    for by in ("mask", "id"):
        report = tb.check_model(Noisy(by), padded(), samples())
        assert not report.holds
        assert (report.again > report.tolerance).all()
        assert "SHOWS NOTHING" in str(report)
        assert "dropout" in report.place.hint


@pytest.mark.parametrize("kind", ["module", "function", "attention", "lstm"])
def test_dropout_is_off_in_training(kind):
    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.embed = nn.Embedding(50, 8)
            self.drop = nn.Dropout(0.5)
            self.lstm = nn.LSTM(8, 8, num_layers=2, dropout=0.5, batch_first=True)

        def forward(self, input_ids, attention_mask, **_):
            assert self.training
            x = self.embed(input_ids)
            if kind == "module":
                return self.drop(x)
            if kind == "function":
                return nn.functional.dropout(x, 0.5, self.training)
            if kind == "lstm":
                return self.lstm(x)[0]
            mask = attention_mask[:, None].bool()
            return nn.functional.scaled_dot_product_attention(x, x, x, mask, 0.5)

    model = Dropping().eval()
    report = tb.check_model(model, tb.PadCollator(), samples(), training=True)
    assert report.holds, report
    assert model.lstm.dropout == 0.5
    assert not model.training


def test_the_tolerance_follows_from_type_and_depth():
    def deep(layers, dtype):
        torch.manual_seed(0)
        blocks = [nn.Linear(8, 8) for _ in range(layers)]
        for block in blocks:
            nn.init.orthogonal_(block.weight)
        return nn.Sequential(nn.Embedding(50, 8), *blocks).to(dtype)

    found = {
        (layers, dtype): tb.check_model(deep(layers, dtype), tb.PadCollator(), rows())
        for layers in (3, 15)
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    }
    for (layers, dtype), report in found.items():
        assert report.holds, report
        assert report.depth == layers + 1
        roundings = 32 if dtype == torch.float32 else 1
        expected = roundings * torch.finfo(dtype).eps * (layers + 1) ** 0.5
        assert report.tolerance == pytest.approx(expected)
    with torch.autocast("cpu", torch.bfloat16):
        report = tb.check_model(deep(3, torch.float32), tb.PadCollator(), rows())
    assert (report.dtype, report.holds) == ("bfloat16", True)
    strict = tb.check_model(Mean(), padded(), samples(), tolerance=10.0)
    assert strict.tolerance == 10.0
    assert strict.leaks == ()


def test_what_does_not_hide_behind_a_score_for_never():
    """-1e9 at padding does not make all else look small."""

    class Scores(Mean):
        def forward(self, x, attention_mask):
            pooled = self.embed(x) + (1e-3 * super().forward(x, attention_mask))[:, None]
            return pooled.masked_fill(attention_mask[..., None] == 0, -1e9)

    report = tb.check_model(Scores(), padded(), samples())
    assert any(leak.startswith("padding") for leak in report.leaks)
    assert max(report.scales.values()) < 1e5


def test_a_collate_fn_that_cuts_rows_off_says_so():
    report = tb.check_model(Mean("mask"), lambda batch: padded()(batch[:3]), samples())
    assert any("row 3 is not in the batch" in note for note in report.notes)
    assert np.isnan(report.matrix[3]).all()


def test_a_collate_fn_may_sort():
    def by_length(batch):
        return padded()(sorted(batch, key=lambda sample: -len(sample["input_ids"])))

    assert tb.check_model(Mean("mask"), by_length, samples()).holds
    assert not tb.check_model(Mean(), by_length, samples()).holds


@pytest.mark.parametrize("side", ["right", "left"])
def test_tokens_that_the_collate_fn_adds_are_no_padding(side):
    """A first and a last token, which no sample has."""

    def collate(batch):
        return padded(padding_side=side)(
            [{"input_ids": [1, *sample["input_ids"], 2]} for sample in batch]
        )

    report = tb.check_model(Mean("mask"), collate, samples())
    assert report.holds, report
    wrong = tb.check_model(Mean(), collate, samples())
    assert {"padding -> row 0", "padding -> row 1", "padding -> row 3"} <= set(wrong.leaks)
    assert "padding -> row 2" not in wrong.leaks


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"model": len}, TypeError, "model="),
        ({"collate_fn": 3}, TypeError, "collate_fn="),
        ({"samples": {"input_ids": [1, 2]}}, TypeError, "samples: found type dict"),
        ({"samples": {"input_ids": [[1], [2]], "label": [1]}}, TypeError, "equally long"),
        ({"samples": {}}, TypeError, "samples: found type dict"),
        ({"outputs": "logits"}, TypeError, "outputs='logits'"),
        ({"outputs": [3]}, TypeError, "outputs=[3]"),
        ({"outputs": ()}, ValueError, "outputs=()"),
        ({"outputs": ["logit"]}, ValueError, "no 'logit'; expected names of ['"),
        ({"samples": []}, ValueError, "an empty list"),
        ({"samples": [{"input_ids": [1, 2]}]}, ValueError, "found 1 row"),
        ({"samples": [{"text": "a b"}, {"text": "c"}]}, ValueError, "'text'"),
        ({"collate_fn": lambda batch: "a batch"}, TypeError, "without tensors"),
        ({"collate_fn": lambda batch: {"x": torch.ones(2, 3)}}, ValueError, "none of ['x']"),
        (
            {"collate_fn": lambda batch: {"x": torch.randn(2, 3)}, "seed": 1},
            ValueError,
            "none of ['x']",
        ),
        (
            {
                "collate_fn": lambda batch: {
                    "x": (x := tb.PadCollator()(batch)["input_ids"]) + x.sum(),
                    "attention_mask": x,
                }
            },
            ValueError,
            "does not mix rows",
        ),
        ({"call": lambda model, batch: torch.ones(())}, ValueError, "no output is of single rows"),
        ({"call": lambda model, batch: "nothing"}, ValueError, "found none"),
    ],
)
def test_errors_say_what_is_wrong(arguments, error, told):
    right = {"model": Mean("mask"), "collate_fn": padded(), "samples": samples()}
    with pytest.raises(error) as caught:
        tb.check_model(**{**right, **arguments})
    assert str(caught.value).startswith("check_model(): ")
    assert told in str(caught.value)


def test_what_the_model_does_not_take_is_its_error_with_a_note():
    with pytest.raises(TypeError, match="input_ids") as caught:
        tb.check_model(Mean("mask"), tb.PadCollator(), samples())
    assert "call=" in caught.value.__notes__[0]


def test_a_collate_fn_that_remembers_is_copied_and_a_random_one_refused():
    class Alternating:
        count = 0

        def __call__(self, batch):
            self.count += 1
            made = padded()(batch)
            return {**made, "x": made["x"].flip(0) if self.count % 2 else made["x"]}

    count = iter(range(1000))

    def counting(batch):
        return {**padded()(batch), "extra": torch.tensor([next(count)])}

    with pytest.raises(ValueError, match="gives another batch for the same samples"):
        tb.check_model(Mean("mask"), counting, samples())
    collate = Alternating()
    tb.check_model(Mean("id"), collate, samples())
    assert collate.count == 2
