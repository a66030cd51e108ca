"""What the programs in examples/ train on, and whether each step has the gradients it should."""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import distributed as dist
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import LlamaForCausalLM

IGNORED = -100
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


class Row(NamedTuple):
    """What a model saw of one row."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]

    def is_real(self) -> bool:
        """Whether it is a row, and not what fills a batch up to a size."""
        return any(label != IGNORED for label in self.labels)


def load(name: str) -> Any:
    """The module of an example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(given: dict[str, Any]) -> list[Row]:
    """The rows of a batch, with padding or without, as a model gets it."""
    ids, labels, mask = given["input_ids"], given["labels"], given.get("attention_mask")
    if mask is not None:
        kept = [one.bool() for one in mask]
    else:
        assert ids.shape[0] == 1
        begins = (given["position_ids"][0] == 0).nonzero()[:, 0].tolist()
        ends = [*begins[1:], ids.shape[1]]
        kept = [slice(a, b) for a, b in zip(begins, ends, strict=True)]
        ids, labels = (value.expand(len(kept), -1) for value in (ids, labels))
    return [
        Row(tuple(row[at].tolist()), (IGNORED, *own[at].tolist()[1:]))
        for row, own, at in zip(ids, labels, kept, strict=True)
    ]


def whole(value: torch.Tensor) -> torch.Tensor:
    """A parameter or a gradient that is divided among ranks, as one tensor."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def alone(model: Any, rows: list[Row]) -> dict[str, torch.Tensor]:
    """The gradients of the mean loss of all labels, from each row by itself."""
    count = sum(label != IGNORED for row in rows for label in row.labels)
    model.zero_grad()
    for row in rows:
        if len(row.ids) > 1:
            ids, labels = torch.tensor([row.ids]), torch.tensor([row.labels])
            model(input_ids=ids, labels=labels, num_items_in_batch=count).loss.backward()
    return {name: value.grad for name, value in model.named_parameters()}


class Record:
    """The rows of each batch of this process, by optimizer step; and the largest error found."""

    def __init__(self, check_every: int, clip: float) -> None:
        self.steps: list[list[list[Row]]] = []
        self.batches: list[list[Row]] = []  # since the last step
        self.model: Any = None
        self.check_every, self.clip = check_every, clip
        self.checked, self.error = 0, 0.0

    def rows(self) -> list[tuple[int, ...]]:
        """The tokens of all rows, in order."""
        return [row.ids for step in self.steps for batch in step for row in batch]

    def stepped(self) -> None:
        """Compare the gradients that an optimizer is about to use."""
        if not self.batches:
            return  # a step that makes an optimizer's state, to load one into
        batches, self.batches = self.batches, []
        self.steps.append(batches)
        if (len(self.steps) - 1) % self.check_every:
            return
        rows = [row for batch in batches for row in batch]
        if dist.is_initialized():
            gathered: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, rows)
            rows = [row for own in gathered for row in own]
        weights = {name: whole(value.detach()) for name, value in self.model.named_parameters()}
        found = {name: whole(value.grad) for name, value in self.model.named_parameters()}
        model = LlamaForCausalLM(copy.deepcopy(self.model.config))
        model.load_state_dict(weights)
        wanted = alone(model, rows)
        if self.clip < math.inf:
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.clip)
        for name, grad in wanted.items():
            scale = float(grad.abs().max()) + 1e-12
            error = float((found[name] - grad).abs().max()) / scale
            assert math.isfinite(error), name
            self.error = max(self.error, error)
        self.checked += 1


@contextmanager
def recorded(check_every: int = 1, clip: float = math.inf) -> Iterator[Record]:
    """Record what Llamas are trained on, and check the gradients of every so many steps."""
    record = Record(check_every, clip)
    depth = 0

    def call(self: Any, *args: Any, **given: Any) -> Any:
        nonlocal depth
        if torch.is_grad_enabled() and depth == 0:
            record.model = self
            record.batches.append(rows_of(given))
        return torch.nn.Module.__call__(self, *args, **given)

    def check() -> None:
        nonlocal depth
        depth += 1  # the model of `alone` is not recorded
        record.stepped()
        depth -= 1

    def step(_optimizer: Any, args: Any, given: Any) -> Any:
        closure = given.get("closure")
        if closure is None:
            check()
            return None

        def closure_and_check() -> Any:  # Lightning's, which computes the gradients
            loss = closure()
            check()
            return loss

        return args, {**given, "closure": closure_and_check}

    LlamaForCausalLM.__call__ = call  # TRL gives its models another forward
    handle = register_optimizer_step_pre_hook(step)
    try:
        yield record
    finally:
        del LlamaForCausalLM.__call__
        handle.remove()
