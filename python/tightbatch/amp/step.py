"""Amp: a training step in mixed precision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch

from .. import _core
from .grad_scaler import GradScaler
from .precision import DTYPES, HalfChoice, choose_for, outside_autocast

MOST = 2**63 - 1  # what a count may be
STATE = ("dtype", "scaler", "skipped_steps", "steps")
HALVES = (torch.float16, torch.bfloat16)

# The optimizer that each scaler is used for, while both exist. It is not an attribute of the
# scaler, because it would be pickled with it.
OPTIMIZERS: WeakKeyDictionary[GradScaler, ref[torch.optim.Optimizer]] = WeakKeyDictionary()


class Amp:
    """A training step in mixed precision that avoids the usual mistakes.

    Compute the forward pass and the loss inside ``with amp.autocast():``. There torch computes
    matrix products, convolutions and attention in the half type. It computes in float32 what
    needs more range or more digits: softmax, norms, losses, sums. Weights, gradients and the
    optimizer's state stay float32. Then give the loss to :meth:`step`, which

    - sets gradients to zero before a group of `accumulate` batches, and frees them after it;
    - divides the loss by `accumulate`, scales it, and runs the backward pass with autocast off,
      also when it is called inside ``with amp.autocast():``;
    - at the end of the group unscales the gradients once, then clips them, then steps the
      optimizer, then updates the scale;
    - skips both the optimizer and the scheduler when a gradient is inf or NaN, and counts it.
      It does so with bfloat16 and float32 too. Nothing is scaled there, but without the check one
      bad batch would put NaN into every weight.

    Parameters
    ----------
    model : torch.nn.Module
        Its trained parameters must be float32, not ``model.half()`` or ``model.bfloat16()``: a
        half type has few digits, and updates that are small beside the weight would be lost.
        Frozen parameters may have any type.
    optimizer : torch.optim.Optimizer
        Made from the model's parameters. Only its parameters' gradients are set to zero,
        unscaled and clipped.
    device : str or torch.device, optional
        The device of the loss; by default that of the optimizer's first parameter.
    dtype : {"auto", "bfloat16", "float16", "float32"} or torch.dtype
        "auto" means what :func:`choose_precision` chooses for the device.
    accumulate : int
        The number of batches in a group. There is one step for each group. The losses of a group
        have equal weight. If each is a mean over a different number of tokens, give the sum over
        tokens divided by the group's mean number of tokens instead.
    max_norm : float, optional
        Clip the gradients of a group to this norm. ``math.inf`` only measures the norm.
    scheduler : torch.optim.lr_scheduler.LRScheduler, optional
        Stepped after each step of the optimizer, but not after a skipped one.
    scaler : GradScaler, optional
        A scaler with settings of your own, for this Amp alone. It scales the loss for every
        `dtype`. ``GradScaler(enabled=False)`` neither scales nor checks for inf and NaN; with
        bfloat16 or float32 it saves reading the gradients once, and waiting for the device at
        each step.

    Attributes
    ----------
    precision : Precision
        The type of the forward pass, and why it was chosen.
    scaler : GradScaler
        ``amp.scaler.overflowed`` has the names of the parameters because of which the last group
        was skipped.
    steps, skipped_steps : int
        The numbers of groups that ended with a step, and of groups that were skipped.

    Raises
    ------
    ValueError
        When the optimizer has no parameter of the model; when a trained parameter is float16 or
        bfloat16, or complex while the scaler is enabled; when `accumulate` is below 1 or
        `max_norm` is not positive; when `dtype` or `device` is unknown; when the scaler belongs
        to another Amp with another optimizer.
    TypeError
        When an argument has the wrong type; when the scheduler needs a metric
        (ReduceLROnPlateau: step it yourself), or the optimizer needs a closure (LBFGS).

    Notes
    -----
    Between the first and the last :meth:`step` of a group, do not call ``zero_grad()`` and do not
    run another backward pass into the same parameters: such gradients would be neither scaled
    nor averaged. Gradients from before a group are set to zero; a change within a group is an
    error. Add a regularizer to the loss that you give to :meth:`step`. Freeze a GAN's
    discriminator with ``requires_grad_(False)`` while the generator's loss is computed with it.

    An Amp is for one optimizer: with a second Amp, the same loss would need two backward passes.
    For several optimizers with one loss, use torch's recipe with :class:`GradScaler`.

    Waiting for the device: once at the end of a group, to know whether to skip the step, as
    torch's scaler does. After an exception (out of memory, an interrupt) the group is dropped,
    and the next :meth:`step` begins a new one. Gradients that are sharded over processes (FSDP)
    are not supported: all processes would have to skip together.

    Examples
    --------
    >>> import torch
    >>> from tightbatch.amp import Amp
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    >>> amp = Amp(model, optimizer, dtype="bfloat16", accumulate=2, max_norm=1.0)
    >>> rows, labels = torch.randn(5, 3, 4), torch.randint(2, (5, 3))
    >>> for x, y in zip(rows, labels):
    ...     with amp.autocast():
    ...         loss = torch.nn.functional.cross_entropy(model(x), y)
    ...     is_stepped = amp.step(loss)
    >>> amp.finish()  # the fifth batch is alone in its group
    True
    >>> amp.steps, amp.skipped_steps
    (3, 0)

    A checkpoint after which a run continues as if it had never stopped, with the same batches.
    Dropout uses torch's random generator; on a GPU it is the device's, which
    ``torch.cuda.get_rng_state_all()`` gives.

    >>> checkpoint = {
    ...     "model": model.state_dict(),
    ...     "optimizer": optimizer.state_dict(),
    ...     "amp": amp.state_dict(),  # and those of a scheduler and a sampler, if you have them
    ...     "random": torch.get_rng_state(),
    ... }
    >>> model.load_state_dict(checkpoint["model"])
    <All keys matched successfully>
    >>> optimizer.load_state_dict(checkpoint["optimizer"])
    >>> amp.load_state_dict(checkpoint["amp"])
    >>> torch.set_rng_state(checkpoint["random"])
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        device: str | torch.device | None = None,
        dtype: HalfChoice = "auto",
        accumulate: int = 1,
        max_norm: float | None = None,
        scheduler: Any = None,
        scaler: GradScaler | None = None,
    ) -> None:
        _check_types(model, optimizer, scheduler, scaler)
        _check_parameters(model, optimizer, scaler)
        self.optimizer, self.scheduler = optimizer, scheduler
        self.accumulate = _core.read_int("Amp", "accumulate", accumulate, 1, MOST)
        self.max_norm = None
        if max_norm is not None:
            self.max_norm = _core.read_real("Amp", "max_norm", max_norm, 0.0, math.inf)
            if self.max_norm == 0:
                raise ValueError(
                    "Amp(): max_norm=0 would remove every gradient; expected more than 0"
                )
        if device is None:
            device = self._parameters()[0].device
        self.precision = choose_for("Amp", device, dtype)
        if scaler is None:
            # A scale that stays 1 changes no bit, and the check for inf and NaN remains.
            fixed = None if self.precision.dtype == "float16" else 1.0
            scaler = GradScaler(
                self.precision.device,
                init_scale=fixed or 2.0**16,
                min_scale=fixed,
                max_scale=fixed,
                named_parameters=model.named_parameters(),
            )
        self.scaler = scaler
        OPTIMIZERS[scaler] = ref(optimizer)
        self.steps = self.skipped_steps = 0
        self._batches = 0  # of the group so far
        self._seen: list[tuple[torch.Tensor, torch.Tensor | None, int]] = []  # after the last one
        self._norm: torch.Tensor | None = None

    def __repr__(self) -> str:
        """Show device, type and optimizer, and the settings that differ from the default."""
        parts = [type(self.optimizer).__name__, f"device={self.precision.device!r}"]
        parts.append(f"dtype={self.precision.dtype!r}")
        parts += [f"accumulate={self.accumulate}"] if self.accumulate != 1 else []
        parts += [] if self.max_norm is None else [f"max_norm={self.max_norm!r}"]
        parts += [] if self.scheduler is None else [f"scheduler={type(self.scheduler).__name__}"]
        return f"{type(self).__name__}({', '.join(parts)})"

    def autocast(self) -> AbstractContextManager[object]:
        """Make the context for the forward pass and the loss; a new one each time.

        Returns
        -------
        context manager
            ``torch.autocast`` for the device and the half type; for float32 it does nothing.
        """
        return self.precision.autocast()

    @property
    def grad_norm(self) -> float | None:
        """Norm of the last group's gradients before clipping; reading it waits for the device.

        It is None without `max_norm` and before the first group is complete, and inf or NaN if
        the group was skipped.
        """
        return None if self._norm is None else float(self._norm)

    def step(self, loss: torch.Tensor) -> bool:
        """Run the backward pass of one batch; at the end of a group, clip and step.

        Parameters
        ----------
        loss : tensor of one element
            The result of the forward pass, neither scaled nor divided by `accumulate`.

        Returns
        -------
        bool
            True if the optimizer stepped; False within a group, and when the step was skipped.

        Raises
        ------
        TypeError
            When the loss is not a tensor.
        ValueError
            When the loss has several elements, needs no gradient, or is on another device than
            the model.
        RuntimeError
            When the loss does not depend on the optimizer's parameters, or when a gradient of the
            group was set to zero or changed since the previous batch.
        NotImplementedError
            From a torch that cannot clip sparse gradients (2.13 cannot, 2.14.1 can): leave
            `max_norm` or ``Embedding(sparse=True)`` out.
        """
        try:
            self._check_loss(loss)
            self._check_gradients("Amp.step")
            if self._batches == 0:
                self.optimizer.zero_grad(set_to_none=True)
            with outside_autocast(self.precision.device):
                part = loss if self.accumulate == 1 else loss / self.accumulate
                self.scaler.scale(part).backward()
            self._batches += 1
            if self._batches == self.accumulate:
                return self._end("Amp.step")
            self._seen = [(parameter, *_mark(parameter)) for parameter in self._parameters()]
            return False
        except BaseException:
            self._drop()
            raise

    def finish(self) -> bool:
        """End a group that is not complete, after the last batch; its losses are averaged.

        Returns
        -------
        bool
            True if the optimizer stepped; False if the step was skipped, or the group is empty.

        Raises
        ------
        RuntimeError
            When the losses do not depend on the optimizer's parameters, or when a gradient of the
            group was set to zero or changed since the last batch.
        NotImplementedError
            With `max_norm` and sparse gradients, as in :meth:`step`.
        """
        try:
            self._check_gradients("Amp.finish")
            return self._batches > 0 and self._end("Amp.finish")
        except BaseException:
            self._drop()
            raise

    def state_dict(self) -> dict[str, Any]:
        """Give the scale and the counts. Save the model and the optimizer beside it.

        Returns
        -------
        dict
            ``dtype``, ``scaler``, ``skipped_steps`` and ``steps``: numbers and strings.

        Raises
        ------
        RuntimeError
            Within a group, because a state does not hold gradients.
        """
        if self._batches:
            raise RuntimeError(
                f"Amp.state_dict(): the group has {self._batches} of {self.accumulate} batches; "
                "expected none: save between groups, or call finish() first"
            )
        return {
            "dtype": self.precision.dtype,
            "scaler": self.scaler.state_dict(),
            "skipped_steps": self.skipped_steps,
            "steps": self.steps,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a state; a group that is not complete is dropped.

        Parameters
        ----------
        state_dict : dict
            From :meth:`state_dict`.

        Raises
        ------
        ValueError
            When its dtype is another one, with which training would continue differently, or it
            is not the state of an Amp.
        TypeError
            When it is not a dict, or a count is not an integer.
        RuntimeError
            When its scaler was disabled and this one is not.
        """
        function = "Amp.load_state_dict"
        if not isinstance(state_dict, Mapping):
            found = type(state_dict).__name__
            raise TypeError(f"{function}(): state_dict has type {found}; expected a dict")
        if sorted(map(str, state_dict)) != list(STATE):
            keys = ", ".join(sorted(map(str, state_dict)))[:200]
            raise ValueError(
                f"{function}(): state_dict has the keys {keys or '(none)'}; expected "
                f"{', '.join(STATE)}"
            )
        own = self.precision.dtype
        found = _core.read_choice(function, "dtype", state_dict["dtype"], DTYPES)
        if found != own:
            raise ValueError(
                f"{function}(): the state has dtype={found!r} and this Amp has {own!r}; expected "
                f"the same: Amp(..., dtype={found!r})"
            )
        steps = _core.read_int(function, "steps", state_dict["steps"], 0, MOST)
        skipped = _core.read_int(function, "skipped_steps", state_dict["skipped_steps"], 0, MOST)
        self.scaler.load_state_dict(state_dict["scaler"])
        self.steps, self.skipped_steps = steps, skipped
        self._drop()

    def _parameters(self) -> list[torch.Tensor]:
        """Give the parameters that the optimizer trains now; groups may have been added to it."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _check_loss(self, loss: Any) -> None:
        """Refuse a loss that cannot have a backward pass."""
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
        if loss.device.type != self.precision.device:
            raise ValueError(
                f"Amp.step(): loss is on {loss.device.type}, and this Amp is for "
                f"{self.precision.device}; expected the same: make the Amp after "
                f"model.to({loss.device.type!r})"
            )

    def _check_gradients(self, function: str) -> None:
        """Refuse to continue a group if other code has changed its gradients."""
        for parameter, grad, version in self._seen:
            found, found_version = _mark(parameter)
            if found is not grad or found_version != version:
                change = "set to zero" if found is None else "set to zero or changed"
                raise RuntimeError(
                    f"{function}(): gradients of the group were {change} after {self._batches} of "
                    f"{self.accumulate} batches; expected no change between calls of step(): do "
                    "not call zero_grad(), and add other losses to the one given to step()"
                )

    def _end(self, function: str) -> bool:
        """Unscale, clip, step and update, at the end of a group."""
        parameters = self._parameters()
        if all(parameter.grad is None for parameter in parameters):
            raise RuntimeError(
                f"{function}(): no parameter of the optimizer has a gradient; expected a loss "
                "that depends on them"
            )
        if self._batches < self.accumulate or self.max_norm is not None:
            self.scaler.unscale_(self.optimizer)
        if self._batches < self.accumulate:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(self.accumulate / self._batches)
        if self.max_norm is not None:
            self._norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_norm)
        before = self.scaler.skipped_steps
        self.scaler.step(self.optimizer)
        is_skipped = self.scaler.skipped_steps > before
        self.scaler.update()
        self._drop()
        # An open autocast keeps the converted weights from before the step.
        torch.clear_autocast_cache()
        if is_skipped:
            self.skipped_steps += 1
            return False
        self.steps += 1
        if self.scheduler is not None:
            self.scheduler.step()
        return True

    def _drop(self) -> None:
        """Forget the group, and free its gradients."""
        self._batches = 0
        self._seen = []
        self.scaler._forget()
        self.optimizer.zero_grad(set_to_none=True)


def _mark(parameter: torch.Tensor) -> tuple[torch.Tensor | None, int]:
    """Give a gradient and the number of writes to it; setting it to zero changes one of them."""
    grad = parameter.grad
    return grad, 0 if grad is None else grad._version


def _check_types(model: Any, optimizer: Any, scheduler: Any, scaler: Any) -> None:
    """Refuse a model, optimizer, scheduler or scaler of a wrong type, or unfit for a step."""
    if not isinstance(model, torch.nn.Module):
        raise _wrong_type("model", model, "a torch.nn.Module")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise _wrong_type("optimizer", optimizer, "a torch.optim.Optimizer")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise TypeError("Amp(): optimizer LBFGS needs a closure; expected one that does not")
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise TypeError(
            "Amp(): scheduler ReduceLROnPlateau needs a metric; expected none: leave it out, and "
            "step it yourself"
        )
    if scheduler is not None and not callable(getattr(scheduler, "step", None)):
        raise _wrong_type("scheduler", scheduler, "one of torch.optim.lr_scheduler")
    if scaler is not None and not isinstance(scaler, GradScaler):
        raise _wrong_type("scaler", scaler, "a tightbatch.amp.GradScaler")


def _wrong_type(name: str, value: Any, expected: str) -> TypeError:
    kind = type(value)
    found = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return TypeError(f"Amp(): {name} has type {found}; expected {expected}")


def _check_parameters(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, scaler: GradScaler | None
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
    owner = None if scaler is None else OPTIMIZERS.get(scaler, ref(optimizer))()
    if owner not in (None, optimizer):
        raise ValueError(
            "Amp(): scaler belongs to another Amp, with another optimizer; expected a scaler for "
            "each, because each would change the other's scale within a group"
        )
