"""Train a small language model with accelerate on any number of processes, and resume it.

accelerate launch --num_processes 2 train_accelerate.py --stop-after 3
accelerate launch --num_processes 2 train_accelerate.py --resume

On CPUs: torchrun --nproc-per-node 2, as accelerate's own command starts one process there.
"""

import argparse
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

import tightbatch as tb

EPOCHS, ACCUMULATE = 2, 2
paragraphs = [text for topic in topics.values() for text in topic.split("\n\n")]
rows = [{"input_ids": list(text.encode()[:200])} for text in paragraphs[:150] if len(text) > 1]


class Progress:
    """What accelerate saves beside the model: the batch that training has come to."""

    def __init__(self, sampler):
        self.sampler, self.done = sampler, 0  # loaders read ahead: `done` batches were trained on

    def state_dict(self):
        return self.sampler.state_dict(batches_consumed=self.done)

    def load_state_dict(self, state):
        self.sampler.load_state_dict(state)


def main(folder="accelerate_out", resume=False, stop_after=None):
    accelerator = Accelerator()
    # The sampler shares the batches out among the processes, with as many steps for each. So
    # accelerate must not: the loader does not go through prepare.
    sampler = tb.LengthBatchSampler(
        tb.lengths(rows, "input_ids"),
        max_tokens=1024,
        padding_free=True,
        num_replicas=accelerator.num_processes,
        rank=accelerator.process_index,
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    collate_fn = tb.PaddingFreeCollator.for_model(model)
    loader = DataLoader(rows, batch_sampler=sampler, collate_fn=collate_fn)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=3e-3))
    progress = Progress(sampler)
    accelerator.register_for_checkpointing(progress)
    if resume:
        accelerator.load_state(folder)

    steps = 0
    while sampler.epoch < EPOCHS:
        epoch, batches = sampler.epoch, iter(loader)
        progress.done = 0
        while window := list(islice(batches, ACCUMULATE)):
            window = [batch.to(accelerator.device) for batch in window]
            # The mean over all labels of the step, on all processes: not a mean of means.
            labels = sum((batch["labels"][:, 1:] != -100).sum() for batch in window)
            labels = accelerator.reduce(labels, "sum")
            total = 0.0
            for i, batch in enumerate(window):
                is_last = i + 1 == len(window)
                with nullcontext() if is_last else accelerator.no_sync(model):
                    loss = model(**batch, num_items_in_batch=labels).loss
                    accelerator.backward(loss * accelerator.num_processes)  # DDP takes the mean
                total += loss.detach()
            optimizer.step()
            optimizer.zero_grad()
            progress.done += len(window)
            steps += 1
            total = accelerator.reduce(total, "sum")
            accelerator.print(f"epoch {epoch}, batch {progress.done}: loss {total:.4f}")
            if steps == stop_after:
                accelerator.save_state(folder)
                return accelerator.unwrap_model(model)
    return accelerator.unwrap_model(model)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--stop-after", type=int)
    options = parser.parse_args()
    main(Path("accelerate_out"), options.resume, options.stop_after)
