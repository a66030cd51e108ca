"""Train a small language model on docstrings without a token of padding, and resume it."""

import ast
import sysconfig
import time
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

import tightbatch as tb

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
texts = []
for path in sorted(Path(sysconfig.get_paths()["stdlib"], "asyncio").rglob("*.py")):
    nodes = [n for n in ast.walk(ast.parse(path.read_bytes())) if isinstance(n, DOCUMENTED)]
    texts += [text for node in nodes if (text := ast.get_docstring(node))]
tokenizer = ByteLevelBPETokenizer()
tokenizer.train_from_iterator(texts, 1000, special_tokens=["<pad>"], show_progress=False)
rows = tb.Ragged.from_sequences([encoding.ids for encoding in tokenizer.encode_batch(texts)])
data = tb.RaggedDataset({"input_ids": rows})

# Batches are packs of at most 1024 tokens, other ones each epoch; rows longer than that are cut.
sampler = tb.LengthBatchSampler(
    rows.lengths, max_tokens=1024, padding_free=True, overlong="truncate", longest_first=True
)

torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=1000, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=1024,
))  # fmt: skip
# The model reads from position_ids where rows begin. for_model tries it on a few rows, and would
# raise an error if it did not keep them apart.
collate = tb.PaddingFreeCollator.for_model(model, max_length=sampler.max_length)
loader = DataLoader(data, batch_sampler=sampler, collate_fn=collate)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for epoch in range(3):
    begin, tokens, total = time.perf_counter(), 0, 0.0
    for step, batch in enumerate(loader):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        tokens += batch["input_ids"].numel()
        total += loss.item()
        if (epoch, step) == (1, 2):  # as if stopped here: a few numbers are all there is to keep
            state = sampler.state_dict(batches_consumed=step + 1)
    rate = tokens / (time.perf_counter() - begin)
    full = tokens / (len(loader) * 1024)
    print(f"epoch {epoch}: loss {total / (step + 1):.3f}, {full:.1%} full, {rate:,.0f} tokens/s")

model.eval()
batch = collate(data[[0, 1, 2]])
begin, end = batch["cu_seq_lens_q"][1:3].tolist()
with torch.no_grad():
    alone = model(input_ids=batch["input_ids"][:, begin:end]).logits
    apart = (model(**batch).logits[:, begin:end] - alone).abs().max().item()
print(f"a row beside others and alone: logits differ by at most {apart:.1e}")

sampler.load_state_dict(state)
print(f"resumed in epoch {sampler.epoch}: {sum(1 for _ in loader)} of {len(loader)} steps left")
