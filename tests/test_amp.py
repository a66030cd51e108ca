"""tightbatch.amp.Amp against torch's recipe written out by hand, and the choice of a half type."""

import contextlib
import copy
import gc
import io
import math
import subprocess
import sys
import warnings

import pytest

from checks import amp_devices
from conftest import SANITIZED

torch = pytest.importorskip("torch")

from tightbatch import amp  # noqa: E402
from tightbatch.amp import Amp, GradScaler, Precision, choose_precision, precision  # noqa: E402

DEVICES = amp_devices(torch)
HALVES = ["float32", "bfloat16", "float16"]

pytestmark = [
    pytest.mark.skipif(SANITIZED, reason="it is torch that computes"),
]


def net(device="cpu", seed=0):
    torch.manual_seed(seed)
    layers = torch.nn.Linear(6, 16), torch.nn.GELU(), torch.nn.LayerNorm(16), torch.nn.Linear(16, 3)
    return torch.nn.Sequential(*layers).to(device)


def batches(count, poisoned=(), device="cpu"):
    """Rows and labels; those of the poisoned batches yield inf or NaN."""
    generator = torch.Generator().manual_seed(1)
    out = []
    for number in range(count):
        x = torch.randn(8, 6, generator=generator)
        if number in poisoned:
            x[2, 3] = torch.nan if number % 2 else torch.inf
        out.append((x.to(device), torch.randint(3, (8,), generator=generator).to(device)))
    return out


def loss_of(model, x, y):
    return torch.nn.functional.cross_entropy(model(x), y)


class Run:
    """A model with an optimizer and a scheduler; two of them start alike."""

    def __init__(self, device="cpu", optimizer="AdamW", fused=False):
        self.model = net(device)
        kind = getattr(torch.optim, optimizer)
        momentum = {"momentum": 0.9} if optimizer == "SGD" else {}
        self.optimizer = kind(self.model.parameters(), lr=0.05, fused=fused, **momentum)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)

    def amp(self, **given):
        return Amp(self.model, self.optimizer, scheduler=self.scheduler, **given)

    def bits(self):
        moments = self.optimizer.state_dict()["state"]
        return (
            [p.detach().cpu().numpy().tobytes() for p in self.model.parameters()],
            [{k: v.cpu().numpy().tobytes() for k, v in s.items()} for s in moments.values()],
            self.scheduler.state_dict(),
        )


def by_hand(run, data, dtype, device, accumulate, max_norm, scaler_settings):
    """The recipe of torch's AMP examples: accumulation, clipping and all.

    But a loss that is not finite leaves the scale as it is.
    """
    enabled = dtype != "float32"
    scaler = torch.amp.GradScaler(device, enabled=dtype == "float16", **scaler_settings)
    norms, counts, are_losses_fine = [], {"steps": 0, "skipped": 0}, True
    for number, (x, y) in enumerate(data, 1):
        with torch.autocast(device, dtype=getattr(torch, dtype), enabled=enabled):
            loss = loss_of(run.model, x, y)
        scaler.scale(loss / accumulate).backward()
        are_losses_fine = are_losses_fine and bool(loss.isfinite())
        if number % accumulate:
            continue
        scaler.unscale_(run.optimizer)
        is_finite = all(p.grad.isfinite().all() for p in run.model.parameters())
        if max_norm is not None:
            norms.append(float(torch.nn.utils.clip_grad_norm_(run.model.parameters(), max_norm)))
        if dtype == "float16" or is_finite:
            scaler.step(run.optimizer)
        before = scaler.state_dict()
        scaler.update()
        if not are_losses_fine:
            scaler.load_state_dict(before)
        are_losses_fine = True
        run.optimizer.zero_grad(set_to_none=True)
        counts["steps" if is_finite else "skipped"] += 1
        if is_finite:
            run.scheduler.step()
    return norms, counts, scaler


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("max_norm", [None, 0.3])
@pytest.mark.parametrize(
    ("optimizer", "fused"), [("AdamW", False), ("AdamW", True), ("SGD", False)]
)
def test_it_equals_the_recipe_written_by_hand(
    device, dtype, accumulate, max_norm, optimizer, fused
):
    """Weights, moments, learning rates and norms bit for bit, with overflow on the way."""
    data = batches(48, poisoned=(4, 17, 18, 31), device=device)
    settings = {"init_scale": 2.0**15, "growth_interval": 4}
    hand, ours = Run(device, optimizer, fused), Run(device, optimizer, fused)
    norms, counts, scaler = by_hand(hand, data, dtype, device, accumulate, max_norm, settings)

    given = {"scaler": GradScaler(device, **settings)} if dtype == "float16" else {}
    loop = ours.amp(dtype=dtype, accumulate=accumulate, max_norm=max_norm, **given)
    found_norms = []

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for x, y in data:
            with loop.autocast():
                loss = loss_of(ours.model, x, y)
            before = loop.steps, loop.skipped_steps
            is_stepped = loop.step(loss)
            assert is_stepped is (loop.steps > before[0])
            if max_norm is not None and (loop.steps, loop.skipped_steps) != before:
                found_norms.append(loop.grad_norm)
    assert ours.bits() == hand.bits()
    assert (loop.steps, loop.skipped_steps) == (counts["steps"], counts["skipped"])
    assert loop.skipped_steps >= 3
    assert [str(norm) for norm in found_norms] == [str(norm) for norm in norms]
    if dtype == "float16":
        found = loop.scaler.state_dict()
        assert {key: found[key] for key in scaler.state_dict()} == scaler.state_dict()
    else:
        assert loop.scaler.get_scale() == 1.0
    assert all(p.isfinite().all() for p in ours.model.parameters())


# Stopping and going on.


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(device, dtype):
    """With dropout, which draws other numbers unless the generators go on too."""
    data = batches(30, poisoned=(3, 20), device=device)

    def loop_of(run):
        given = {"scaler": GradScaler(device, growth_interval=3)} if dtype == "float16" else {}
        return run.amp(dtype=dtype, accumulate=2, max_norm=0.5, **given)

    def go(run, loop, part):
        for x, y in part:
            with loop.autocast():
                loss = loss_of(run.model, x, y)
            loop.step(loss)

    def begin():
        run = Run(device)
        run.model.insert(2, torch.nn.Dropout(0.5))
        torch.manual_seed(2)
        return run

    whole = begin()
    loop = loop_of(whole)
    go(whole, loop, data)

    first = begin()
    stopped = loop_of(first)
    go(first, stopped, data[:14])
    file = io.BytesIO()
    parts = {"model": first.model, "optimizer": first.optimizer, "scheduler": first.scheduler}
    random = torch.get_rng_state(), torch.cuda.get_rng_state_all()
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({**states, "amp": stopped.state_dict(), "random": random}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    second = begin()
    for name in parts:
        getattr(second, name).load_state_dict(saved[name])
    resumed = loop_of(second)
    resumed.load_state_dict(saved["amp"])
    torch.set_rng_state(saved["random"][0])
    torch.cuda.set_rng_state_all(saved["random"][1])
    go(second, resumed, data[14:])
    assert second.bits() == whole.bits()
    assert resumed.state_dict() == loop.state_dict()
    assert resumed.skipped_steps >= 2


def test_a_state_within_a_group_is_refused():
    run = Run()
    loop = run.amp(dtype="float32", accumulate=3)
    (x, y), *_ = batches(1)
    assert not loop.step(loss_of(run.model, x, y))
    with pytest.raises(
        RuntimeError,
        match=r"^Amp\.state_dict\(\): the group has 1 of 3 batches; .* call finish\(\)",
    ):
        loop.state_dict()
    assert loop.finish()
    assert loop.state_dict()["steps"] == 1


def test_loading_a_state_drops_a_group_that_is_not_complete():
    run = Run()
    loop = run.amp(dtype="float32", accumulate=2)
    state = loop.state_dict()
    (x, y), *_ = batches(1)
    loop.step(loss_of(run.model, x, y))
    loop.load_state_dict(state)
    assert all(p.grad is None for p in run.model.parameters())
    assert loop.finish() is False


BAD_STATES = [
    (None, TypeError, r"^Amp\.load_state_dict\(\): state_dict has type NoneType; expected a dict"),
    ({}, ValueError, r"the keys \(none\); expected dtype, scaler"),
    (
        {"dtype": "float16"},
        ValueError,
        r"dtype='float16' and this Amp has 'float32'.*dtype='float16'",
    ),
    ({"steps": -1}, ValueError, "steps=-1; expected"),
    ({"steps": 1.0}, TypeError, r"steps=1\.0; expected an integer"),
    ({"skipped_steps": True}, TypeError, "skipped_steps=True; expected an integer"),
    ({"scaler": {}}, RuntimeError, "The source state dict is empty"),
    ({"more": 1}, ValueError, "state_dict has the keys"),
]


@pytest.mark.parametrize(("change", "kind", "match"), BAD_STATES)
def test_states_that_are_none_are_refused_and_change_nothing(change, kind, match):
    loop = Run().amp(dtype="float32")
    before = loop.state_dict()
    with pytest.raises(kind, match=match):
        loop.load_state_dict({**before, **change} if change else change)
    assert loop.state_dict() == before


# The usual mistakes, one a test.


def gradients(model):
    return [p.grad.clone() for p in model.parameters()]


def test_mistake_gradients_of_the_batch_before_are_added():
    data = batches(2)
    run, fresh = Run(optimizer="SGD"), Run(optimizer="SGD")
    loss_of(run.model, *data[0]).backward()  # somebody else's, never zeroed
    loop = run.amp(dtype="float32")
    loop.step(loss_of(run.model, *data[1]))
    fresh.amp(dtype="float32").step(loss_of(fresh.model, *data[1]))
    assert run.bits() == fresh.bits()
    assert all(p.grad is None for p in run.model.parameters())  # their memory is free again


def zero_some_other_way(run):
    for parameter in run.model[3].parameters():
        parameter.grad = torch.zeros_like(parameter)


TOUCHES = [
    (lambda run: run.optimizer.zero_grad(), "set to zero"),
    (lambda run: run.model[3].zero_grad(), "set to zero"),
    (lambda run: run.optimizer.zero_grad(set_to_none=False), "set to zero or changed"),
    (zero_some_other_way, "set to zero or changed"),
    (lambda run: run.model[0].bias.square().sum().backward(), "set to zero or changed"),
]


@pytest.mark.parametrize(("touch", "change"), TOUCHES)
@pytest.mark.parametrize("end", ["step", "finish"])
def test_mistake_gradients_are_zeroed_or_added_to_within_a_group(touch, change, end):
    """All but the last batch would be lost; a gradient of another loss is not scaled."""
    data = batches(3)
    run, fresh = Run(optimizer="SGD"), Run(optimizer="SGD")
    loop = run.amp(dtype="float16", accumulate=3)
    loop.step(loss_of(run.model, *data[0]))
    loop.step(loss_of(run.model, *data[1]))
    touch(run)
    match = (
        rf"^Amp\.{end}\(\): gradients of the group were {change} after 2 of 3 batches;.*zero_grad"
    )
    with pytest.raises(RuntimeError, match=match):
        loop.finish() if end == "finish" else loop.step(loss_of(run.model, *data[2]))
    assert loop.finish() is False  # the group is dropped, and the next one is whole
    for each, each_run in ((loop, run), (fresh.amp(dtype="float16", accumulate=3), fresh)):
        touch(each_run)  # between groups nothing is lost
        assert [each.step(loss_of(each_run.model, *b)) for b in data] == [False, False, True]
    assert run.bits() == fresh.bits()


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_mistake_backward_before_step(dtype, accumulate):
    data, run = batches(2), Run(optimizer="SGD")
    loop = run.amp(dtype=dtype, accumulate=accumulate)
    loss = loss_of(run.model, *data[0])
    loss.backward()
    with pytest.raises(RuntimeError, match=r"^Amp\.step\(\): .*leave loss\.backward\(\) out"):
        loop.step(loss)
    assert [loop.step(loss_of(run.model, *b)) for b in data][-1]  # the next group is whole


def test_a_parameter_without_a_gradient_may_get_one_in_a_later_batch():
    model = torch.nn.ModuleList([torch.nn.Linear(2, 1), torch.nn.Embedding(4, 1, sparse=True)])
    loop = Amp(model, torch.optim.SGD(model.parameters(), 0.1), dtype="float32", accumulate=4)
    rows, tokens = torch.ones(3, 2), torch.tensor([1, 1, 2])
    assert not loop.step(model[0](rows).sum())
    assert not loop.step(model[1](tokens).sum())
    assert not loop.step((model[0](rows) * model[1](tokens)).sum())
    loop.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})
    assert loop.step(model[0](rows).sum())


@pytest.mark.parametrize("accumulate", [2, 4])
def test_mistake_accumulating_sums_where_one_large_batch_averages(accumulate):
    data = batches(accumulate)
    large, run = net(), Run()
    loss_of(large, torch.cat([x for x, _ in data]), torch.cat([y for _, y in data])).backward()
    loop = run.amp(dtype="float32", accumulate=accumulate)
    kept = []
    run.optimizer.register_step_pre_hook(lambda *_: kept.extend(gradients(run.model)))
    for x, y in data:
        loop.step(loss_of(run.model, x, y))
    for found, expected in zip(kept, gradients(large), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("max_norm", [None, 0.01])
def test_mistake_the_last_incomplete_group_counts_too_little_or_is_lost(dtype, max_norm):
    """Two of four batches: the mean over two, to the bit, as both counts are powers of two."""
    data = batches(2)
    runs = Run(), Run()
    loops = [
        run.amp(dtype=dtype, accumulate=accumulate, max_norm=max_norm)
        for run, accumulate in zip(runs, (2, 4), strict=True)
    ]
    for run, loop in zip(runs, loops, strict=True):
        for x, y in data:
            with loop.autocast():
                loss = loss_of(run.model, x, y)
            loop.step(loss)
    assert loops[1].steps == 0
    assert loops[1].finish() is True
    assert loops[1].finish() is False  # nothing is waiting any more
    if dtype == "float32":
        assert runs[0].bits() == runs[1].bits()
    for a, b in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    assert loops[0].grad_norm == pytest.approx(loops[1].grad_norm or 0, rel=1e-3) or not max_norm


def test_mistake_clipping_gradients_that_are_still_scaled():
    """Clipped to 1e-3 while scaled by 65536, nothing at all would be learned."""
    run = Run(optimizer="SGD")
    norms = []
    run.optimizer.register_step_pre_hook(
        lambda *_: norms.append(torch.cat([g.flatten() for g in gradients(run.model)]).norm())
    )
    loop = run.amp(dtype="float16", max_norm=1e-3)
    for x, y in batches(4):
        with loop.autocast():
            loss = loss_of(run.model, x, y)
        loop.step(loss)
    assert len(norms) == loop.steps > 0
    assert all(float(norm) == pytest.approx(1e-3, rel=1e-2) for norm in norms)
    assert 0.01 < loop.grad_norm < 100


def test_mistake_clipping_what_the_optimizer_does_not_train():
    """A gradient outside the optimizer is never unscaled, and would rule the norm."""
    model = net()
    optimizer = torch.optim.SGD(model[3].parameters(), lr=0.1)
    loop = Amp(model, optimizer, dtype="float16", max_norm=1.0)
    (x, y), *_ = batches(1)
    with loop.autocast():
        loss = loss_of(model, x, y)
    loop.step(loss)
    assert loop.grad_norm < 100


def test_mistake_the_scheduler_goes_on_when_the_step_was_skipped():
    run = Run()
    loop = run.amp(dtype="float16")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns when the scheduler is first
        for x, y in batches(5, poisoned=(0, 1, 4)):
            with loop.autocast():
                loss = loss_of(run.model, x, y)
            loop.step(loss)
    assert run.scheduler.last_epoch == loop.steps == 2
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0.05 * 0.9**2)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("fused", [False, True])
def test_mistake_one_bad_batch_leaves_nan_in_every_weight(dtype, fused):
    run, spared = Run(fused=fused), Run(fused=fused)
    data = batches(4, poisoned=(1, 2))
    for each, part in ((run, data), (spared, [data[0], data[3]])):
        given = {"scaler": GradScaler("cpu", backoff_factor=0.999999)} if dtype == "float16" else {}
        loop = each.amp(dtype=dtype, **given)
        for x, y in part:
            with loop.autocast():
                loss = loss_of(each.model, x, y)
            loop.step(loss)
        if each is run:
            assert loop.skipped_steps == 2
    for a, b in zip(run.model.parameters(), spared.model.parameters(), strict=True):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    assert dtype == "float16" or run.bits() == spared.bits()


def test_mistake_nobody_knows_which_layer_overflowed():
    run = Run()
    loop = run.amp(dtype="bfloat16", max_norm=1.0)
    run.model[3].weight.register_hook(lambda grad: grad * torch.inf)
    (x, y), *_ = batches(1)
    with loop.autocast():
        loss = loss_of(run.model, x, y)
    assert loop.step(loss) is False
    assert loop.scaler.overflowed == ("3.weight",)
    assert not math.isfinite(loop.grad_norm)


def test_mistake_going_backward_under_autocast():
    """Inside the context or outside: the same bits, over several steps in one open context.

    Autocast keeps the halves of weights for as long as it is open; those of before a step would
    be trained with for ever.
    """
    runs = Run(), Run()
    inside, outside = [run.amp(dtype="bfloat16", accumulate=2) for run in runs]
    seen = []
    hook = runs[0].model[0].weight.register_hook(lambda _: seen.append(autocast_is_on()))
    with inside.autocast():
        for x, y in batches(12):
            inside.step(loss_of(runs[0].model, x, y))
    for x, y in batches(12):
        with outside.autocast():
            loss = loss_of(runs[1].model, x, y)
        outside.step(loss)
    hook.remove()
    assert seen == [False] * 12
    assert runs[0].bits() == runs[1].bits()


def autocast_is_on():
    return torch.is_autocast_enabled("cpu")


def test_mistake_small_gradients_vanish_without_a_loss_scale():
    model = torch.nn.Linear(4, 4, bias=False)
    torch.nn.init.ones_(model.weight)
    found = {}
    for scaled in (False, True):
        given = {} if scaled else {"scaler": GradScaler("cpu", enabled=False)}
        loop = Amp(
            model, torch.optim.SGD(model.parameters(), lr=0.0), dtype="float16", max_norm=1, **given
        )
        with loop.autocast():
            loss = model(torch.ones(1, 4)).float().sum() * 1e-9
        with (
            contextlib.nullcontext()
            if scaled
            else pytest.warns(
                RuntimeWarning, match=r"^Amp\.step\(\): all gradients of the group are 0"
            )
        ):
            loop.step(loss)
        found[scaled] = loop.grad_norm
    assert found[False] == 0.0
    assert found[True] == pytest.approx(1e-9 * 4, rel=0.01)


def test_an_exception_drops_the_group_and_the_next_one_is_whole():
    data = batches(3)
    run, fresh = Run(), Run()
    loop = run.amp(dtype="float16", accumulate=2)
    hook = run.model[0].weight.register_hook(lambda _: (_ for _ in ()).throw(MemoryError("full")))
    with pytest.raises(MemoryError, match="full"):
        loop.step(loss_of(run.model, *data[0]))
    hook.remove()
    hook = run.optimizer.register_step_pre_hook(lambda *_: 1 / 0)
    loop.step(loss_of(run.model, *data[0]))
    with pytest.raises(ZeroDivisionError):
        loop.step(loss_of(run.model, *data[0]))
    hook.remove()
    other = fresh.amp(dtype="float16", accumulate=2)
    for each, each_run in ((loop, run), (other, fresh)):
        assert [each.step(loss_of(each_run.model, *b)) for b in data[1:]] == [False, True]
    assert run.bits() == fresh.bits()


def test_a_loss_that_is_refused_drops_the_group_too():
    data = batches(3)
    run, fresh = Run(), Run()
    loop, other = (each.amp(dtype="float16", accumulate=2) for each in (run, fresh))
    loop.step(loss_of(run.model, *data[0]))
    with pytest.raises(ValueError, match="loss needs no gradient"):
        loop.step(loss_of(run.model, *data[0]).detach())
    assert all(p.grad is None for p in run.model.parameters())
    for each, each_run in ((loop, run), (other, fresh)):
        assert [each.step(loss_of(each_run.model, *b)) for b in data[1:]] == [False, True]
    assert run.bits() == fresh.bits()


def test_finish_names_itself_where_no_loss_depends_on_the_parameters():
    loop = Run().amp(dtype="float32", accumulate=2)
    loop.step(torch.ones((), requires_grad=True) * 2)
    with pytest.raises(RuntimeError, match=r"^Amp\.finish\(\): no parameter .* has a gradient"):
        loop.finish()


def test_sparse_gradients_are_trained_and_clipped_where_torch_can():
    ids = torch.tensor([1, 1, 2])
    model = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert Amp(model, optimizer, dtype="float32").step(model(ids).sum())
    peer = copy.deepcopy(model)
    peer.zero_grad()
    peer(ids).sum().backward()
    loop = Amp(model, optimizer, dtype="float32", max_norm=1.0)
    try:
        norm = torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
    except NotImplementedError:  # torch 2.13 cannot, 2.14.1 can
        with pytest.raises(NotImplementedError, match="Sparse"):
            loop.step(model(ids).sum())
        return
    torch.optim.SGD(peer.parameters(), lr=0.1).step()
    assert loop.step(model(ids).sum())
    assert loop.grad_norm == norm
    assert torch.equal(model.weight, peer.weight)


def test_max_norm_inf_measures_and_does_not_clip():
    runs = Run(), Run()
    for run, max_norm in zip(runs, (None, math.inf), strict=True):
        loop = run.amp(dtype="float32", max_norm=max_norm)
        assert loop.grad_norm is None
        for x, y in batches(5):
            loop.step(loss_of(run.model, x, y))
    assert runs[0].bits() == runs[1].bits()
    assert loop.grad_norm > 0


def test_a_disabled_scaler_neither_scales_nor_skips():
    run = Run()
    loop = run.amp(dtype="float32", scaler=GradScaler("cpu", enabled=False))
    data = batches(2, poisoned=(1,))
    assert [loop.step(loss_of(run.model, x, y)) for x, y in data] == [True, True]
    assert (loop.steps, loop.skipped_steps) == (2, 0)
    assert any(p.isnan().any() for p in run.model.parameters())


def test_complex_parameters_are_trained_without_a_scaler():
    weight = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))
    model, optimizer = torch.nn.ParameterList([weight]), torch.optim.SGD([weight], lr=0.5)
    scaler = GradScaler("cpu", enabled=False)
    loop = Amp(model, optimizer, dtype="float32", scaler=scaler, accumulate=4, max_norm=9.0)
    assert not loop.step((weight * 1j).imag.sum())
    assert loop.finish()
    assert weight.tolist() == [0.5, 0.5]


def test_frozen_halves_are_fine():
    model = net()
    model[0].requires_grad_(False).half()
    model[0].forward = lambda x: torch.nn.functional.linear(x.half(), model[0].weight).float()
    loop = Amp(model, torch.optim.SGD(model.parameters(), lr=0.1), dtype="float32")
    (x, y), *_ = batches(1)
    assert loop.step(loss_of(model, x, y))


# What is refused.


def part(name):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if name == "half":
        model.half()
    elif name == "bfloat16":
        model[3].bfloat16()
    elif name == "complex":
        model[3].weight = torch.nn.Parameter(torch.ones(3, 16, dtype=torch.complex64))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    elif name == "other":
        optimizer = torch.optim.SGD(net().parameters(), lr=0.1)
    elif name == "lbfgs":
        optimizer = torch.optim.LBFGS(model.parameters())
    elif name == "no optimizer":
        optimizer = model.parameters()
    elif name == "no model":
        model = list(model.parameters())
    return model, optimizer


PARTS = [
    (
        "half",
        ValueError,
        r"parameter 0\.weight is torch\.float16; expected float32: call model\.float",
    ),
    ("bfloat16", ValueError, r"parameter 3\.weight is torch\.bfloat16; expected float32"),
    ("complex", ValueError, r"3\.weight is torch\.complex64, which torch's loss scaler does not"),
    ("other", ValueError, "the optimizer has no parameter of the model"),
    ("lbfgs", TypeError, "LBFGS needs a closure"),
    ("no optimizer", TypeError, "optimizer has type generator; expected a torch.optim.Optimizer"),
    ("no model", TypeError, r"model has type list; expected a torch\.nn\.Module"),
]


@pytest.mark.parametrize(("name", "kind", "match"), PARTS)
def test_parts_that_do_not_go_together(name, kind, match):
    model, optimizer = part(name)
    with pytest.raises(kind, match=match) as caught:
        Amp(model, optimizer)
    assert str(caught.value).startswith("Amp(): ")


SETTINGS = [
    (
        {"dtype": "half"},
        ValueError,
        "dtype='half'; expected 'auto', 'float32', 'bfloat16' or 'float16'",
    ),
    ({"dtype": torch.float64}, ValueError, "dtype='float64'; expected 'auto', 'float32'"),
    ({"dtype": 16}, TypeError, "dtype=16; expected 'auto'"),
    ({"device": "gpu"}, ValueError, "device='gpu'; expected a torch device, such as 'cuda'"),
    ({"device": "meta", "dtype": "float16"}, ValueError, "but torch has no autocast on meta"),
    ({"accumulate": 0}, ValueError, "accumulate=0; expected an integer of at least 1"),
    ({"accumulate": 2.0}, TypeError, r"accumulate=2\.0; expected an integer"),
    ({"max_norm": 0}, ValueError, "max_norm=0 would remove every gradient; expected more than 0"),
    ({"max_norm": -1.0}, ValueError, r"max_norm=-1\.0; expected a number from 0 to inf"),
    ({"max_norm": math.nan}, ValueError, "max_norm=nan; expected"),
    ({"max_norm": "1"}, TypeError, "max_norm='1'; expected a number"),
    ({"scheduler": 3}, TypeError, "scheduler has type int; expected"),
    (
        {"scaler": torch.amp.GradScaler("cpu")},
        TypeError,
        r"scaler has type torch\.amp\..*GradScaler; expected a tightbatch\.amp\.GradScaler",
    ),
]


@pytest.mark.parametrize(("given", "kind", "match"), SETTINGS)
def test_settings_that_cannot_be(given, kind, match):
    model = net()
    with pytest.raises(kind, match=match):
        Amp(model, torch.optim.SGD(model.parameters(), lr=0.1), **given)


def test_a_scheduler_that_wants_a_metric():
    run = Run()
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(run.optimizer)
    with pytest.raises(TypeError, match=r"ReduceLROnPlateau needs a metric; .* leave it out"):
        Amp(run.model, run.optimizer, scheduler=plateau)


def test_a_scaler_of_another_amp_is_refused_while_its_optimizer_lives():
    scaler, first, second = GradScaler("cpu"), Run(), Run()
    loop = first.amp(dtype="float16", scaler=scaler)
    loop = first.amp(dtype="float16", scaler=scaler)  # as in a notebook's cell that is run again
    with pytest.raises(ValueError, match="scaler belongs to another Amp, with another optimizer"):
        second.amp(dtype="float16", scaler=scaler)
    second.amp(dtype="float16", scaler=copy.deepcopy(scaler))
    del loop, first
    gc.collect()
    second.amp(dtype="float16", scaler=scaler)


LOSSES = [
    (
        lambda loss: loss.item(),
        TypeError,
        r"^Amp\.step\(\): loss has type float; expected a tensor",
    ),
    (lambda loss: loss * torch.ones(2, 3), ValueError, r"loss has shape \[2, 3\].*loss\.mean\(\)"),
    (lambda loss: loss.detach(), ValueError, r"loss needs no gradient.*outside torch\.no_grad\(\)"),
    (lambda loss: loss.to("meta"), ValueError, r"loss is on meta, and this Amp is for cpu"),
    (
        lambda loss: torch.ones((), requires_grad=True) * 2,
        RuntimeError,
        "no parameter of the optimizer has a gradient",
    ),
]


@pytest.mark.parametrize(("change", "kind", "match"), LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_losses_that_cannot_be_gone_backward_from(change, kind, match, dtype):
    run = Run()
    loop = run.amp(dtype=dtype)
    (x, y), *_ = batches(1)
    with pytest.raises(kind, match=match):
        loop.step(change(loss_of(run.model, x, y)))
    assert loop.step(loss_of(run.model, x, y))  # and it is as if nothing had been


# Which half type.


@pytest.mark.parametrize(
    ("flags", "dtype", "reason"),
    [
        ({"avx512_bf16", "avx2"}, "bfloat16", "this CPU has avx512_bf16"),
        ({"amx_bf16", "avx512_bf16", "amx_fp16"}, "bfloat16", "this CPU has amx_bf16"),
        ({"asimdhp", "bf16"}, "bfloat16", "this CPU has bf16"),
        ({"avx512_fp16"}, "float16", "this CPU has avx512_fp16; with a loss scaler"),
        ({"avx2", "f16c", "asimdhp"}, "float32", "this CPU has no half arithmetic"),
        (set(), "float32", "this CPU has no half arithmetic"),
    ],
)
def test_the_choice_for_a_cpu(flags, dtype, reason, monkeypatch):
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    assert choose_precision("cpu") == Precision("cpu", dtype, reason)
    assert Run().amp().precision.dtype == dtype


def test_what_was_asked_for_is_taken_and_called_what_it_is(monkeypatch):
    monkeypatch.setattr(precision, "cpu_flags", lambda: {"avx512_bf16"})
    forced = choose_precision("cpu", "float16")
    assert (forced.dtype, forced.native) == ("float16", False)
    assert forced.reason == (
        "this device computes in bfloat16 only: emulated, expect it slower than float32"
    )
    monkeypatch.setattr(precision, "cpu_flags", set)
    forced = choose_precision("cpu", torch.bfloat16)
    assert (forced.dtype, forced.native) == ("bfloat16", False)
    assert "no half arithmetic: emulated, expect it slower than float32" in forced.reason
    assert choose_precision(torch.device("cpu"), "float32").native


@pytest.mark.parametrize(("has", "dtype"), [(True, "bfloat16"), (False, "float16")])
def test_the_choice_for_a_gpu(has, dtype, monkeypatch):
    """Any GPU emulates bfloat16: what counts is whether it computes in it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: has or including_emulation,
    )
    chosen = choose_precision("cuda:0")
    assert (chosen.device, chosen.dtype, chosen.native) == ("cuda", dtype, True)
    assert "A GPU" in chosen.reason
    assert ("loss scaler" in chosen.reason) is not has
    assert choose_precision("cuda", "bfloat16").native is has
    assert choose_precision("cuda", "float16").native


def test_the_choice_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    chosen = choose_precision("cuda")
    assert chosen == Precision("cuda", "float32", "torch finds no CUDA device")


@pytest.mark.parametrize("device", ["mps", "xpu", "hpu"])
def test_the_choice_elsewhere_is_autocasts_own(device):
    chosen = choose_precision(device)
    assert chosen.dtype == str(torch.get_autocast_dtype(device)).removeprefix("torch.")
    assert chosen.reason.startswith(f"it is the default of torch's autocast on {device}")
    assert choose_precision(device, "bfloat16").dtype == "bfloat16"


@pytest.mark.parametrize("dtype", HALVES)
def test_autocast_computes_in_the_half_type(dtype):
    run = Run()
    loop = run.amp(dtype=dtype)
    with loop.autocast():
        assert run.model(torch.ones(1, 6)).dtype == getattr(torch, dtype)
    assert run.model(torch.ones(1, 6)).dtype == torch.float32


def test_it_says_which_torch_it_needs():
    code = "import sys; sys.modules['torch'] = None; import tightbatch.amp"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: tightbatch.amp needs torch: python -m pip install torch" in done.stderr
    code = "import torch; del torch.get_autocast_dtype; import tightbatch.amp"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"needs torch 2.4 or later, found {torch.__version__}" in done.stderr
    assert amp.__all__ == ["Amp", "GradScaler", "Overflow", "Precision", "choose_precision"]


# A real Transformer.


@pytest.mark.parametrize("device", DEVICES)
def test_a_transformer_learns_in_half_types_as_in_float32(device):
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_labels": 2}
    config = transformers.BertConfig(
        **sizes, num_hidden_layers=2, num_attention_heads=2, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    start = transformers.BertForSequenceClassification(config).to(device)
    ids = torch.randint(1, 50, (64, 12), device=device)
    labels = (ids[:, :6].sum(1) > ids[:, 6:].sum(1)).long()
    losses = {}
    for dtype in HALVES:
        model = copy.deepcopy(start)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        loop = Amp(model, optimizer, dtype=dtype, max_norm=1.0, accumulate=2)
        losses[dtype] = []
        for _ in range(30):
            for part in (slice(0, 32), slice(32, 64)):
                with loop.autocast():
                    loss = model(input_ids=ids[part], labels=labels[part]).loss
                losses[dtype].append(loss.item())
                loop.step(loss)
        assert loop.steps + loop.skipped_steps == 30
        assert loop.skipped_steps <= (3 if dtype == "float16" else 0)
    for found in losses.values():
        assert found[0] == pytest.approx(losses["float32"][0], rel=0.02)
        assert found[-1] < 0.6 * found[0]
    assert losses["bfloat16"] != losses["float32"]  # it did compute in it
    assert losses["float16"] != losses["float32"]


def test_its_repr_shows_what_differs_from_the_default():
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert repr(Amp(model, optimizer, dtype="float32")) == (
        "Amp(SGD, device='cpu', dtype='float32')"
    )
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    loop = Amp(model, optimizer, dtype="float32", accumulate=2, max_norm=1, scheduler=scheduler)
    assert repr(loop) == (
        "Amp(SGD, device='cpu', dtype='float32', accumulate=2, max_norm=1.0, scheduler=StepLR)"
    )
