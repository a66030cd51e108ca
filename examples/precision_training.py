"""Small networks trained wholly in one floating type, or in mixed precision: used by precision.py.

Same initial weights (rounded), same rows, same batches; counted on the way is what explains the
outcome: updates that leave a weight as it was, squares that become 0, losses that overflow.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from tightbatch.amp import GradScaler

HALVES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Case:
    """A model, what it learns and how."""

    name: str
    data: str  # "digits" or "diabetes"
    hidden: int  # width of two hidden layers; 0: a linear model
    optimizer: str  # "SGD" (momentum 0.9) or "AdamW"
    learning_rate: float
    epochs: int
    batch_size: int
    eps: float = 1e-8  # AdamW's
    raw: bool = False  # the target is not standardised as the features are


CASES = (
    Case("digits, MLP, SGD", "digits", 64, "SGD", 0.05, 8, 64),
    Case("digits, MLP, SGD, small steps", "digits", 64, "SGD", 0.002, 12, 64),
    Case("digits, MLP, AdamW", "digits", 64, "AdamW", 0.002, 6, 64),
    Case("digits, MLP, AdamW, eps=1e-4", "digits", 64, "AdamW", 0.002, 6, 64, eps=1e-4),
    Case("diabetes, linear, SGD", "diabetes", 0, "SGD", 0.001, 30, 32),
    Case("diabetes, linear, SGD, raw target", "diabetes", 0, "SGD", 0.001, 30, 32, raw=True),
    Case("diabetes, MLP, AdamW", "diabetes", 64, "AdamW", 0.001, 5, 32),
    Case("diabetes, MLP, AdamW, raw target", "diabetes", 64, "AdamW", 0.002, 30, 32, raw=True),
)


@dataclass(frozen=True)
class Arithmetic:
    """The type of weights, gradients, optimizer state and data, and what autocast computes in."""

    name: str
    dtype: torch.dtype
    autocast: torch.dtype | None = None


ARITHMETIC = (
    Arithmetic("float64", torch.float64),
    Arithmetic("float32", torch.float32),
    Arithmetic("float16", torch.float16),
    Arithmetic("bfloat16", torch.bfloat16),
    Arithmetic("mixed float16", torch.float32, torch.float16),
    Arithmetic("mixed bfloat16", torch.float32, torch.bfloat16),
)


@dataclass
class Run:
    """What came of one training run."""

    case: str
    arithmetic: str
    seed: int
    error: float = math.nan  # held out: share of wrong digits, or RMSE in the target's own unit
    baseline: float = math.nan  # of always answering the commonest digit, or the mean
    steps: int = 0
    skipped: int = 0  # by the loss scaler
    seconds: float = 0.0  # in forward, backward and step
    updates: int = 0  # weights that had a gradient, over all steps
    lost: int = 0  # of them, those that the step left as they were
    infinite_losses: int = 0
    squares_flushed: float = 0.0  # AdamW's first second moments: share that is 0, gradient not
    parameter_bytes: int = 0
    gradient_bytes: int = 0
    state_bytes: int = 0
    data_bytes: int = 0
    used_in_half: dict[str, float] = field(default_factory=dict)  # error, of a float32 run's model
    answers_moved: dict[str, float] = field(default_factory=dict)  # digits: share; else largest

    @property
    def bytes(self) -> int:
        """All that training keeps, but for activations."""
        return self.parameter_bytes + self.gradient_bytes + self.state_bytes + self.data_bytes


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread: these networks are so small that a second one costs more than it brings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def size(tensors: Sequence[Tensor]) -> int:
    """Bytes of the tensors' elements."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A linear model, or an MLP with two hidden layers."""
    if not hidden:
        return nn.Sequential(nn.Linear(inputs, outputs))
    widths = (inputs, hidden, hidden)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


@dataclass(frozen=True)
class Data:
    """Training and held-out rows in float64, features standardised; targets back by unit, mean."""

    training: Tensor
    target: Tensor
    held_out: Tensor
    expected: np.ndarray
    unit: float
    mean: float
    baseline: float

    def error(self, outputs: Tensor) -> float:
        """Share of wrong digits, or RMSE in the unit of the raw target; NaN if not finite."""
        if not outputs.isfinite().all():
            return math.nan
        if outputs.shape[1] > 1:
            return float((outputs.argmax(1).numpy() != self.expected).mean())
        return float(np.sqrt(((self.answers(outputs) - self.expected) ** 2).mean()))

    def answers(self, outputs: Tensor) -> np.ndarray:
        """The digits, or the predictions in the unit of the raw target."""
        if outputs.shape[1] > 1:
            return outputs.argmax(1).numpy()
        return outputs[:, 0].double().numpy() * self.unit + self.mean


def read_data(case: Case, seed: int) -> Data:
    """A quarter of the rows held out, by seed; what is standardised is so by training rows."""
    digits = case.data == "digits"
    features, target = (load_digits if digits else load_diabetes)(return_X_y=True)
    training, held_out, target, expected = train_test_split(
        features, target, test_size=0.25, random_state=seed, stratify=target if digits else None
    )
    scaler = StandardScaler().fit(training)
    unit, mean = (target.std(), target.mean()) if not (case.raw or digits) else (1.0, 0.0)
    if digits:
        baseline = (expected != np.bincount(target).argmax()).mean()
    else:
        baseline = np.sqrt(((expected - target.mean()) ** 2).mean())
    return Data(
        torch.from_numpy(scaler.transform(training)),
        torch.from_numpy(target if digits else (target - mean) / unit),
        torch.from_numpy(scaler.transform(held_out)),
        expected,
        float(unit),
        float(mean),
        float(baseline),
    )


def loss_of(outputs: Tensor, target: Tensor) -> Tensor:
    """Cross entropy for digits, mean squared error for a number."""
    if outputs.shape[1] > 1:
        return functional.cross_entropy(outputs, target)
    return functional.mse_loss(outputs[:, 0], target)


def flat(tensors: Iterator[Tensor]) -> Tensor:
    """All elements in one line, copied."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def squares_flushed(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """Of AdamW's averages of squared gradients that are not 0, the share that became 0."""
    grads = flat(weight.grad for weight in model.parameters())
    squares = flat(optimizer.state[weight]["exp_avg_sq"] for weight in model.parameters())
    return float((squares[grads != 0] == 0).double().mean())


def train(case: Case, arithmetic: Arithmetic, seed: int) -> Run:
    """Train once. Weights start as float32's, rounded; the seed fixes rows and batches."""
    data = read_data(case, seed)
    torch.manual_seed(seed)
    model = network(data.training.shape[1], case.hidden, 10 if case.data == "digits" else 1)
    model.to(arithmetic.dtype)
    features = data.training.to(arithmetic.dtype)
    target = data.target.to(arithmetic.dtype) if data.target.is_floating_point() else data.target
    if case.optimizer == "SGD":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            model.parameters(), lr=case.learning_rate, momentum=0.9
        )
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=case.learning_rate, eps=case.eps)
    scaler = GradScaler("cpu", enabled=arithmetic.autocast is torch.float16)
    run = Run(case.name, arithmetic.name, seed, baseline=data.baseline)
    order = torch.Generator().manual_seed(seed)
    finite = True
    for _ in range(case.epochs):
        for rows in torch.randperm(len(features), generator=order).split(case.batch_size):
            before, skipped = flat(model.parameters()), scaler.skipped_steps
            begin = time.perf_counter()
            optimizer.zero_grad()
            with torch.autocast("cpu", arithmetic.autocast, enabled=bool(arithmetic.autocast)):
                outputs = model(features[rows])
            if arithmetic.autocast:
                outputs = outputs.float()  # the loss is not for half types
            loss = loss_of(outputs, target[rows])
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            run.seconds += time.perf_counter() - begin
            run.steps += 1
            run.infinite_losses += int(loss.isinf())
            if scaler.skipped_steps > skipped:
                continue
            if case.optimizer == "AdamW" and run.steps == 1:
                run.squares_flushed = squares_flushed(model, optimizer)
            after = flat(model.parameters())
            finite = bool(after.isfinite().all())
            if not finite:
                break
            moving = flat(weight.grad for weight in model.parameters()) != 0
            run.updates += int(moving.sum())
            run.lost += int((moving & (after == before)).sum())
        if not finite:
            break  # no further step brings these weights back
    run.skipped = scaler.skipped_steps
    record_memory(run, model, optimizer, [features, target])
    if finite:
        evaluate(run, model, data, arithmetic)
    return run


def record_memory(
    run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, data: list[Tensor]
) -> None:
    """Count bytes. Class numbers and AdamW's step counts are integers by nature: left out."""
    weights = list(model.parameters())
    state = [value for weight in weights for value in optimizer.state[weight].values()]
    run.parameter_bytes = size(weights)
    run.gradient_bytes = size([weight.grad for weight in weights if weight.grad is not None])
    run.state_bytes = size([value for value in state if isinstance(value, Tensor) and value.dim()])
    run.data_bytes = size([tensor for tensor in data if tensor.is_floating_point()])


def evaluate(run: Run, model: nn.Module, data: Data, arithmetic: Arithmetic) -> None:
    """Held-out error in the type itself; a float32 model also as it is in each half type."""
    with torch.inference_mode():
        with torch.autocast("cpu", arithmetic.autocast, enabled=bool(arithmetic.autocast)):
            outputs = model(data.held_out.to(arithmetic.dtype))
        run.error = data.error(outputs)
        if arithmetic.name != "float32":
            return
        answers = data.answers(outputs)
        for name in HALVES:
            dtype = getattr(torch, name)
            outputs = copy.deepcopy(model).to(dtype)(data.held_out.to(dtype))
            moved = np.abs(data.answers(outputs) - answers)
            run.used_in_half[name] = data.error(outputs)
            digits = run.case.startswith("digits")
            run.answers_moved[name] = float((moved > 0).mean() if digits else moved.max())


def train_all(seeds: int) -> list[Run]:
    """Every case in every type, seed by seed: what is compared ran side by side."""
    with one_thread():
        return [
            train(case, arithmetic, seed)
            for seed in range(seeds)
            for case in CASES
            for arithmetic in ARITHMETIC
        ]
