"""Train a small Transformer to tell which package a docstring is from, batched by length."""

import ast
import random
import sysconfig
import time
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from torch.utils.data import DataLoader
from transformers import ModernBertConfig, ModernBertForSequenceClassification

import tightbatch as tb

PACKAGES = ["asyncio", "email", "importlib", "unittest", "xml"]
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
texts, labels = [], []
for label, package in enumerate(PACKAGES):
    for path in sorted(Path(sysconfig.get_paths()["stdlib"], package).rglob("*.py")):
        nodes = [n for n in ast.walk(ast.parse(path.read_bytes())) if isinstance(n, DOCUMENTED)]
        texts += [text for node in nodes if (text := ast.get_docstring(node))]
    labels += [label] * (len(texts) - len(labels))
tokenizer = ByteLevelBPETokenizer()
tokenizer.train_from_iterator(texts, 2000, special_tokens=["<pad>"], show_progress=False)  # id 0
encodings = zip(tokenizer.encode_batch(texts), labels, strict=True)
rows = [{"input_ids": encoding.ids, "labels": label} for encoding, label in encodings]
random.Random(0).shuffle(rows)
held_out, training = rows[: len(rows) // 5], rows[len(rows) // 5 :]

# The two lines that matter: rows of similar length share a batch, and the batch is only as wide.
sampler = tb.LengthBatchSampler([len(row["input_ids"]) for row in training], batch_size=32)
collate = tb.PadCollator(max_length=256)  # longer rows are cut
loader = DataLoader(training, batch_sampler=sampler, collate_fn=collate)

torch.manual_seed(0)
model = ModernBertForSequenceClassification(ModernBertConfig(
    vocab_size=2000, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
    num_attention_heads=2, initializer_range=0.05, classifier_pooling="mean", pad_token_id=0,
    bos_token_id=0, eos_token_id=0, cls_token_id=0, sep_token_id=0, num_labels=len(PACKAGES),
))  # fmt: skip
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for epoch in range(3):
    begin, real, padded = time.perf_counter(), 0, 0
    for batch in loader:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        real += int(batch["attention_mask"].sum())
        padded += batch["attention_mask"].numel()
    waste, seconds = 1 - real / padded, time.perf_counter() - begin
    print(f"epoch {epoch}: loss {loss:.3f}, {waste:.1%} padding, {real / seconds:,.0f} tokens/s")
model.eval()
with torch.inference_mode():
    test = collate(held_out)
    right = (model(**test).logits.argmax(-1) == test["labels"]).float().mean()
print(f"held-out accuracy {right:.1%} of {len(held_out)} rows")
