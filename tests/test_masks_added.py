"""Additive masks where models use them: added to scores, and to each other, in half types too."""

import itertools

import numpy as np
import pytest

import tightbatch as tb
from conftest import SANITIZED

TYPES = ["float16", "float32", "float64"]
WIDTH = 6
LENGTHS = [6, 3, 1, 0]


def masks_of(kind, dtype):
    """An additive mask [4, 6, 6], or [4, 1, 6] for padding alone."""
    if kind == "padding":
        return tb.attention_mask(LENGTHS, WIDTH, dtype=dtype, additive=True)[:, None]
    ids = tb.segment_ids([[n] if n else [] for n in LENGTHS], WIDTH)
    rule = {"causal": {"causal": True}, "window": {"window": 2}, "segments": {}}[kind]
    return tb.segment_mask(ids, dtype=dtype, additive=True, **rule)


KINDS = ["padding", "causal", "window", "segments"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("first", "second"), list(itertools.combinations_with_replacement(KINDS, 2))
)
def test_sums_of_masks_and_scores_stay_finite_and_mask_out(dtype, first, second):
    room = 15000.0 if dtype == "float16" else float(np.finfo(dtype).max) / 9
    one, two = masks_of(first, dtype), masks_of(second, dtype)
    lowest = -32752.0 if dtype == "float16" else float(np.finfo(dtype).min) / 4
    for score in (lowest, -16.0, 0.0, room):
        total = one + two + np.asarray(score, dtype)
        assert total.dtype == dtype
        assert np.isfinite(total).all()
    generator = np.random.default_rng(0)
    scores = generator.uniform(-room / 2, room / 2, (4, WIDTH, WIDTH)).astype(dtype)
    total = (scores + one + two).astype(np.float64)
    weights = np.exp(total - total.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    assert np.isfinite(weights).all()
    seen = np.broadcast_to((one == 0) & (two == 0), weights.shape)
    some = np.broadcast_to(seen.any(axis=-1, keepdims=True), weights.shape)
    assert (weights[some & ~seen] == 0).all()


@pytest.mark.skipif(SANITIZED, reason="it is torch that computes")
@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("way", ["eager", "sdpa", "eager, added one by one"])
@pytest.mark.parametrize("spread", [1.0, 16.0])
def test_attention_is_that_of_bool_masks_forward_and_backward(name, way, spread):
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, name)
    if name == "bfloat16":
        pytest.importorskip("ml_dtypes")
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(4, 2, WIDTH, 8, generator=generator).to(dtype) for _ in range(3)]
    made[0] *= spread

    def masked(additive):
        ids = tb.segment_ids([[n] if n else [] for n in LENGTHS], WIDTH)
        given = {"dtype": dtype, "additive": True} if additive else {}
        out = torch.empty((4, WIDTH, WIDTH), dtype=dtype if additive else torch.bool)
        tb.segment_mask(ids, causal=True, out=out, **given)
        if additive and dtype == torch.bfloat16:
            rows = tb.attention_mask(LENGTHS, WIDTH, **given).view(np.int16)
            return out[:, None], torch.from_numpy(rows).view(dtype)[:, None, None]
        padding = torch.from_numpy(tb.attention_mask(LENGTHS, WIDTH, **given))
        return out[:, None], padding[:, None, None]

    def attend(additive):
        query, key, value = (tensor.clone().requires_grad_() for tensor in made)
        causal, padding = masked(additive)
        if way == "sdpa":
            mask = causal + padding if additive else causal & padding
            mask = mask.expand(4, 1, WIDTH, WIDTH)
            out = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask)
        else:
            scores = query @ key.transpose(-1, -2) / 8**0.5
            if not additive:
                scores = scores.masked_fill(~(causal & padding), -torch.inf)
            elif way == "eager":
                scores = scores + (causal + padding)
            else:
                scores = scores + causal + padding
            out = scores.float().softmax(-1).to(dtype) @ value
        seen = (masked(False)[0] & masked(False)[1]).any(-1)[..., None]
        out.masked_fill(~seen, 0.0).square().sum().backward()
        return out.detach(), [t.grad for t in (query, key, value)], seen

    ours, gradients, seen = attend(additive=True)
    peer, expected, _ = attend(additive=False)
    assert ours.isfinite().all()  # rows of only padding too
    assert all(gradient.isfinite().all() for gradient in gradients)
    rows = seen.expand_as(ours)
    tolerance = {"float16": 1e-3, "bfloat16": 1e-2, "float32": 1e-6}[name]
    torch.testing.assert_close(ours[rows], peer[rows], rtol=tolerance, atol=tolerance)
    if all(gradient.isfinite().all() for gradient in expected):
        for found, right in zip(gradients, expected, strict=True):
            torch.testing.assert_close(found, right, rtol=tolerance * 4, atol=tolerance * 4)
    if name == "float32":  # the mean of what is masked least: the causal mask's keys
        counts = torch.arange(1, WIDTH + 1)[:, None]
        mean = made[2][3].cumsum(dim=-2) / counts
        torch.testing.assert_close(ours[3], mean, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(SANITIZED, reason="it is torch that computes")
@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_transformers_attends_as_with_its_own_additive_masks(name):
    """A model with eager attention, given our mask instead of the one that it makes itself."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, attn_implementation="eager",
    )  # fmt: skip
    dtype = getattr(torch, name)
    model = transformers.LlamaModel(config).to(dtype).eval()
    lengths = [6, 3, 1]
    ids = torch.randint(1, 50, (3, WIDTH), generator=torch.Generator().manual_seed(1))
    plain = torch.from_numpy(tb.attention_mask(lengths, WIDTH, dtype="int64"))
    mask = torch.empty((3, WIDTH, WIDTH), dtype=dtype)
    tb.segment_mask(tb.segment_ids([[n] for n in lengths]), causal=True, additive=True,
                    dtype=dtype, out=mask)  # fmt: skip
    with torch.no_grad():
        own = model(input_ids=ids, attention_mask=plain, use_cache=False).last_hidden_state
        ours = model(input_ids=ids, attention_mask=mask[:, None], use_cache=False).last_hidden_state
    assert ours.isfinite().all()
    tokens = plain.bool()
    tolerance = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-6}[name]
    torch.testing.assert_close(ours[tokens], own[tokens], rtol=tolerance, atol=tolerance)
