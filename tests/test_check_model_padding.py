"""check_model and how much padding there is; chosen outputs; samples as columns."""

import numpy as np
import pytest

import tightbatch as tb

torch = pytest.importorskip("torch")
nn = torch.nn

LENGTHS = (7, 1, 12, 3)


def samples(lengths=LENGTHS):
    generator = np.random.default_rng(0)
    return [{"input_ids": generator.integers(5, 50, n).tolist()} for n in lengths]


class Loss(nn.Module):
    """A head for each token and a loss, divided by what `over` says."""

    def __init__(self, over):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head, self.over = nn.Embedding(50, 8), nn.Linear(8, 5), over

    def forward(self, input_ids, attention_mask, position_ids=None):
        logits = self.head(self.embed(input_ids))
        each = logits.square().mean(-1) * attention_mask
        if self.over == "rows":
            return {"loss": each.mean(1), "logits": logits}
        by = {
            "all": attention_mask.numel(),
            "width": input_ids.shape[1],
            "tokens": attention_mask.sum(),
            "batch": len(input_ids),
        }
        return {"loss": each.sum() / by[self.over], "logits": logits}


LEFT = {"padding_side": "left"}


@pytest.mark.parametrize("options", [{}, LEFT, {"pad_to_multiple_of": 8}], ids=str)
@pytest.mark.parametrize("over", ["all", "width", "rows"])
def test_a_loss_divided_by_the_padding_too_is_found(over, options):
    report = tb.check_model(Loss(over), tb.PadCollator(**options), samples())
    assert not report.holds
    assert (report.wider > 0.05).all()
    assert (report.padding <= report.tolerance).all()
    assert {f"more padding -> row {row}" for row in range(4)} <= set(report.leaks)
    told = any("loss, one number" in note and "more padding" in note for note in report.notes)
    assert told == (over != "rows")


@pytest.mark.parametrize("options", [{}, LEFT, {"pad_to_multiple_of": 8}], ids=str)
@pytest.mark.parametrize("over", ["tokens", "batch"])
def test_a_loss_divided_by_tokens_or_rows_holds(over, options):
    report = tb.check_model(Loss(over), tb.PadCollator(**options), samples())
    assert report.holds, report
    assert (report.wider <= report.tolerance).all()


def with_positions(values):
    def collate(batch):
        made = tb.PadCollator()(batch)
        made["position_ids"] = values(made["attention_mask"])
        return made

    return collate


@pytest.mark.parametrize(
    "values",
    [
        lambda mask: torch.arange(mask.shape[1]).expand(mask.shape).contiguous(),
        lambda mask: (mask.cumsum(1) - 1) * mask,
    ],
    ids=["counting on", "zero"],
)
def test_positions_are_widened_by_what_is_in_the_padding(values):
    seen = []

    class Model(Loss):
        def forward(self, input_ids, attention_mask, position_ids):
            seen.append(position_ids)
            return super().forward(input_ids, attention_mask)

    report = tb.check_model(Model("tokens"), with_positions(values), samples())
    assert report.holds, report
    assert (report.wider <= report.tolerance).all()
    widest = max(seen, key=lambda one: one.shape[1])
    assert widest.shape[1] == 24
    mask = torch.zeros(4, 24, dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        mask[row, :length] = 1
    assert torch.equal(widest, values(mask))


@pytest.mark.parametrize(
    "values",
    [
        lambda mask: torch.where(mask == 0, torch.arange(mask.shape[1]) * 7 % 5, 0),
        lambda mask: mask[:, None] * mask[..., None],
    ],
    ids=["no story", "a mask of pairs"],
)
def test_padding_that_tells_no_story_is_not_widened(values):
    report = tb.check_model(Loss("all"), with_positions(values), samples())
    assert np.isnan(report.wider).all()
    assert any(note.startswith("more padding could not be tried: ") for note in report.notes)


def test_a_width_that_the_model_cannot_have_is_told():
    class Table(Loss):
        def __init__(self):
            super().__init__("tokens")
            self.places = nn.Embedding(12, 8)

        def forward(self, input_ids, attention_mask):
            self.places(torch.arange(input_ids.shape[1]))
            return super().forward(input_ids, attention_mask)

    report = tb.check_model(Table(), tb.PadCollator(), samples())
    assert np.isnan(report.wider).all()
    assert any("more padding could not be tried: IndexError" in note for note in report.notes)


def test_rows_of_equal_length_say_that_nothing_of_padding_was_tried():
    report = tb.check_model(Loss("all"), tb.PadCollator(), samples((4, 4, 4)))
    assert "the batch has no padding: nothing of padding was tried" in str(report).splitlines()[0]
    assert np.isnan(report.wider).all()


class Contrastive(nn.Module):
    """Compares rows by design; with `leaks`, it also leaks."""

    def __init__(self, leaks=False):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.leaks = nn.Embedding(50, 8), leaks

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids) * attention_mask[..., None]
        x = x.sum(1) / attention_mask.sum(1, keepdim=True)
        pooled = x - x.mean(0) if self.leaks else x
        return {"similarity": x @ x.T, "pooled": pooled}


def test_outputs_that_compare_rows_can_be_left_out():
    report = tb.check_model(Contrastive(), tb.PadCollator(), samples())
    assert not report.holds
    assert any("similarity has shape [4, 4]" in note for note in report.notes)
    for names in (("pooled",), ["pooled"], {"pooled"}, {"pooled": 1}):
        report = tb.check_model(Contrastive(), tb.PadCollator(), samples(), outputs=names)
        assert report.holds, report
        assert list(report.outputs) == ["pooled"]
    wrong = tb.check_model(Contrastive(True), tb.PadCollator(), samples(), outputs=("pooled",))
    assert "row 0 -> row 1" in wrong.leaks


def test_samples_may_be_a_dict_of_columns():
    rows = samples()
    columns = {"input_ids": [row["input_ids"] for row in rows], "label": [0, 1, 0, 1]}
    report = tb.check_model(Contrastive(), drop_labels, columns, outputs=("pooled",))
    assert report.holds, report
    assert len(report.rows) == 4
    datasets = pytest.importorskip("datasets")
    for form in (None, "numpy", "torch"):
        made = datasets.Dataset.from_dict(columns).with_format(form)
        part = tb.check_model(Contrastive(), drop_labels, made[:3], outputs=("pooled",))
        assert part.holds, part
        assert len(part.rows) == 3


def drop_labels(batch):
    return tb.PadCollator()([{"input_ids": sample["input_ids"]} for sample in batch])
