"""Amp where numbers overflow: it stops, and names the module, the rows and the parameters."""

import copy
import io
import math
import pickle
import warnings

import numpy as np
import pytest

import tightbatch as tb
from checks import amp_devices
from conftest import SANITIZED

torch = pytest.importorskip("torch")

from tightbatch.amp import Amp, GradScaler, Overflow  # noqa: E402

DEVICES = amp_devices(torch)
HALVES = ["float32", "bfloat16", "float16"]

pytestmark = [pytest.mark.skipif(SANITIZED, reason="it is torch that computes")]


def layers(count=4, device="cpu"):
    torch.manual_seed(0)
    return torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(count))).to(device)


def loop_of(model, dtype="float16", lr=0.1, **given):
    return Amp(model, torch.optim.SGD(model.parameters(), lr=lr), dtype=dtype, **given)


def step(loop, model, x, **given):
    with loop.autocast():
        loss = model(x).float().square().mean()
    return loop.step(loss, **given)


def rows(value=1.0, bad=(), fill=math.inf, device="cpu"):
    x = torch.full((4, 3), value)
    x[list(bad)] = fill
    return x.to(device)


def bits(model):
    return [p.detach().cpu().numpy().tobytes() for p in model.parameters()]


# It stops, or goes on with what it had.


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("fill", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("max_norm", [None, 1.0])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_any_number_of_bad_batches_leaves_weights_that_train(
    device, dtype, fill, max_norm, accumulate
):
    """144 in a row, then a good one."""
    model = layers(device=device)
    given = {"max_norm": max_norm, "accumulate": accumulate, "max_skipped": None}
    loop = loop_of(model, dtype, **given)
    before, scale = bits(model), loop.scaler.get_scale()
    for _ in range(144 * accumulate):
        assert not step(loop, model, rows(bad=[1], fill=fill, device=device))
        assert bits(model) == before
    assert loop.scaler.get_scale() == scale
    assert loop.skipped_steps == 144
    done = [step(loop, model, rows(device=device)) for _ in range(accumulate)]
    assert done[-1]
    assert loop.scaler.overflowed == ()
    assert loop.overflow is None
    assert bits(model) != before
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("max_skipped", [1, 3, 50])
def test_it_stops_after_so_many_and_says_why(device, dtype, max_skipped):
    model = layers(device=device)
    loop = loop_of(model, dtype, max_skipped=max_skipped)
    before = bits(model)
    step(loop, model, rows(device=device))
    after = bits(model)
    assert before != after
    for attempt in range(2):  # who catches it may go on, as far again
        for _ in range(max_skipped - 1):
            assert not step(loop, model, rows(bad=[2], device=device))
        with pytest.raises(FloatingPointError) as caught:
            step(loop, model, rows(bad=[2], device=device))
        told = str(caught.value)
        assert told.startswith(f"Amp.step(): {max_skipped} group")
        for word in ("of 0 (Linear), whose input is not finite", "rows 2 of", "0.weight", "nan"):
            assert word in told, told
        assert bits(model) == after
        assert loop.skipped_steps == max_skipped * (attempt + 1)
    assert step(loop, model, rows(device=device))


def test_a_good_group_between_begins_the_count_again():
    model = layers()
    loop = loop_of(model, max_skipped=3)
    for _ in range(5):
        assert not step(loop, model, rows(bad=[0]))
        assert not step(loop, model, rows(bad=[0]))
        assert step(loop, model, rows())


def test_finish_stops_too():
    model = layers()
    loop = loop_of(model, accumulate=3, max_skipped=1)
    step(loop, model, rows(bad=[0]))
    with pytest.raises(FloatingPointError, match=r"^Amp\.finish\(\): 1 group in a row"):
        loop.finish()
    assert not loop.finish()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("every", [3, 50])
def test_most_of_many_groups_skipped_is_told_once(dtype, every):
    """One good group in a while begins the count of those in a row again."""
    model = layers()
    loop = loop_of(model, dtype, max_skipped=60)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(250):
            step(loop, model, rows(bad=() if number % every == 0 else [1]))
    told = [str(one.message) for one in caught if "of the last 100 groups" in str(one.message)]
    assert len(told) == 1
    assert told[0].startswith("Amp.step(): ")
    assert int(told[0].split()[1]) > 50
    assert {one.filename for one in caught} == {__file__}


@pytest.mark.parametrize("given", [{}, {"max_skipped": None}], ids=str)
def test_half_of_many_groups_skipped_and_any_number_on_purpose_are_not_told(given):
    model = layers()
    loop = loop_of(model, "bfloat16", **given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(210):
            is_good = number % 2 == 0 if not given else number % 40 == 0
            step(loop, model, rows(bad=() if is_good else [1]))
    assert loop.skipped_steps >= 105


@pytest.mark.filterwarnings("ignore:.* of the last 100 groups")
@pytest.mark.parametrize("least", [None, 2.0**-8, 2.0**-126])
def test_a_search_for_the_scale_is_no_reason_to_stop(least):
    """Gradients that overflow by themselves: only at the lowest scale nothing can help."""
    model = layers(1)
    given = {} if least is None else {"min_scale": least}
    loop = loop_of(model, scaler=GradScaler("cpu", **given), max_skipped=3)
    model[0].weight.register_hook(lambda gradient: gradient * torch.inf)
    floor = 0 if least is None else int(math.log2(least))
    for exponent in range(15, floor - 1, -1):
        assert not step(loop, model, rows())
        assert loop.scaler.get_scale() == 2.0**exponent
    assert not step(loop, model, rows())
    assert not step(loop, model, rows())
    with pytest.raises(FloatingPointError, match=r"overflowed; .* finite: 0\.weight"):
        step(loop, model, rows())


def test_one_that_needs_a_scale_below_one_gets_it():
    model = torch.nn.Linear(2, 1, bias=False)
    scaler = GradScaler("cpu", min_scale=2.0**-20)
    loop = loop_of(model, lr=0.0, scaler=scaler)
    outcome = []
    for _ in range(40):
        with loop.autocast():
            loss = (model(torch.ones(1, 2)) * 3e4).float().sum() * 100
        outcome.append(loop.step(loss))
    assert outcome[-1]
    assert loop.scaler.get_scale() < 1


def test_one_bad_batch_in_a_while_costs_one_step():
    torch.manual_seed(0)
    model = layers(2)
    scaler = GradScaler("cpu", 256.0, growth_interval=300)
    loop = loop_of(model, lr=1e-6, scaler=scaler)
    scales = []
    for iteration in range(1500):
        bad = iteration % 50 == 49
        assert step(loop, model, rows(1e-3, bad=[1] if bad else ())) is not bad
        scales.append(loop.scaler.get_scale())
    assert min(scales) == 2.0**8
    assert max(scales) == 2.0**12  # it grows between them
    assert loop.skipped_steps == 30
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("way", ["a low scale", "no scaler", "a state"])
def test_updates_that_vanish_are_told_once(way):
    model = torch.nn.Linear(4, 4, bias=False)
    given = {}
    if way == "a low scale":
        given["scaler"] = GradScaler("cpu", 2.0**-10)
    elif way == "no scaler":
        given["scaler"] = GradScaler("cpu", enabled=False)
    loop = loop_of(model, **given)
    if way == "a state":
        state = loop.state_dict()
        loop.load_state_dict({**state, "scaler": {**state["scaler"], "scale": 1e-30}})
    before = bits(model)

    def go():
        with loop.autocast():
            loss = model(torch.ones(1, 4)).float().sum() * 1e-9
        return loop.step(loss)

    with pytest.warns(RuntimeWarning, match="gradients of the group are 0, with a loss of") as told:
        assert go()
    assert told[0].filename == __file__
    assert go()  # a warning is an error here
    assert bits(model) == before


def test_a_loss_of_zero_has_no_gradient_to_lose():
    model = layers(1)
    loop = loop_of(model)
    with loop.autocast():
        loss = torch.relu(model(rows()).float() - 100).sum()
    assert loop.step(loss)


# Which module.


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("number", [0, 1, 3])
def test_the_layer_that_overflowed_in_forward_is_named_alone(device, number):
    """All four have gradients that are NaN: backward goes through every layer."""
    model = layers(device=device)
    loop = loop_of(model)
    with torch.no_grad():
        model[number].weight.fill_(3e4)
        model[number].bias.fill_(3e4)
        model[number].weight.abs_()
    with torch.no_grad():
        for layer in model:
            layer.bias.fill_(2.0)
    assert not step(loop, model, rows(device=device))
    told = loop.overflow
    assert isinstance(told, Overflow)
    assert told.module == str(number)
    assert told.parameters == loop.scaler.overflowed
    assert len(told.parameters) == 8
    assert "is not finite either" not in told.reason
    assert f"that of {number} (Linear)" in str(told)
    assert loop.overflow is told


class Hidden(torch.nn.Module):
    """An overflow that the loss does not show: ReLU makes 0 of -inf."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 3), "b": torch.nn.Linear(3, 3)})
        torch.nn.init.constant_(self.inner["a"].weight, -6e4)

    def forward(self, x, scale=1.0):
        return self.inner["b"](torch.relu(self.inner["a"](x)) * scale)


def test_an_overflow_that_the_loss_does_not_show():
    model = Hidden()
    loop = loop_of(model)
    with loop.autocast():
        loss = model(rows(5.0), scale=2.0).float().square().mean()
    assert loss.isfinite()
    model.inner["b"].weight.register_hook(lambda gradient: gradient * torch.nan)
    assert not loop.step(loss)
    assert loop.overflow.module == "inner.a"
    assert math.isfinite(loop.overflow.loss)
    assert loop.overflow.parameters == ("inner.b.weight",)


class Functional(torch.nn.Module):
    """An overflow between modules is the outer module's."""

    def __init__(self, output):
        super().__init__()
        self.layer, self.output = torch.nn.Linear(3, 3), output

    def forward(self, x):
        return self.output(self.layer(x) * math.inf)


@pytest.mark.parametrize(
    "output",
    [
        lambda x: x,
        lambda x: (torch.ones(4), x),
        lambda x: [None, 3, (x,)],
        lambda x: {"a": 1, "b": {"c": x}},
    ],
)
def test_outputs_of_every_kind(output):
    model = torch.nn.ModuleDict({"m": Functional(output)})
    model.forward = lambda x: model["m"](x)
    loop = loop_of(model)

    def first(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            return next((f for f in map(first, reversed(value)) if f is not None), None)
        return value if isinstance(value, torch.Tensor) else None

    with loop.autocast():
        loss = first(model(rows())).float().sum()
    assert not loop.step(loss)
    assert loop.overflow.module == "m"
    assert loop.overflow.rows == (0, 1, 2, 3)


def test_the_model_itself_and_a_loss_outside_of_it():
    model = Functional(lambda x: x)
    loop = loop_of(model)
    assert not step(loop, model, rows())
    assert loop.overflow.module == ""
    assert "that of the model (Functional)" in str(loop.overflow)
    model = layers()
    loop = loop_of(model)
    with loop.autocast():
        loss = model(rows()).float().sum() / 0
    assert not loop.step(loss)
    assert loop.overflow.module is None
    assert "each module's output is finite" in loop.overflow.reason


def test_a_forward_pass_that_is_finite():
    model = layers()
    loop = loop_of(model)
    model[2].bias.register_hook(lambda gradient: gradient * torch.nan)
    assert not step(loop, model, rows())
    assert (loop.overflow.module, loop.overflow.parameters) == (None, ("2.bias",))
    assert "the forward pass is finite" in str(loop.overflow)


def test_looking_leaves_no_trace():
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 3)
    )
    loop = loop_of(model)
    step(loop, model, rows() + torch.arange(4)[:, None])
    x = rows() + torch.arange(4)[:, None]
    with loop.autocast():
        loss = model(x).float().sum() * torch.inf
    assert not loop.step(loss)
    buffers = [buffer.clone() for buffer in model.buffers()]
    state, weights = torch.get_rng_state(), bits(model)
    assert loop.overflow.module is None
    assert all(map(torch.equal, buffers, model.buffers()))
    assert torch.equal(state, torch.get_rng_state())
    assert bits(model) == weights
    assert all(p.grad is None for p in model.parameters())
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_the_model_can_be_copied_and_saved_inside_and_outside():
    model = layers()
    loop = loop_of(model)
    step(loop, model, rows(bad=[0]))
    for kept in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert bits(kept) == bits(model)
    with loop.autocast():
        torch.save(model.state_dict(), io.BytesIO())
        with loop.autocast():  # one in the other
            model(rows())
        assert len(model._forward_pre_hooks) == 1
    assert not model._forward_pre_hooks
    with pytest.raises(ZeroDivisionError), loop.autocast():
        1 / 0  # noqa: B018
    assert not model._forward_pre_hooks


def test_evaluation_between_steps_is_not_kept():
    model = layers()
    loop = loop_of(model)
    with loop.autocast():
        with torch.no_grad():
            for _ in range(3):
                model(rows(bad=[0]))
        assert len(loop._calls) == 0
        for _ in range(20):
            model(rows(bad=[0]))
        assert len(loop._calls) == 8


def test_the_batch_of_a_group_that_was_bad_is_found():
    model = layers()
    loop = loop_of(model, accumulate=4)
    for number in range(4):
        given = {"batch": {"idx": [10 * number + i for i in range(4)]}}
        step(loop, model, rows(bad=[1, 3] if number == 2 else ()), **given)
        assert number == 3 or loop.overflow is None
    assert loop.overflow.row_ids == (21, 23)
    assert loop.overflow.module == "0"
    assert not step(loop, model, rows())  # a new group has begun
    assert loop.overflow is None


def test_a_model_that_cannot_be_run_again():
    class Once(torch.nn.Linear):
        def forward(self, x):
            if hasattr(self, "called"):
                raise KeyError("only once")
            self.called = True
            return super().forward(x)

    model = Once(3, 3)
    loop = loop_of(model)
    assert not step(loop, model, rows(bad=[0]))
    assert loop.overflow.module is None
    assert "could not be repeated (KeyError: 'only once')" in str(loop.overflow)


def test_a_forward_pass_outside_of_autocast_is_repeated_from_the_batch():
    class Named(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(x)

    model = Named()
    loop = loop_of(model, "float32")
    batch = {"x": rows(bad=[2]), "indices": torch.tensor([5, 6, 7, 8])}
    assert not loop.step(model(batch["x"]).sum(), batch=batch)
    assert (loop.overflow.module, loop.overflow.rows) == ("layer", (2,))
    assert loop.overflow.row_ids == (7,)
    assert not loop.step(model(batch["x"]).sum())
    assert "was not called inside amp.autocast()" in str(loop.overflow)


def test_compiled_and_parallel_models():
    model = layers()
    wrapped = torch.nn.DataParallel(model)
    loop = loop_of(wrapped)
    assert not step(loop, wrapped, rows(bad=[1]))
    assert (loop.overflow.module, loop.overflow.rows) == ("0", (1,))


# Which rows.

COLUMNS = {
    "idx": [7, 8, 9, 10],
    "index": torch.tensor([7, 8, 9, 10]),
    "indices": np.array([7, 8, 9, 10]),
    "row_idx": torch.tensor([7, 8, 9, 10], dtype=torch.int32),
    "id": ("a", "b", "c", "d"),
    "sample_id": ["a", "b", "c", "d"],
}


@pytest.mark.parametrize("key", COLUMNS)
@pytest.mark.parametrize("dtype", HALVES)
def test_rows_are_named_by_the_column_that_the_batch_kept(key, dtype):
    model = layers()
    loop = loop_of(model, dtype)
    x = rows(bad=[1, 3])
    assert not step(loop, model, x, batch={"x": x, key: COLUMNS[key]})
    told = loop.overflow
    assert told.rows == (1, 3)
    assert told.row_ids == tuple(np.asarray(COLUMNS[key])[[1, 3]].tolist())
    assert f"in rows 1, 3 of the batch ({key}: {told.row_ids[0]}, {told.row_ids[1]})" in str(told)


def test_without_such_a_column_rows_are_places():
    model = layers()
    loop = loop_of(model)
    for given in ({}, {"batch": {"x": rows(), "id": torch.ones(4, 2)}}):
        assert not step(loop, model, rows(bad=[3]), **given)
        assert (loop.overflow.rows, loop.overflow.row_ids) == ((3,), None)


class Tokens(torch.nn.Module):
    """Embeds tokens; the embedding of 5 is inf."""

    def __init__(self, form=lambda x: x):
        super().__init__()
        self.embedding, self.form = torch.nn.Embedding(9, 4), form
        self.layer = torch.nn.Linear(4, 2)
        with torch.no_grad():
            self.embedding.weight[5] = torch.inf
        embed = self.embedding.forward
        self.embedding.forward = lambda ids: form(embed(ids))

    def forward(self, input_ids, **_):
        return self.layer(self.embedding(input_ids))


FORMS = {
    "[batch, tokens, features]": lambda x: x,
    "[tokens, batch, features]": lambda x: x.transpose(0, 1),
    "[batch * tokens, features]": lambda x: x.flatten(0, 1),
    "[batch, features, tokens]": lambda x: x.transpose(1, 2).reshape(len(x), -1, 4),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_padded_batches(form):
    tokens = [1, 2, 3], [1, 5], [4], [4, 4, 4, 4, 5]
    samples = [{"input_ids": row, "idx": 40 + number} for number, row in enumerate(tokens)]
    batch = tb.PadCollator()(samples)
    model = Tokens(FORMS[form])
    loop = loop_of(model)
    with loop.autocast():
        loss = model(**batch).float().sum()
    assert not loop.step(loss, batch)
    told = loop.overflow
    assert (told.module, told.rows, told.row_ids) == ("embedding", (1, 3), (41, 43))
    with loop.autocast():  # the ids were in the call
        loss = model(**batch).float().sum()
    assert not loop.step(loss)
    assert loop.overflow.row_ids == (41, 43)


@pytest.mark.parametrize("max_tokens", [None, 16])
def test_rows_of_batches_without_padding(max_tokens):
    samples = [{"input_ids": row} for row in ([1, 2, 3], [1, 5], [4], [4, 4, 4, 4, 5])]
    collate = tb.PaddingFreeCollator(max_tokens=max_tokens, return_row_idx=True)
    batch = collate(samples)
    model = Tokens()
    loop = loop_of(model)
    with loop.autocast():
        loss = model(**batch).float().sum()
    assert not loop.step(loss, batch=batch)
    assert (loop.overflow.rows, loop.overflow.row_ids) == ((1, 3), (1, 3))


def test_transformers_models_from_samples_to_rows():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2,
        num_attention_heads=2, num_labels=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    with torch.no_grad():
        dense = model.bert.encoder.layer[1].intermediate.dense
        dense.bias.fill_(6.5e4)
        dense.weight.zero_()[:, 0] = torch.tensor([6e4, -6e4] * 4)  # one of two is positive
    loop = loop_of(model)
    batch = tb.PadCollator()([{"input_ids": [1, 2], "labels": 1}, {"input_ids": [3], "labels": 0}])
    with loop.autocast():
        loss = model(**batch).loss
    assert not loop.step(loss, batch)
    assert loop.overflow.module == "bert.encoder.layer.1.intermediate.dense"
    assert loop.overflow.rows == (0, 1)


# No loss.


def test_a_model_without_labels_returns_no_loss():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    loop = loop_of(model, "float32")
    batch = tb.PadCollator()([{"input_ids": [1, 2], "label": 1}])
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with pytest.raises(TypeError) as caught:
        loop.step(model(**inputs).loss)
    told = str(caught.value)
    assert told.startswith("Amp.step(): loss is None: the model returned no loss")
    assert "no labels;" in told
    assert "'labels'" in told
    with pytest.raises(TypeError, match=r"no labels \(it has .*input_ids.*label.*\)"):
        loop.step(model(**inputs).loss, batch)


@pytest.mark.parametrize("batch", [3, "x", [1], torch.ones(2)])
def test_batches_without_names_are_refused(batch):
    model = layers()
    loop = loop_of(model)
    with pytest.raises(TypeError, match=r"^Amp\.step\(\): batch has type .*; expected .* mapping"):
        step(loop, model, rows(), batch=batch)
    assert step(loop, model, rows())
