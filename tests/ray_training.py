"""A training loop of Ray Train that is killed once, and resumes: used by test_ray_cluster.py."""

import json
import os
import signal
import tempfile
from pathlib import Path


def load(checkpoint, rank):
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return json.loads(Path(folder, f"rank{rank}.json").read_text())


def train(config):
    """Train DDP on batches by length; write which rows each step had, and whether it resumed."""
    import ray.train
    import torch

    import tightbatch as tb

    torch.set_num_threads(1)
    rank = ray.train.get_context().get_world_rank()
    loader = tb.ray.BatchLoader(ray.train.get_dataset_shard("train"))
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))
    saved = load(ray.train.get_checkpoint(), rank)
    steps = [] if saved is None else saved["steps"]
    if saved is not None:
        loader.load_state_dict(saved["loader"])
    for batch in loader:
        # Ranks that made different numbers of steps would wait for each other without end.
        model(batch["input_ids"].float().mean(1, keepdim=True)).mean().backward()
        steps.append(batch["row"].tolist())
        if len(steps) % 4 == 0:
            with tempfile.TemporaryDirectory() as folder:
                state = {"loader": loader.state_dict(), "steps": steps}
                Path(folder, f"rank{rank}.json").write_text(json.dumps(state))
                checkpoint = ray.train.Checkpoint.from_directory(folder)
                ray.train.report({"step": len(steps)}, checkpoint=checkpoint)
        if saved is None and rank == 1 and len(steps) == config["killed_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
    told = {
        "steps": steps,
        "resumed": saved is not None,
        "state": loader.state_dict(),
        "repeated": loader.repeated,
    }
    Path(config["out"], f"{rank}.json").write_text(json.dumps(told))
