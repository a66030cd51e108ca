"""Train on any number of ranks, with accumulated gradients, and go on with other ranks.

torchrun --standalone --nproc-per-node 2 examples/train_ddp.py --steps 8
torchrun --standalone --nproc-per-node 3 examples/train_ddp.py
"""

import argparse
import ast
import sysconfig
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

import tightbatch as tb

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.pt"))
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument(
    "--accumulate", type=int, default=2, help="micro-batches of each rank in a step"
)
parser.add_argument("--steps", type=int, help="stop after so many")
options = parser.parse_args()

dist.init_process_group("gloo")  # "nccl" with GPUs
rank, ranks = dist.get_rank(), dist.get_world_size()

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
rows = []
for path in sorted(Path(sysconfig.get_paths()["stdlib"], "asyncio").rglob("*.py")):
    nodes = [n for n in ast.walk(ast.parse(path.read_bytes())) if isinstance(n, DOCUMENTED)]
    texts = [text.encode() for node in nodes if (text := ast.get_docstring(node))]
    rows += [{"input_ids": list(text), "labels": list(text)} for text in texts]

# All ranks make the same plan, and each takes its batches: as many, and of about the same cost.
lengths = [len(row["input_ids"]) for row in rows]
sampler = tb.LengthBatchSampler(
    lengths, max_tokens=2048, max_length=128, num_replicas=ranks, rank=rank
)
loader = DataLoader(rows, batch_sampler=sampler, collate_fn=tb.PadCollator(max_length=128))


class Model(torch.nn.Module):
    """Predicts the next byte."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(256, 32)
        self.inner = torch.nn.GRU(32, 64, batch_first=True)
        self.head = torch.nn.Linear(64, 256)

    def forward(self, ids):
        return self.head(self.inner(self.embed(ids))[0])


torch.manual_seed(0)
model = DistributedDataParallel(Model())
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
if options.checkpoint.exists():  # written by any number of ranks
    saved = torch.load(options.checkpoint)
    model.module.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    sampler.load_state_dict(saved["sampler"])


def add_over_ranks(number):
    number = torch.tensor(float(number), dtype=torch.float64)
    dist.all_reduce(number)
    return number.item()


steps = 0
for epoch in range(sampler.epoch, options.epochs):
    sampler.set_epoch(epoch)
    batches, done, seen, sums, labels = iter(loader), 0, 0, 0.0, 0.0
    while steps != options.steps and (step := list(islice(batches, options.accumulate))):
        # The mean over all labels of the step, on all ranks: DDP divides by the number of ranks.
        items = add_over_ranks(sum(int((b["labels"][:, 1:] != -100).sum()) for b in step))
        for batch in step:
            with nullcontext() if batch is step[-1] else model.no_sync():
                logits = model(batch["input_ids"])[:, :-1].flatten(0, 1)
                loss = cross_entropy(logits, batch["labels"][:, 1:].flatten(), reduction="sum")
                (loss * ranks / items).backward()
            seen, sums = seen + len(batch["input_ids"]), sums + loss.item()
        optimizer.step()
        optimizer.zero_grad()
        steps, done, labels = steps + 1, done + len(step), labels + items
        if rank == 0:
            saved = {
                "model": model.module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "sampler": sampler.state_dict(batches_consumed=done),  # the same on every rank
            }
            torch.save(saved, options.checkpoint.with_suffix(".new"))
            options.checkpoint.with_suffix(".new").replace(options.checkpoint)
    seen, sums = add_over_ranks(seen), add_over_ranks(sums)
    if rank == 0 and seen:
        print(
            f"epoch {epoch}: {seen:.0f} of {len(rows)} rows on {ranks} ranks, {done} batches on "
            f"each, loss {sums / labels:.3f}"
        )
    if steps == options.steps:
        break
dist.destroy_process_group()
