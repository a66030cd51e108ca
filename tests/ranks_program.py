"""What test_torchrun runs on every rank of torchrun: each answers in a JSON file of its own.

torchrun ... ranks_program.py check FOLDER
torchrun ... ranks_program.py train FOLDER STOP    one rank is killed at step STOP; 0: none is
"""

import json
import os
import signal
import sys
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.algorithms.join import Join
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

import tightbatch as tb

WORDS = 17
LENGTHS = [(7 * i * i + 3 * i) % 37 + 2 for i in range(203)]  # of 203 rows: uneven for any ranks
PLANS = {
    "padded": {"max_tokens": 120},
    "padded, rows": {"batch_size": 5},
    "padding-free": {"batch_size": 5, "padding_free": True},
    "packs": {"max_tokens": 120, "padding_free": True},
}


def row(number):
    tokens = torch.arange(LENGTHS[number]) * (number + 1) % WORDS
    return {"input_ids": tokens, "labels": tokens, "row": number}


def stream():
    return map(row, range(len(LENGTHS)))


class Rows(torch.utils.data.Dataset):
    def __getitem__(self, number):
        return row(number)

    def __len__(self):
        return len(LENGTHS)


class Model(torch.nn.Module):
    """A language model without attention: padding and neighbours change nothing."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(WORDS, 8)
        self.inner = torch.nn.Linear(8, 8)
        self.head = torch.nn.Linear(8, WORDS)
        self.double()

    def forward(self, ids):
        return self.head(torch.tanh(self.inner(self.embed(ids))))


def collate(padding_free):
    make = tb.PaddingFreeCollator() if padding_free else tb.PadCollator()

    def apply(rows):
        batch = make([{key: one[key] for key in ("input_ids", "labels")} for one in rows])
        return {"batch": batch, "rows": [one["row"] for one in rows]}

    return apply


def loss_of(model, batch, reduction="mean"):
    """The loss of each token that predicts the next one of its row."""
    logits, labels = model(batch["input_ids"])[:, :-1], batch["labels"][:, 1:]
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction=reduction)


def count_labels(batch):
    return int((batch["labels"][:, 1:] != -100).sum())


def total(number):
    """The sum over all ranks."""
    number = torch.tensor(number, dtype=torch.float64 if isinstance(number, float) else torch.int64)
    dist.all_reduce(number)
    return number.item()


def gradients(model):
    return [parameter.grad.clone() for parameter in model.parameters()]


def difference(left, right):
    return max(float((a - b).detach().abs().max()) for a, b in zip(left, right, strict=True))


def checksum(model):
    return [float(parameter.detach().sum()) for parameter in model.parameters()]


def seen_by_sampler(options):
    """Train an epoch on the batches of a sampler under DDP, with an exact loss."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    model = DistributedDataParallel(Model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sampler = tb.LengthBatchSampler(LENGTHS, num_replicas=ranks, rank=rank, **options)
    loader = DataLoader(
        Rows(), batch_sampler=sampler, collate_fn=collate(options.get("padding_free"))
    )
    rows = []
    for one in loader:
        weight = ranks / total(count_labels(one["batch"]))
        (weight * loss_of(model, one["batch"], "sum")).backward()
        optimizer.step()
        optimizer.zero_grad()
        rows.append(one["rows"])
    return {"rows": rows, "length": len(sampler), "model": checksum(model)}


def seen_by_stream(options, way):
    """The same on a stream, whose ranks have other numbers of batches."""
    model = DistributedDataParallel(Model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batcher = tb.StreamBatcher(
        stream, buffer=24, steps=20 if way == "steps" else None, **options
    )  # asks torch.distributed for the ranks
    loader = DataLoader(batcher, batch_size=None, collate_fn=collate(options.get("padding_free")))
    steps = batcher.in_step(loader) if way == "in_step" else loader
    rows = []
    with Join([model], enable=way == "join"):
        for one in steps:
            loss_of(model, one["batch"]).backward()
            optimizer.step()
            optimizer.zero_grad()
            rows.append(one["rows"])
    return {
        "rows": rows,
        "model": checksum(model),
        "repeated": getattr(steps, "repeated", batcher.repeated),
    }


def gradient_of_all(rows):
    """What one process makes of the same rows, each by itself."""
    model = Model()
    losses = [loss_of(model, collate(False)([row(n)])["batch"], "sum") for n in rows]
    (sum(losses) / sum(LENGTHS[n] - 1 for n in rows)).backward()
    return gradients(model)


def accumulate(options, micro_batches=3):
    """Compare the gradient of an accumulated global batch with that of one process."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    sampler = tb.LengthBatchSampler(LENGTHS, num_replicas=ranks, rank=rank, **options)
    loader = DataLoader(
        Rows(), batch_sampler=sampler, collate_fn=collate(options.get("padding_free"))
    )
    batches = list(islice(loader, micro_batches))
    everywhere = [None] * ranks
    dist.all_gather_object(everywhere, [n for one in batches for n in one["rows"]])
    expected = gradient_of_all([n for rows in everywhere for n in rows])
    found = {}
    for way in ("exact", "mean of means"):
        model = DistributedDataParallel(Model())
        items = total(sum(count_labels(one["batch"]) for one in batches))
        for number, one in enumerate(batches):
            model.require_backward_grad_sync = number == len(batches) - 1
            weight = 1 / len(batches)
            if way == "exact":
                weight = ranks * count_labels(one["batch"]) / items
            (weight * loss_of(model, one["batch"])).backward()
        largest = max(float(gradient.abs().max()) for gradient in expected)
        found[way] = difference(gradients(model), expected) / largest
    return found


def accumulate_parts():
    """Divide each rank's own rows into as many micro-batches, and weigh these."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    rows = list(range(rank, 40 + 13 * rank, ranks))
    costs = [LENGTHS[n] for n in rows]
    needed = torch.tensor(len(tb.partition(costs, cap=90)))
    alone = int(needed)
    dist.all_reduce(needed, op=dist.ReduceOp.MAX)
    parts = tb.partition(costs, int(needed), cap=90)
    labels = [cost - 1 for cost in costs]
    weights = parts.loss_weights(labels, num_items=total(sum(labels)))
    model = DistributedDataParallel(Model())
    for number, (part, weight) in enumerate(zip(parts, weights.tolist(), strict=True)):
        model.require_backward_grad_sync = number == len(parts) - 1
        batch = collate(False)([row(rows[n]) for n in part])["batch"]
        (ranks * weight * loss_of(model, batch)).backward()
    everywhere = [None] * ranks
    dist.all_gather_object(everywhere, rows)
    expected = gradient_of_all([n for each in everywhere for n in each])
    return {
        "alone": alone,
        "parts": len(parts),
        "largest": parts.largest,
        "rows": sorted(rows[n] for part in parts for n in part) == rows,
        "exact": difference(gradients(model), expected),
    }


def shard_fully(options, steps=4):
    """Train with FSDP2 and with DDP on the same batches, of another shape on each rank."""
    ranks = dist.get_world_size()
    mesh = init_device_mesh("cpu", (ranks,), mesh_dim_names=("dp",))
    plain, sharded = DistributedDataParallel(Model()), Model()
    for layer in (sharded.embed, sharded.inner, sharded.head, sharded):
        fully_shard(layer, mesh=mesh)
    sampler = tb.LengthBatchSampler(
        LENGTHS, num_replicas=mesh["dp"].size(), rank=mesh.get_local_rank("dp"), **options
    )
    loader = DataLoader(
        Rows(), batch_sampler=sampler, collate_fn=collate(options.get("padding_free"))
    )
    losses, shapes = {"plain": [], "sharded": [], "one process": []}, []
    single = Model()
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (plain, sharded, single)]
    for one in islice(loader, steps):
        everywhere = [None] * ranks
        dist.all_gather_object(everywhere, one["rows"])
        items = total(count_labels(one["batch"]))
        for name, model in (("plain", plain), ("sharded", sharded)):
            loss = loss_of(model, one["batch"], "sum") / items
            (ranks * loss).backward()
            losses[name].append(total(loss.item()))
        loss = sum(
            loss_of(single, collate(False)([row(n)])["batch"], "sum")
            for rows in everywhere
            for n in rows
        )
        (loss / items).backward()
        losses["one process"].append(loss.item() / items)
        shapes.append(list(one["batch"]["input_ids"].shape))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    full = [parameter.full_tensor().detach() for parameter in sharded.parameters()]
    return {
        "losses": losses,
        "shapes": shapes,
        "sharded": difference(full, single.parameters()),
        "plain": difference(plain.parameters(), single.parameters()),
    }


def context_parallel():
    """Data and context parallelism on a mesh: two ranks train on each batch."""
    cp = 2
    mesh = init_device_mesh("cpu", (dist.get_world_size() // cp, cp), mesh_dim_names=("dp", "cp"))
    sampler = tb.LengthBatchSampler(
        LENGTHS,
        max_tokens=160,
        padding_free=True,
        num_replicas=mesh["dp"].size(),
        rank=mesh.get_local_rank("dp"),
    )
    make = tb.PaddingFreeCollator(segment_multiple_of=2 * cp)
    model, rows, differences = Model(), [], []
    for batch_rows in sampler:
        given = [{key: row(n)[key] for key in ("input_ids", "labels")} for n in batch_rows]
        batch = make(given)
        share = tb.shard_batch(batch, cp, mesh.get_local_rank("cp"))
        logits = model(share["input_ids"])
        loss = cross_entropy(logits.flatten(0, 1), share["shift_labels"].flatten(), reduction="sum")
        loss = loss.detach()
        dist.all_reduce(loss, group=mesh.get_group("cp"))
        alone = tb.PaddingFreeCollator()(given)
        differences.append(abs(float(loss - loss_of(model, alone, "sum").detach())))
        shares = tb.context_parallel([LENGTHS[n] for n in batch_rows], cp)
        pieces = [None] * cp
        own = shares.indices(mesh.get_local_rank("cp")).tolist()
        dist.all_gather_object(pieces, own, group=mesh.get_group("cp"))
        whole = sorted(place for piece in pieces for place in piece)
        assert whole == list(range(int(shares.cu_seqlens_padded[-1])))
        rows.append(batch_rows)
    return {"rows": rows, "dp": mesh.get_local_rank("dp"), "difference": max(differences)}


def check(folder):
    answers = {
        "ranks": dist.get_world_size(),
        "sampler": {name: seen_by_sampler(options) for name, options in PLANS.items()},
        "stream": {
            f"{name}, {way}": seen_by_stream(PLANS[name], way)
            for name, way in (
                ("padded", "in_step"),
                ("packs", "in_step"),
                ("padded", "join"),
                ("packs", "join"),
                ("padded, rows", "steps"),
            )
        },
        "accumulated": {name: accumulate(options) for name, options in PLANS.items()},
        "parts": accumulate_parts(),
        "sharded": {name: shard_fully(PLANS[name]) for name in ("padded", "packs")},
        "context": context_parallel(),
    }
    (folder / f"answers-{dist.get_rank()}.json").write_text(json.dumps(answers))


# --- a rank that is killed ----------------------------------------------------------------------


def last_step(folder):
    """The last step of which the states of all ranks were saved."""
    steps = sorted(folder.glob("step-*"), key=lambda path: int(path.name[5:]), reverse=True)
    for step in steps:
        states = [json.loads(path.read_text()) for path in sorted(step.glob("rank-*.json"))]
        if states and len(states) == states[0]["ranks"]:
            return int(step.name[5:]), states
    return 0, []


def save(folder, step, answer):
    """Write a rank's state; the file is there when it is whole."""
    path = folder / f"step-{step}" / f"rank-{dist.get_rank()}.json"
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".new").write_text(json.dumps(answer))
    path.with_suffix(".new").replace(path)


def train(folder, stop):
    """Train on a sampler's and a stream's batches in turn, to the end of the epoch."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    sampler = tb.LengthBatchSampler(LENGTHS, num_replicas=ranks, rank=rank, **PLANS["packs"])
    batcher = tb.StreamBatcher(stream, buffer=12, **PLANS["padded"])
    begun, states = last_step(folder)
    seen = {"sampler": [], "stream": []}
    if states:
        sampler.load_state_dict(states[0]["sampler"])  # the same on all ranks
        batcher.load_state_dict([state["stream"] for state in states])  # of all ranks
        if rank == 0:
            for name, rows in seen.items():
                rows += [n for state in states for n in state["seen"][name]]
    model = DistributedDataParallel(Model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if begun:
        sampler.set_epoch(0)  # no batches, if the epoch was at its end

    def own():
        for batch in batcher:  # not those that in_step gives again
            seen["stream"] += [one["row"] for one in batch]
            yield batch

    batches, in_step = iter(sampler), iter(batcher.in_step(own()))
    step = begun
    while True:
        step += 1
        if step == stop and rank == ranks - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        from_sampler = next(batches, None)
        from_stream = next(in_step, None)
        if from_sampler is None and from_stream is None:
            break
        if from_sampler is not None:
            seen["sampler"] += from_sampler
        rows = [row(n) for n in from_sampler or []] + (from_stream or [])
        loss_of(model, collate(False)(rows)["batch"]).backward()
        optimizer.step()
        optimizer.zero_grad()
        answer = {"ranks": ranks, "seen": seen}
        answer["sampler"], answer["stream"] = sampler.state_dict(), batcher.state_dict()
        save(folder, step, answer)
    answer = {"ranks": ranks, "seen": seen, "begun": begun, "steps": step - begun - 1}
    (folder / f"end-{ranks}-{rank}.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    if sys.argv[1] == "check":
        check(Path(sys.argv[2]))
    else:
        train(Path(sys.argv[2]), int(sys.argv[3]))
    dist.destroy_process_group()
