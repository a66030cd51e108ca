"""What Amp and GradScaler are given: refused if it cannot be trained with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from .. import _core
from .precision import DTYPES

MOST = 2**63 - 1  # what a count may be
STATE = ("dtype", "scaler", "skipped_steps", "steps")
HALVES = (torch.float16, torch.bfloat16)


def check_types(model: Any, optimizer: Any, scheduler: Any) -> None:
    """Refuse a model, optimizer or scheduler of a wrong type, or unfit for a step."""
    if not isinstance(model, torch.nn.Module):
        raise wrong_type("model", model, "a torch.nn.Module")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise wrong_type("optimizer", optimizer, "a torch.optim.Optimizer")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise TypeError("Amp(): optimizer LBFGS needs a closure; expected one that does not")
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise TypeError(
            "Amp(): scheduler ReduceLROnPlateau needs a metric; expected none: leave it out, and "
            "step it yourself"
        )
    if scheduler is not None and not callable(getattr(scheduler, "step", None)):
        raise wrong_type("scheduler", scheduler, "one of torch.optim.lr_scheduler")


def wrong_type(name: str, value: Any, expected: str) -> TypeError:
    kind = type(value)
    found = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return TypeError(f"Amp(): {name} has type {found}; expected {expected}")


def check_parameters(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, scaler: Any, owner: Any
) -> None:
    """Refuse parameters that cannot be trained like this, and a scaler of another optimizer."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not any(id(parameter) in names for parameter in trained):
        raise ValueError(
            "Amp(): the optimizer has no parameter of the model; expected an optimizer made from "
            "model.parameters()"
        )
    is_scaled = scaler is None or scaler.is_enabled()
    for parameter in trained:
        name = names.get(id(parameter), "of the optimizer, without a name,")
        if parameter.requires_grad and parameter.dtype in HALVES:
            raise ValueError(
                f"Amp(): parameter {name} is {parameter.dtype}; expected float32: call "
                "model.float(), autocast converts where half precision is enough"
            )
        if parameter.requires_grad and parameter.is_complex() and is_scaled:
            raise ValueError(
                f"Amp(): parameter {name} is {parameter.dtype}, which torch's loss scaler does not "
                "support; expected float32, or scaler=GradScaler(enabled=False)"
            )
    if owner not in (None, optimizer):
        raise ValueError(
            "Amp(): scaler belongs to another Amp, with another optimizer; expected a scaler for "
            "each, because each would change the other's scale within a group"
        )


def read_names(given: Any) -> list[tuple[str, torch.Tensor]] | None:
    """Read pairs of a name and a parameter."""
    if given is None:
        return None
    expected = "expected pairs of a name and a parameter, as model.named_parameters() gives them"
    if isinstance(given, Mapping | str | torch.Tensor) or not isinstance(given, Iterable):
        found = type(given).__name__
        raise TypeError(f"GradScaler(): named_parameters has type {found}; {expected}")
    pairs = []
    for number, pair in enumerate(given):
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2
        if not (is_pair and isinstance(pair[0], str) and isinstance(pair[1], torch.Tensor)):
            found = type(pair).__name__
            raise TypeError(
                f"GradScaler(): named_parameters[{number}] has type {found}; {expected}"
            )
        pairs.append((pair[0], pair[1]))
    return pairs


def check_loss(loss: Any, batch: Any, device: str) -> None:
    """Refuse a loss that cannot have a backward pass, and a batch without names."""
    if batch is not None and not isinstance(batch, Mapping):
        raise TypeError(
            f"Amp.step(): batch has type {type(batch).__name__}; expected the collator's batch,"
            " a mapping of names to tensors"
        )
    if loss is None:
        keys = ", ".join(map(str, batch or ()))[:200]
        raise TypeError(
            "Amp.step(): loss is None: the model returned no loss, since its batch had no "
            f"labels{f' (it has {keys})' if keys else ''}; expected a tensor: name the samples' "
            "column 'labels', or compute a loss from the model's output"
        )
    if not isinstance(loss, torch.Tensor):
        raise TypeError(f"Amp.step(): loss has type {type(loss).__name__}; expected a tensor")
    if loss.numel() != 1:
        raise ValueError(
            f"Amp.step(): loss has shape {list(loss.shape)}; expected one element: loss.mean()"
        )
    if not loss.requires_grad:
        raise ValueError(
            "Amp.step(): loss needs no gradient; expected one computed from the model's "
            "parameters, not detached, and outside torch.no_grad()"
        )
    if loss.device.type != device:
        raise ValueError(
            f"Amp.step(): loss is on {loss.device.type}, and this Amp is for "
            f"{device}; expected the same: make the Amp after "
            f"model.to({loss.device.type!r})"
        )


@contextmanager
def one_backward() -> Iterator[None]:
    """Tell of a loss that had its backward pass already; torch's error names no way out."""
    try:
        yield
    except RuntimeError as error:
        if "through the graph a second time" not in str(error):
            raise
        raise RuntimeError(
            "Amp.step(): the graph of the loss is freed: its backward pass has run; expected a "
            "loss without one, because step() calls backward() itself: leave loss.backward() out, "
            "and compute a loss anew for each call"
        ) from error


def read_state(state_dict: Any, dtype: str) -> tuple[int, int]:
    """Read the counts of a state of Amp: steps and skipped steps; refuse one of another dtype."""
    function = "Amp.load_state_dict"
    if not isinstance(state_dict, Mapping):
        found = type(state_dict).__name__
        raise TypeError(f"{function}(): state_dict has type {found}; expected a dict")
    if sorted(map(str, state_dict)) != list(STATE):
        keys = ", ".join(sorted(map(str, state_dict)))[:200]
        raise ValueError(
            f"{function}(): state_dict has the keys {keys or '(none)'}; expected {', '.join(STATE)}"
        )
    found = _core.read_choice(function, "dtype", state_dict["dtype"], DTYPES)
    if found != dtype:
        raise ValueError(
            f"{function}(): the state has dtype={found!r} and this Amp has {dtype!r}; expected "
            f"the same: Amp(..., dtype={found!r})"
        )
    steps = _core.read_int(function, "steps", state_dict["steps"], 0, MOST)
    return steps, _core.read_int(function, "skipped_steps", state_dict["skipped_steps"], 0, MOST)
