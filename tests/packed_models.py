"""Small models of transformers for tests of packed batches, and what each row gives alone."""

import itertools

import numpy as np
import torch
import transformers

LENGTHS = (7, 1, 12, 3)
# Two orders of summation in float32; logits are of the order of 1.
CLOSE = {"rtol": 1e-4, "atol": 5e-5}
PLAIN = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
GROUPED = {**PLAIN, "num_key_value_heads": 2}
HEADS = {**GROUPED, "head_dim": 8}
GPT = {
    "vocab_size": 50,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
DROPOUTS = ("attention_dropout", "hidden_dropout", "hidden_dropout_prob", "dropout",
            "attention_probs_dropout_prob", "resid_pdrop", "embd_pdrop", "attn_pdrop",
            "embedding_dropout", "classifier_dropout")  # fmt: skip
# Language models that read from position_ids where rows begin.
DECODERS = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", GROUPED),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", GROUPED),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", HEADS),
    "mistral": ("MistralConfig", "MistralForCausalLM", {**GROUPED, "sliding_window": 4}),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", {**GROUPED, "num_local_experts": 4}),
    "gemma": ("GemmaConfig", "GemmaForCausalLM", HEADS),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", {**HEADS, "sliding_window": 4}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", GPT),
    "neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", PLAIN),
    "phi": ("PhiConfig", "PhiForCausalLM", PLAIN),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", GROUPED),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM", PLAIN),
}
SIZES = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 4, "pad_token_id": 0}
# Models that need a mask.
MASKED = {
    "bert": ("BertConfig", "BertForTokenClassification", PLAIN),
    "bert mlm": ("BertConfig", "BertForMaskedLM", PLAIN),
    "roberta": ("RobertaConfig", "RobertaForMaskedLM", {**PLAIN, "pad_token_id": 1}),
    "distilbert": ("DistilBertConfig", "DistilBertForMaskedLM",
                   {"vocab_size": 50, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4,
                    "max_position_embeddings": 64, "initializer_range": 0.2}),
    "electra": ("ElectraConfig", "ElectraForMaskedLM", {**PLAIN, "embedding_size": 32}),
    "modernbert, short rows": ("ModernBertConfig", "ModernBertForMaskedLM",
                               {**PLAIN, "local_attention": 4096}),
    "bert decoder": ("BertConfig", "BertLMHeadModel", {**PLAIN, "is_decoder": True}),
    "opt": ("OPTConfig", "OPTForCausalLM",
            {**SIZES, "ffn_dim": 48, "num_hidden_layers": 2, "max_position_embeddings": 64,
             "init_std": 0.2, "word_embed_proj_dim": 32}),
    "falcon": ("FalconConfig", "FalconForCausalLM",
               {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2,
                "num_attention_heads": 4, "initializer_range": 0.2}),
}  # fmt: skip
# Models that mix the rows whatever a batch says, here.
MIXING = {
    "bloom": ("BloomConfig", "BloomForCausalLM",
              {"vocab_size": 50, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "mamba": ("MambaConfig", "MambaForCausalLM",
              {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "modernbert": ("ModernBertConfig", "ModernBertForMaskedLM",
                   {**PLAIN, "local_attention": 8, "global_attn_every_n_layers": 2}),
    "xlnet": ("XLNetConfig", "XLNetLMHeadModel",
              {"vocab_size": 50, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}),
}  # fmt: skip
ALL = {**DECODERS, **MASKED, **MIXING}


def make_model(name, attention="sdpa", training=False, **changes):
    """A model without dropout, with weights large enough that a leak is no rounding error."""
    config, model, settings = ALL[name]
    torch.manual_seed(0)
    made = getattr(transformers, config)(**{**settings, **changes})
    for dropout in DROPOUTS:
        if hasattr(made, dropout):
            setattr(made, dropout, 0.0)
    made._attn_implementation = attention
    return getattr(transformers, model)(made).train(training)


def make_rows(lengths=LENGTHS, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.integers(3, 50, n) for n in lengths]


def make_packs(rows, ends=(3,)):
    """Samples that are packs of rows, with seq_lengths."""
    edges = [0, *ends, len(rows)]
    parts = [rows[a:b] for a, b in itertools.pairwise(edges)]
    return [
        {"input_ids": np.concatenate(part), "seq_lengths": [len(row) for row in part]}
        for part in parts
    ]


def gradients_of(model, outputs):
    """Gradients of a sum that weighs each output differently."""
    model.zero_grad()
    weights = [
        torch.linspace(-1, 1, out.numel(), device=out.device).view(out.shape) for out in outputs
    ]
    total = sum((out * weight).sum() for out, weight in zip(outputs, weights, strict=True))
    total.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def outputs_of(model, rows, batch, starts):
    """(what each row gives in the batch, what it gives alone)."""
    logits = model(**batch).logits[0]
    parts = [logits[s : s + len(row)] for s, row in zip(starts, rows, strict=True)]
    tensors = [torch.as_tensor(row, device=logits.device)[None] for row in rows]
    return parts, [model(input_ids=tensor).logits[0] for tensor in tensors]


def assert_rows_are_apart(model, rows, batch, starts, **close):
    """The batch, as it is, gives each row, and its gradients, what the row gives alone."""
    close = close or CLOSE
    parts, outputs = outputs_of(model, rows, batch, starts)
    torch.testing.assert_close(parts, outputs, **close)
    gradients = gradients_of(model, outputs)
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    for name, gradient in gradients_of(model, parts).items():
        # Some are 0 but for rounding, as those of the keys' bias.
        scale = max(gradients[name].abs().max().item(), largest / 100)
        torch.testing.assert_close(gradient / scale, gradients[name] / scale, **close)


def starts_of(rows):
    return np.cumsum([0, *map(len, rows)])[:-1].tolist()
