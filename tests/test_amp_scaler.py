"""tightbatch.amp.GradScaler against torch's own, and what it adds."""

import copy
import math
import pickle
import random
import warnings

import numpy as np
import pytest

from conftest import LONG, SANITIZED

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from tightbatch.amp import GradScaler  # noqa: E402

CHUNKS, SEQUENCES, ITERATIONS = 10, 200 if LONG else 40, 8
HOSTILE = [math.inf, -math.inf, math.nan, 1e30, 3e38]
KEYS = ["scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"]
SINCE = "_steps_since_overflow"
WIDE = {"min_scale": 2.0**-126, "max_scale": 2.0**126}

pytestmark = [
    pytest.mark.skipif(SANITIZED, reason="it is torch that computes"),
]


class Waits(TorchDispatchMode):
    """Counts how often a value is read from the device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


class Side:
    """Parameters, optimizers and a scaler; two of them get the same orders."""

    def __init__(self, seed, make_scaler):
        generator = torch.Generator().manual_seed(seed)
        choose = random.Random(seed)
        self.named, self.optimizers = [], []
        for number in range(choose.randint(1, 3)):
            parameters = [
                torch.nn.Parameter(torch.randn(choose.randint(1, 3), generator=generator))
                for _ in range(choose.randint(1, 3))
            ]
            self.named += [(f"{number}.{i}", p) for i, p in enumerate(parameters)]
            kind = choose.choice([torch.optim.SGD, torch.optim.AdamW])
            fused = choose.random() < 0.3
            self.optimizers.append(kind(parameters, lr=0.1, fused=fused))
        self.scaler = make_scaler(self.named)

    def state(self):
        weights = [p.detach().numpy().tobytes() for _, p in self.named]
        grads = [None if p.grad is None else p.grad.numpy().tobytes() for _, p in self.named]
        moments = [
            [{k: np.asarray(v).tobytes() for k, v in s.items()} for s in o.state.values()]
            for o in self.optimizers
        ]
        return weights, grads, moments


class Graded(torch.autograd.Function):
    """A loss of 0 with the gradient that is given: what overflows is the gradient alone."""

    @staticmethod
    def forward(ctx, parameter, gradient):
        ctx.gradient = gradient
        return parameter.sum() * 0

    @staticmethod
    def backward(ctx, scale):
        return scale * ctx.gradient, None


def backward(side, seed):
    """Gradients that are a random few times the scale, some of them inf or NaN."""
    choose = random.Random(seed)
    loss = torch.zeros(())
    for _, parameter in side.named:
        if choose.random() < 0.05 and len(side.named) > len(side.optimizers):
            continue  # no gradient
        values = [choose.gauss(0, 1) for _ in range(len(parameter))]
        if choose.random() < 0.15:
            values[choose.randrange(len(values))] = choose.choice(HOSTILE)
        loss = loss + Graded.apply(parameter, torch.tensor(values))
    if loss.requires_grad:
        side.scaler.scale(loss).backward()


def orders(choose, side):
    """The calls of one iteration: a method, the number of an optimizer, or a value."""
    calls = []
    for number, optimizer in enumerate(side.optimizers):
        if all(p.grad is None for group in optimizer.param_groups for p in group["params"]):
            continue
        unscales = choose.random() < 0.4
        if unscales:
            calls.append(("unscale_", number))
            if choose.random() < 0.5:
                calls.append(("clip", number))
        if not unscales or choose.random() < 0.9:
            calls.append(("step", number))
    kind, scale = choose.random(), 2.0 ** choose.randint(-90, 90)
    if kind < 0.2:
        calls.append(("update", scale if kind < 0.1 else torch.tensor(scale)))
    elif calls:
        calls.append(("update", None))
    return calls


def perform(side, call):
    method, value = call
    if method == "clip":
        parameters = side.optimizers[value].param_groups[0]["params"]
        return torch.nn.utils.clip_grad_norm_(parameters, 0.5)
    if method == "update":
        return side.scaler.update(value)
    return getattr(side.scaler, method)(side.optimizers[value])


def settings(choose):
    return {
        "init_scale": choose.choice([2.0**16, 1.0, 3.0, 2.0**-90, 2.0**90, 0.1]),
        "growth_factor": choose.choice([2.0, 1.001, 16.0]),
        "backoff_factor": choose.choice([0.5, 0.9, 2.0**-4]),
        "growth_interval": choose.choice([1, 2, 3, 2000]),
    }


def between(choose, torchs, ours, named):
    """Sometimes: other settings, states exchanged, or a pickle instead of the scaler."""
    kind = choose.random()
    if kind < 0.05:
        factor, backoff = choose.choice([1.5, 4.0]), choose.choice([0.25, 0.75])
        interval = choose.choice([1, 4])
        for side in (torchs, ours):
            side.scaler.set_growth_factor(factor)
            side.scaler.set_backoff_factor(backoff)
            side.scaler.set_growth_interval(interval)
    elif kind < 0.1:
        states = [side.scaler.state_dict() for side in (torchs, ours)]
        if choose.random() < 0.5:  # into what was at work, or into new ones
            torchs.scaler = torch.amp.GradScaler("cpu")
            ours.scaler = renewed(ours, named)
        torchs.scaler.load_state_dict(states[1])
        ours.scaler.load_state_dict(states[0])
    elif kind < 0.15:
        torchs.scaler = pickle.loads(pickle.dumps(torchs.scaler))
        skipped = ours.scaler.skipped_steps
        ours.scaler = pickle.loads(pickle.dumps(ours.scaler))
        assert ours.scaler.skipped_steps == skipped
        # A pickle has parameters of its own: give it those that are trained.
        ours.scaler._names = renewed(ours, named)._names


def renewed(side, named):
    scaler = GradScaler("cpu", named_parameters=side.named if named else None, **WIDE)
    scaler._skipped = side.scaler.skipped_steps
    return scaler


def expected_overflow(side, optimizer):
    return [
        name
        for name, p in side.named
        if any(p is q for group in optimizer.param_groups for q in group["params"])
        and p.grad is not None
        and not bool(p.grad.isfinite().all())
    ]


def run_sequence(seed):
    choose = random.Random(seed)
    named, chosen = choose.random() < 0.5, settings(choose)
    torchs = Side(seed, lambda names: torch.amp.GradScaler("cpu", **chosen))
    ours = Side(
        seed,
        lambda names: GradScaler(
            "cpu", **chosen, **WIDE, named_parameters=names if named else None
        ),
    )
    skipped, overflows = 0, 0
    for iteration in range(ITERATIONS):
        for side in (torchs, ours):
            for optimizer in side.optimizers:
                optimizer.zero_grad()
            backward(side, f"{seed}/{iteration}")
        found = [expected_overflow(torchs, optimizer) for optimizer in torchs.optimizers]
        calls = orders(choose, torchs)
        for call in calls:
            results = perform(torchs, call), perform(ours, call)
            assert type(results[0]) is type(results[1])
            assert torchs.state() == ours.state()
            assert bits(torchs.scaler.get_scale()) == bits(ours.scaler.get_scale())
        stepped = [value for method, value in calls if method == "step"]
        skipped += sum(bool(found[number]) for number in stepped)
        assert ours.scaler.skipped_steps == skipped
        touched = {value for method, value in calls if method in ("step", "unscale_")}
        if touched:
            names = [name for number in sorted(touched) for name in found[number]]
            overflows += bool(names)
            assert ours.scaler.overflowed == (tuple(names) if named else ())
        assert list(ours.scaler.state_dict()) == [*KEYS, SINCE]
        assert torchs_part(ours.scaler) == torchs.scaler.state_dict()
        between(choose, torchs, ours, named)
    return overflows


def torchs_part(scaler):
    state = scaler.state_dict()
    assert state.pop(SINCE) >= -1
    return state


def bits(number):
    return np.float64(number).tobytes()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_with_wide_limits_it_is_torchs_scaler_bit_for_bit(chunk):
    """Scales, trackers, weights, gradients, moments and states, after each call."""
    seeds = range(chunk * SEQUENCES, (chunk + 1) * SEQUENCES)
    overflows = sum(run_sequence(seed) for seed in seeds)
    assert overflows > SEQUENCES  # the random gradients do reach what is tested


# Limits.


def one(value=1.0):
    return torch.nn.Parameter(torch.tensor([value]))


def iterate(scaler, parameter, optimizer, overflows):
    optimizer.zero_grad()
    factor = torch.full_like(parameter, torch.inf if overflows else 1.0)
    scaler.scale(Graded.apply(parameter, factor)).backward()
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize("seed", range(40))
def test_the_scale_stays_within_its_limits_and_the_tracker_is_torchs(seed):
    choose = random.Random(seed)
    least, most = 2.0 ** choose.randint(-3, 1), 2.0 ** choose.randint(2, 6)
    growth, backoff = choose.choice([2.0, 8.0, 1.5]), choose.choice([0.5, 0.1])
    interval = choose.choice([1, 2, 3])
    given = {"init_scale": 2.0, "growth_factor": growth, "backoff_factor": backoff}
    scaler = GradScaler("cpu", **given, growth_interval=interval, min_scale=least, max_scale=most)
    parameter = one()
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    scale, tracker = np.float32(2.0), 0
    for _ in range(60):
        overflows = choose.random() < 0.3
        iterate(scaler, parameter, optimizer, overflows)
        tracker += 1
        if overflows:
            scale, tracker = np.float32(scale * np.float64(backoff)), 0
        elif tracker == interval:
            scale, tracker = np.float32(scale * np.float64(growth)), 0
        scale = np.float32(min(max(scale, least), most))
        state = scaler.state_dict()
        assert list(state) == [*KEYS, SINCE]
        assert state["scale"] == scale
        assert state["_growth_tracker"] == tracker


def test_a_model_that_yields_nan_does_not_collapse_the_scale():
    def run(scaler):
        parameter = one()
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        for _ in range(200):
            iterate(scaler, parameter, optimizer, True)
        return scaler.get_scale()

    assert run(torch.amp.GradScaler("cpu")) == 0.0
    for limits, least in (
        ({}, 1.0),
        ({"init_scale": 0.25}, 0.25),
        ({"min_scale": 2.0**-10}, 2.0**-10),
        (WIDE, 2.0**-126),
    ):
        limited = GradScaler("cpu", **limits)
        assert run(limited) == least
        assert limited.skipped_steps == 200


def test_limits_hold_scales_that_are_set_and_loaded():
    scaler = GradScaler("cpu", min_scale=2.0, max_scale=2.0**17)
    parameter = one()
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    iterate(scaler, parameter, optimizer, False)
    for given, held in ((0.5, 2.0), (1e30, 2.0**17), (7.0, 7.0), (torch.tensor(1.0), 2.0)):
        scaler.update(given)
        assert scaler.get_scale() == held
    state = torch.amp.GradScaler("cpu", init_scale=2.0**-80).state_dict()
    for target in (scaler, GradScaler("cpu", min_scale=2.0, max_scale=2.0**17)):
        target.load_state_dict(state)
        assert target.get_scale() == 2.0
        target.load_state_dict({**state, "scale": math.inf})
        assert target.get_scale() == 2.0**17
        with pytest.raises(ValueError, match=r"load_state_dict\(\): scale=nan; expected a number"):
            target.load_state_dict({**state, "scale": math.nan})
    assert state["scale"] == 2.0**-80  # the state that was given is as it was


def test_a_scale_held_at_one_changes_no_bit():
    def run(scaler):
        parameter = one(0.3)
        optimizer = torch.optim.AdamW([parameter], lr=0.1)
        for step in range(20):
            optimizer.zero_grad()
            loss = (parameter * 0.7 * step).sum() ** 2
            if scaler is None:
                loss.backward()
                optimizer.step()
            else:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
        return parameter.detach().numpy().tobytes()

    held = GradScaler("cpu", 1.0, growth_interval=1, min_scale=1.0, max_scale=1.0)
    assert run(held) == run(None)
    assert held.get_scale() == 1.0


def test_limits_that_are_not_given_follow_the_first_scale():
    for first, limits in (
        (2.0**16, (1.0, 2.0**32)),
        (0.5, (0.5, 2.0**32)),
        (2.0**40, (1.0, 2.0**40)),
    ):
        scaler = GradScaler("cpu", first)
        assert (scaler.min_scale, scaler.max_scale) == limits
        assert repr(scaler).count("_scale=") == (first != 2.0**16)
    low = GradScaler("cpu", 0.25, max_scale=0.5)
    assert (low.min_scale, low.max_scale) == (0.25, 0.5)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
def test_a_loss_that_is_not_finite_leaves_scale_and_tracker(value, named, fused, explicit):
    """No scale could have helped. torch's scaler divides by 2 each time, until weights are inf."""
    for kind in (torch.amp.GradScaler, GradScaler):
        parameter = one()
        names = {"named_parameters": [("w", parameter)]} if named else {}
        scaler = kind("cpu", **(names if kind is GradScaler else {}))
        optimizer = torch.optim.SGD([parameter], lr=0.5, fused=fused)
        for iteration in range(150):
            optimizer.zero_grad()
            factor = value if 3 <= iteration < 147 else 1.0
            scaler.scale((parameter * factor).sum()).backward()
            if explicit:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        if kind is torch.amp.GradScaler:
            assert not parameter.isfinite().all() or fused
            assert scaler.get_scale() < 2.0**-126
        else:
            assert parameter.item() == 1 - 0.5 * 6
            assert scaler.get_scale() == 2.0**16
            assert scaler.state_dict()["_growth_tracker"] == 6
            assert scaler.skipped_steps == 144


def test_of_several_losses_one_that_is_not_finite_is_enough():
    for make in (lambda a, b: [a, b], lambda a, b: (a, [b])):
        parameter = one()
        optimizer = torch.optim.SGD([parameter], lr=0.5)
        scaler = GradScaler("cpu")
        losses = scaler.scale(make(parameter.sum(), (parameter * torch.nan).sum()))
        torch.autograd.backward(losses[0])
        torch.autograd.backward(losses[1] if isinstance(losses, list) else losses[1][0])
        scaler.step(optimizer)
        scaler.update()
        assert scaler.get_scale() == 2.0**16
        iterate(scaler, parameter, optimizer, True)  # and it is forgotten
        assert scaler.get_scale() == 2.0**15


@pytest.mark.parametrize("period", [10, 37, 500])
@pytest.mark.parametrize("way", ["the loss", "the gradient"])
def test_rare_bad_batches_do_not_keep_the_scale_from_growing(period, way):
    """torch's is below 2**-20 by then, where float16 gradients are zero."""
    parameter = one()
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    scaler = GradScaler("cpu", growth_interval=50 if period < 100 else 2000)
    names = [("w", parameter)]
    scaler._names = names
    seen = []
    for iteration in range(8000 if period == 500 else 2000):
        is_bad = iteration % period == period - 1
        if is_bad and way == "the loss":
            optimizer.zero_grad()
            scaler.scale((parameter * torch.inf).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        else:
            iterate(scaler, parameter, optimizer, is_bad)
        seen.append(scaler.get_scale())
    assert min(seen) >= 2.0**15
    assert max(seen[len(seen) // 2 :]) > 2.0**15
    assert scaler.skipped_steps == len(seen) // period


def test_a_scale_that_is_too_high_again_and_again_is_lowered():
    """Overflow follows from the scale: most steps succeed, as with torch's."""
    parameter = one()
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    scaler = GradScaler("cpu", 2.0**24, growth_interval=100)
    steps = 2000
    for _ in range(steps):
        iterate(scaler, parameter, optimizer, scaler.get_scale() > 2.0**10)
    assert scaler.get_scale() <= 2.0**11
    assert scaler.skipped_steps <= 14 + steps // 100


def test_after_steady_steps_one_overflow_is_the_batchs_and_two_are_the_scales():
    parameter = one()
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    scaler = GradScaler("cpu", named_parameters=[("w", parameter)])
    scales = []
    for overflows in [1] + [0] * 8 + [1, 1] + [0] * 7 + [1]:
        iterate(scaler, parameter, optimizer, overflows)
        scales.append(int(math.log2(scaler.get_scale())))
    assert scales == [15] + [15] * 8 + [15, 14] + [14] * 7 + [13]


def test_a_state_goes_on_bit_for_bit_with_what_was_lowered():
    choose = random.Random(0)
    plan = [choose.random() < 0.08 for _ in range(300)]

    def run(scaler, part):
        parameter = one()
        optimizer = torch.optim.SGD([parameter], lr=0.0)
        scales = []
        for overflows in part:
            iterate(scaler, parameter, optimizer, overflows)
            scales.append(scaler.get_scale())
        return scales

    def make():
        return GradScaler("cpu", growth_interval=40)

    whole = run(make(), plan)
    for cut in range(0, 300, 23):
        first, second, third = make(), make(), torch.amp.GradScaler("cpu")
        assert run(first, plan[:cut]) == whole[:cut]
        second.load_state_dict(first.state_dict())
        third.load_state_dict(first.state_dict())
        assert third.get_scale() == first.get_scale()
        assert run(second, plan[cut:]) == whole[cut:]


BAD_NUMBERS = [
    ("scale", math.nan, ValueError),
    ("scale", "1", TypeError),
    ("scale", None, TypeError),
    ("growth_factor", math.nan, ValueError),
    ("backoff_factor", 2.0, ValueError),
    ("growth_interval", 0, ValueError),
    ("_growth_tracker", -1, ValueError),
    ("_growth_tracker", 0.5, TypeError),
    (SINCE, -2, ValueError),
]


@pytest.mark.parametrize(("name", "value", "kind"), BAD_NUMBERS)
def test_states_with_numbers_that_cannot_be(name, value, kind):
    scaler = GradScaler("cpu")
    before = scaler.state_dict()
    with pytest.raises(kind, match=rf"^GradScaler\.load_state_dict\(\): {name}="):
        scaler.load_state_dict({**before, name: value})
    assert scaler.state_dict() == before


@pytest.mark.parametrize(
    ("scale", "held"),
    [
        (2.0**-140, 1.0),
        (0.0, 1.0),
        (-5.0, 1.0),
        (math.inf, 2.0**32),
        (3e38, 2.0**32),
        (7.0, 7.0),
    ],
)
@pytest.mark.parametrize("is_running", [False, True])
def test_scales_that_are_loaded_or_set_train(scale, held, is_running):
    parameter = one()
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    scaler = GradScaler("cpu")
    if is_running:
        iterate(scaler, parameter, torch.optim.SGD([parameter], lr=0.0), False)
    scaler.load_state_dict({**scaler.state_dict(), "scale": scale})
    assert scaler.get_scale() == held
    iterate(scaler, parameter, optimizer, False)
    assert parameter.item() == 0.5
    for given in (float(scale), torch.tensor(scale)):
        scaler.update(given)
        assert scaler.get_scale() == held
    for nan in (math.nan, torch.tensor(math.nan)):
        with pytest.raises(ValueError, match=r"^GradScaler\.update\(\): new_scale=nan"):
            scaler.update(nan)
    assert scaler.get_scale() == held


def test_limits_are_what_float32_holds():
    scaler = GradScaler("cpu", 0.1, min_scale=0.1, max_scale=0.1)
    assert scaler.min_scale == scaler.max_scale == np.float32(0.1)
    parameter = one()
    iterate(scaler, parameter, torch.optim.SGD([parameter], lr=0.1), True)
    assert scaler.get_scale() == np.float32(0.1)


LIMIT_ERRORS = [
    ({"min_scale": 0}, ValueError, r"GradScaler\(\): min_scale=0; expected a number from 1\.1"),
    ({"min_scale": -1.0}, ValueError, "min_scale=-1.0; expected"),
    ({"min_scale": math.nan}, ValueError, "min_scale=nan; expected"),
    ({"max_scale": math.inf}, ValueError, r"max_scale=inf; expected a number .* to 8\.5"),
    ({"max_scale": 1e39}, ValueError, "max_scale=1e"),
    ({"min_scale": "1"}, TypeError, "min_scale='1'; expected a number"),
    ({"max_scale": True}, TypeError, "max_scale=True; expected a number"),
    ({"min_scale": 4, "max_scale": 2}, ValueError, r"min_scale=4\.0 is more than max_scale=2\.0"),
    ({"min_scale": 2.0**17}, ValueError, r"init_scale=65536\.0 is less than min_scale=131072\.0"),
    ({"max_scale": 1024}, ValueError, r"init_scale=65536\.0 is more than max_scale=1024\.0"),
    ({"init_scale": math.nan, "min_scale": 1}, ValueError, "init_scale=nan; expected a number"),
    ({"init_scale": 1e300, "max_scale": 2}, ValueError, r"init_scale=1e\+300; expected a number"),
    ({"named_parameters": 3}, TypeError, "named_parameters has type int; expected pairs of a name"),
    (
        {"named_parameters": {"w": one()}},
        TypeError,
        "named_parameters has type dict; expected pairs",
    ),
    (
        {"named_parameters": [one()]},
        TypeError,
        r"named_parameters\[0\] has type Parameter; expected",
    ),
    (
        {"named_parameters": [("w", 1)]},
        TypeError,
        r"named_parameters\[0\] has type tuple; expected",
    ),
]


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize(("given", "kind", "match"), LIMIT_ERRORS)
def test_settings_that_cannot_be_are_refused(given, kind, match, enabled):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(kind, match=match):
            GradScaler("cpu", enabled=enabled, **given)


# Counts and names.


def layers():
    torch.manual_seed(0)
    return torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(4)))


def poison(model, values):
    """Gradients of ones, but for those of the parameters named in `values`."""
    for name, parameter in model.named_parameters():
        parameter.grad = torch.ones_like(parameter)
        if name in values:
            parameter.grad.view(-1)[-1] = values[name]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("clips", [False, True])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_the_layers_that_overflowed_are_named_before_clipping_makes_all_nan(value, clips, fused):
    model = layers()
    optimizer = torch.optim.AdamW(model.parameters(), fused=fused)
    scaler = GradScaler("cpu", named_parameters=model.named_parameters())
    scaler.scale(torch.zeros(()))
    before = [p.detach().clone() for p in model.parameters()]
    poison(model, {"1.weight": value, "3.bias": value})
    if clips:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        assert value == value or all(p.grad.isnan().all() for p in model.parameters())
    scaler.step(optimizer)
    assert scaler.overflowed == ("1.weight", "3.bias")
    scaler.update()
    assert scaler.overflowed == ("1.weight", "3.bias")  # until the next iteration
    assert scaler.skipped_steps == 1
    assert all(map(torch.equal, before, model.parameters()))
    poison(model, {})
    scaler.step(optimizer)
    assert scaler.overflowed == ()
    assert scaler.skipped_steps == 1
    assert not any(map(torch.equal, before, model.parameters()))


def test_several_optimizers_are_named_and_counted_together():
    model = layers()
    groups = [list(layer.parameters()) for layer in model]
    optimizers = [
        torch.optim.SGD(group, lr=0.1, fused=i % 2 == 1) for i, group in enumerate(groups)
    ]
    scaler = GradScaler("cpu", named_parameters=model.named_parameters())
    scaler.scale(torch.zeros(()))
    poison(model, {"0.bias": math.nan, "1.weight": math.inf, "3.weight": math.inf})
    for optimizer in optimizers:
        scaler.step(optimizer)
    scaler.update()
    assert scaler.skipped_steps == 3
    assert scaler.overflowed == ("0.bias", "1.weight", "3.weight")


def test_a_parameter_without_a_name_is_called_by_its_place():
    model = layers()
    optimizer = torch.optim.SGD(
        [{"params": list(model[0].parameters())}, {"params": list(model[1].parameters())}], lr=0.1
    )
    scaler = GradScaler("cpu", named_parameters=model[0].named_parameters())
    scaler.scale(torch.zeros(()))
    poison(model, {"0.weight": math.inf, "1.bias": math.inf})
    scaler.step(optimizer)
    assert scaler.overflowed == ("weight", "param_groups[1]['params'][1]")


def test_a_large_float64_gradient_is_not_named_beside_one_that_overflowed():
    """Finite in its own type, though not in float32."""
    large, other = (torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    optimizer = torch.optim.SGD([large, other], lr=0.1)
    scaler = GradScaler("cpu", named_parameters=[("large", large), ("other", other)])
    scaler.scale(torch.ones(()))
    large.grad = torch.full((2,), 1e200, dtype=torch.float64)
    other.grad = torch.full((2,), torch.inf, dtype=torch.float64)
    scaler.step(optimizer)
    assert scaler.overflowed == ("other",)


def test_sparse_empty_and_missing_gradients():
    table, empty = torch.nn.Embedding(5, 2, sparse=True), torch.nn.Parameter(torch.zeros(0))
    unused = one()
    named = [("table", table.weight), ("empty", empty), ("unused", unused)]
    optimizer = torch.optim.SGD([p for _, p in named], lr=0.1)
    scaler = GradScaler("cpu", named_parameters=iter(named))
    loss = (table(torch.tensor([1, 1, 3])) * torch.tensor([1.0, torch.inf])).sum() + empty.sum()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    assert scaler.overflowed == ("table",)
    assert scaler.skipped_steps == 1


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
def test_it_waits_for_the_device_no_more_often_than_torch(named, explicit):
    """Until something overflows, and for fused optimizers as long as no names are wanted."""
    for fused in (False, True):
        waits = {}
        for kind in (torch.amp.GradScaler, GradScaler):
            model = layers()
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
            names = {"named_parameters": model.named_parameters()} if named else {}
            scaler = kind("cpu", **(names if kind is GradScaler else {}))
            scaler.scale(torch.zeros(()))
            with Waits() as counter:
                for _ in range(5):
                    poison(model, {})
                    if explicit:
                        scaler.unscale_(optimizer)
                    scaler.step(optimizer)
                    scaler.update()
            waits[kind] = counter.count
        assert waits[torch.amp.GradScaler] == (0 if fused else 5)
        assert waits[GradScaler] == (5 if named or not fused else 0)


def test_counting_what_fused_optimizers_skip_waits_when_it_is_read():
    model = layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    scaler = GradScaler("cpu")
    scaler.scale(torch.zeros(()))
    for iteration in range(6):
        poison(model, {"2.bias": math.nan} if iteration % 3 == 0 else {})
        scaler.step(optimizer)
        scaler.update()
    with Waits() as counter:
        assert scaler.skipped_steps == 2
        assert scaler.skipped_steps == 2
    assert counter.count == 1


# Torch's own manners.


def misuse(scaler, optimizer, parameter, which):
    def scaled():
        parameter.grad = torch.ones_like(parameter)
        scaler.scale(torch.zeros(()))

    if which == "no scale":
        scaler.step(optimizer)
    elif which == "no step":
        scaled()
        scaler.update()
    elif which == "no gradients":
        scaler.scale(torch.zeros(()))
        scaler.step(optimizer)
    elif which == "unscale twice":
        scaled()
        scaler.unscale_(optimizer)
        scaler.unscale_(optimizer)
    elif which == "unscale after step":
        scaled()
        scaler.step(optimizer)
        scaler.unscale_(optimizer)
    elif which == "step twice":
        scaled()
        scaler.step(optimizer)
        scaler.step(optimizer)
    elif which == "closure":
        scaled()
        scaler.step(optimizer, closure=lambda: None)
    elif which == "float16":
        parameter.data = parameter.data.half()
        scaled()
        scaler.unscale_(optimizer)
    elif which == "integer":
        scaled()
        scaler.update(2)
    elif which == "empty state":
        scaler.load_state_dict({})
    elif which == "pickle":
        scaled()
        scaler.step(optimizer)
        pickle.dumps(scaler)
    elif which == "text":
        scaler.scale(3)


@pytest.mark.parametrize(
    "which",
    [
        *("no scale", "no step", "no gradients", "unscale twice", "unscale after step"),
        *("step twice", "closure", "float16", "integer", "empty state", "pickle", "text"),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_misuse_fails_as_it_does_in_torch(which, named):
    errors = []
    for kind in (torch.amp.GradScaler, GradScaler):
        parameter = one()
        names = {"named_parameters": [("w", parameter)]} if named and kind is GradScaler else {}
        with pytest.raises(Exception) as caught:  # noqa: PT011 (compared below)
            misuse(kind("cpu", **names), torch.optim.SGD([parameter], lr=0.1), parameter, which)
        errors.append((caught.type, str(caught.value)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("given", [{"growth_factor": 1.0}, {"backoff_factor": 1.0}])
def test_a_factor_that_keeps_the_scale_is_refused(given):
    with pytest.raises(ValueError, match=r"^GradScaler\(\): (growth|backoff)_factor=1 keeps"):
        GradScaler("cpu", **given)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("init_scale", True, TypeError),
        ("init_scale", "3", TypeError),
        ("init_scale", math.nan, ValueError),
        ("init_scale", -1.0, ValueError),
        ("init_scale", 0, ValueError),
        ("enabled", "no", TypeError),
        ("enabled", 1, TypeError),
        ("growth_interval", True, TypeError),
        ("growth_interval", 0, ValueError),
        ("growth_factor", "2", TypeError),
        ("growth_factor", math.inf, ValueError),
        ("backoff_factor", -0.5, ValueError),
    ],
)
def test_torchs_own_settings_are_read_as_the_others_are(name, value, error):
    with pytest.raises(error, match=rf"^GradScaler\(\): {name}="):
        GradScaler("cpu", **{name: value})


def test_its_repr_shows_what_differs_from_the_default():
    assert repr(GradScaler("cpu")) == "GradScaler('cpu')"
    assert repr(GradScaler("cpu", enabled=False)) == "GradScaler('cpu', enabled=False)"
    given = {"growth_interval": 5, "min_scale": 2, "named_parameters": [("w", one())]}
    assert repr(GradScaler("cpu", 8, **given)) == (
        "GradScaler('cpu', init_scale=8.0, growth_interval=5, min_scale=2.0, "
        "named_parameters=<1 name>)"
    )


def test_disabled_it_does_nothing():
    parameter = one()
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    scaler = GradScaler("cpu", enabled=False, min_scale=1, named_parameters=[("w", parameter)])
    loss = parameter.sum()
    assert scaler.scale(loss) is loss
    loss.backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert parameter.item() == 0.5
    assert scaler.state_dict() == {}
    scaler.load_state_dict({})
    assert (scaler.get_scale(), scaler.skipped_steps, scaler.overflowed) == (1.0, 0, ())
    assert pickle.loads(pickle.dumps(scaler)).is_enabled() is False


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there_disables_it():
    with pytest.warns(UserWarning, match="CUDA is not available"):
        assert not GradScaler().is_enabled()


def test_a_pickle_goes_on_where_the_scaler_was():
    model = layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    scaler = GradScaler("cpu", growth_interval=3, min_scale=4.0)
    scaler.scale(torch.zeros(()))
    for iteration in range(4):
        poison(model, {"0.bias": math.nan} if iteration == 0 else {})
        scaler.step(optimizer)
        scaler.update()
    for copied in (pickle.loads(pickle.dumps(scaler)), copy.deepcopy(scaler)):
        assert copied.state_dict() == scaler.state_dict()
        assert (copied.skipped_steps, copied.min_scale) == (1, 4.0)


def test_a_copy_of_the_scaler_alone_tells_places():
    parameter = one()
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scaler = GradScaler("cpu", named_parameters=[("weight", parameter)])
    both = copy.deepcopy((scaler, optimizer))
    for (each, owner), name in (
        ((copy.deepcopy(scaler), optimizer), "param_groups[0]['params'][0]"),
        (both, "weight"),
    ):
        each.scale(torch.ones(()))
        owner.param_groups[0]["params"][0].grad = torch.tensor([torch.inf])
        each.step(owner)
        assert each.overflowed == (name,)


def test_a_scaler_pickled_with_its_model_still_knows_the_names():
    model = layers()
    scaler = GradScaler("cpu", named_parameters=model.named_parameters())
    model, scaler = pickle.loads(pickle.dumps((model, scaler)))
    scaler.scale(torch.zeros(()))
    poison(model, {"2.weight": math.inf})
    scaler.step(torch.optim.SGD(model.parameters(), lr=0.1))
    assert scaler.overflowed == ("2.weight",)


@pytest.mark.cuda
@pytest.mark.parametrize("fused", [False, True])
def test_on_cuda_it_is_torchs_scaler_too(fused):
    ends = []
    for kind in (torch.amp.GradScaler, GradScaler):
        model = layers().cuda()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
        scaler = kind("cuda", growth_interval=2)
        for iteration in range(12):
            optimizer.zero_grad()
            x = torch.full((4, 3), iteration / 8.0)
            with torch.autocast("cuda", torch.float16):
                loss = model(x.cuda()).float().square().mean()
            gradient = torch.full((3,), math.nan if iteration % 5 == 3 else 0.0, device="cuda")
            loss = loss + Graded.apply(model[3].bias, gradient)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        state = {key: scaler.state_dict()[key] for key in KEYS}
        ends.append((state, [p.cpu() for p in model.parameters()]))
    assert ends[0][0] == ends[1][0]
    assert all(map(torch.equal, ends[0][1], ends[1][1]))
    assert scaler.skipped_steps == 2
