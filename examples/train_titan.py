"""Pre-train a small language model on packs of a token stream, sharded by FSDP2, and resume it.

torchrun --nproc-per-node 2 train_titan.py --steps 6
torchrun --nproc-per-node 2 train_titan.py --steps 12 --resume
"""

import argparse
import pickle
import random
from itertools import islice
from pydoc_data.topics import topics

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.stateful import Stateful
from torch.distributed.fsdp import fully_shard
from transformers import LlamaConfig, LlamaForCausalLM

import tightbatch as tb

SEQ_LEN, ACCUMULATE = 512, 2
tokens = [list(text.encode()) for text in topics.values()]
# A long document becomes several, each of at most a pack.
documents = [ids[at : at + SEQ_LEN] for ids in tokens for at in range(0, len(ids) - 1, SEQ_LEN)]
documents = documents[:48]


class Documents:
    """An endless stream in a new order each epoch, which knows how far it was read."""

    def __init__(self):
        self.read = 0

    def __iter__(self):
        while True:
            epoch, begin = divmod(self.read, len(documents))
            for document in random.Random(epoch).sample(documents, len(documents))[begin:]:
                self.read += 1
                yield document

    def state_dict(self):
        return {"read": self.read}

    def load_state_dict(self, state):
        self.read = state["read"]


class PackedLoader(Stateful):
    """Packs of whole documents; its state is saved for each data-parallel rank."""

    def __init__(self, batcher, collate_fn):
        self.batcher, self.collate_fn = batcher, collate_fn
        self.key = f"dp_rank_{batcher.rank}"

    def __iter__(self):
        for pack in self.batcher:
            yield self.collate_fn([{"input_ids": document} for document in pack])

    def state_dict(self):
        return {self.key: pickle.dumps(self.batcher.state_dict())}

    def load_state_dict(self, state):
        self.batcher.load_state_dict(pickle.loads(state[self.key]))


class Training(Stateful):
    """The model and its optimizer, as torch.distributed.checkpoint takes them."""

    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer

    def state_dict(self):
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def load_state_dict(self, state):
        parts = {"model_state_dict": state["model"], "optim_state_dict": state["optimizer"]}
        set_state_dict(self.model, self.optimizer, **parts)


def main(folder="titan_out", steps=12, resume=False):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    mesh = dist.init_device_mesh(device, (dist.get_world_size(),), mesh_dim_names=("dp",))
    batcher = tb.StreamBatcher(
        Documents(),
        max_tokens=SEQ_LEN,
        padding_free=True,
        buffer=16,
        num_replicas=mesh["dp"].size(),  # not those of other dimensions, which get the same packs
        rank=mesh["dp"].get_local_rank(),
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=SEQ_LEN,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    # Attention keeps to a document, and every batch has the same shape, which torch.compile likes.
    collate_fn = tb.PaddingFreeCollator.for_model(model, max_tokens=SEQ_LEN)
    model = fully_shard(model.to(device), mesh=mesh["dp"])
    model.set_gradient_divide_factor(1.0)  # the loss is divided already, by the labels of all ranks
    model.set_force_sum_reduction_for_comms(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loader = PackedLoader(batcher, collate_fn)
    progress = {"step": 0, "loader": loader, "training": Training(model, optimizer)}
    if resume:
        dcp.load(progress, checkpoint_id=folder)

    batches = iter(loader)
    for step in range(progress["step"], steps):
        window = [batch.to(device) for batch in islice(batches, ACCUMULATE)]
        labels = sum((batch["labels"][:, 1:] != -100).sum() for batch in window)
        dist.all_reduce(labels, group=mesh.get_group("dp"))
        total = torch.zeros((), device=device)
        for i, batch in enumerate(window):
            model.set_requires_gradient_sync(i + 1 == len(window))
            loss = model(**batch, num_items_in_batch=labels).loss
            loss.backward()
            total += loss.detach()
        optimizer.step()
        optimizer.zero_grad()
        dist.all_reduce(total, group=mesh.get_group("dp"))
        if dist.get_rank() == 0:
            print(f"step {step}: loss {total:.4f}")
    progress["step"] = steps
    dcp.save(progress, checkpoint_id=folder)
    return model, batcher


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    dist.init_process_group()
    main(steps=options.steps, resume=options.resume)
    dist.destroy_process_group()
