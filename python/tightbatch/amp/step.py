"""The training step in mixed precision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch

from .._settings import NO_CAP, Reader
from .grad_scaler import GradScaler
from .precision import choose_precision, outside_autocast

STATE = ("dtype", "scaler", "skipped_steps", "steps")
HALVES = (torch.float16, torch.bfloat16)

# Whose gradients a given scaler scales, while both live. Not kept on the scaler, to be pickled.
OPTIMIZERS: WeakKeyDictionary[GradScaler, ref[torch.optim.Optimizer]] = WeakKeyDictionary()


class Amp:
    """A training step in mixed precision that avoids the usual mistakes.

    The forward pass and the loss go into ``with amp.autocast():``. There torch computes matrix
    products, convolutions and attention in the half type, and what needs the range or the digits
    (softmax, norms, losses, sums) in float32; weights, gradients and optimizer stay float32. The
    loss goes to :meth:`step`, which

    - zeroes gradients before a group of `accumulate` batches and frees them after it;
    - divides the loss by `accumulate`, scales it, and goes backward with autocast off, even
      where it is called inside ``with amp.autocast():``;
    - at the end of the group unscales once, then clips, then steps, then updates the scale;
    - skips optimizer and scheduler both, and counts it, when a gradient is inf or NaN. With
      bfloat16 and float32 too: nothing is scaled there, but one bad batch would else leave NaN in
      every weight.

    Parameters
    ----------
    model : torch.nn.Module
        Its trained parameters are float32, not ``model.half()`` or ``model.bfloat16()``: an
        update smaller than half a unit of a weight's last place is lost, and a half type has
        few places. Frozen ones may be of any type.
    optimizer : torch.optim.Optimizer
        Over the model's parameters. Only what it has is zeroed, unscaled and clipped.
    device : str or torch.device, optional
        Where the loss is; by default where the optimizer's first parameter is.
    dtype : {"auto", "bfloat16", "float16", "float32"} or torch.dtype
        "auto" is :func:`choose_precision`'s choice for the device.
    accumulate : int
        Batches in a group, for which there is one step. Their losses count alike: where each is a
        mean over a different number of tokens, divide sums by the group's mean number instead.
    max_norm : float, optional
        Clip the gradients of a group to this norm. ``math.inf`` measures and does not clip.
    scheduler : torch.optim.lr_scheduler.LRScheduler, optional
        Stepped after each step of the optimizer that was made.
    scaler : GradScaler, optional
        For other settings than :class:`GradScaler`'s own, and for this Amp alone; it scales
        whatever `dtype` is. ``GradScaler(enabled=False)`` neither scales nor checks for inf and
        NaN: with bfloat16 or float32 it saves reading the gradients once and waiting for the
        device at each step.

    Attributes
    ----------
    precision : Precision
        What is computed in, and why.
    scaler : GradScaler
        ``amp.scaler.overflowed`` are the names of the parameters whose gradients made the last
        group a skipped one.
    steps, skipped_steps : int
        Groups that ended in a step, and groups that were skipped.

    Raises
    ------
    ValueError
        When the optimizer has no parameter of the model, or a trained parameter is float16 or
        bfloat16, or complex under a scaler that is enabled; when `accumulate` is below 1,
        `max_norm` not positive, `dtype` or `device` unknown; when the scaler is another Amp's,
        for another optimizer that still lives.
    TypeError
        When an argument is of the wrong kind; when the scheduler wants a metric
        (ReduceLROnPlateau: step it yourself), or the optimizer a closure (LBFGS).

    Notes
    -----
    From the first to the last :meth:`step` of a group its gradients are this Amp's: no
    ``zero_grad()``, and no other backward pass into the same parameters. Those would be neither
    scaled nor averaged; before a group they are zeroed, within one they are an error. Add a
    regulariser to the loss given to :meth:`step`; freeze a GAN's discriminator, by
    ``requires_grad_(False)``, while the generator's loss goes through it.

    One Amp is one optimizer: a second Amp would need the same loss to go backward twice. For
    several optimizers on one loss write torch's recipe, with :class:`GradScaler`.

    Waiting for the device: once at the end of a group, to know whether to skip, as torch's scaler
    does. An exception on the way (out of memory, an interrupt) drops the group; the next
    :meth:`step` begins a new one. Gradients that are sharded over processes (FSDP) would have to
    agree on skipping, and do not here.

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
    >>> amp.finish()  # the fifth batch, alone in its group
    True
    >>> amp.steps, amp.skipped_steps
    (3, 0)

    What a run needs to go on as if it had never stopped, given the same batches. Dropout draws
    from torch's generator, on a GPU from the device's: ``torch.cuda.get_rng_state_all()``.

    >>> checkpoint = {
    ...     "model": model.state_dict(),
    ...     "optimizer": optimizer.state_dict(),
    ...     "amp": amp.state_dict(),  # and the scheduler's and the sampler's, where there are any
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
        dtype: Any = "auto",
        accumulate: int = 1,
        max_norm: float | None = None,
        scheduler: Any = None,
        scaler: GradScaler | None = None,
    ) -> None:
        read = Reader("Amp")
        _check_parts(read, model, optimizer, scheduler, scaler)
        self.optimizer, self.scheduler = optimizer, scheduler
        self.accumulate = read.number("accumulate", accumulate, 1, NO_CAP - 1)
        self.max_norm = None
        if max_norm is not None:
            self.max_norm = read.real("max_norm", max_norm, 0.0, math.inf)
            if self.max_norm == 0:
                message = f"max_norm={max_norm!r} leaves no gradient; expected more than 0"
                raise read.error(ValueError, message)
        if device is None:
            device = self._parameters()[0].device
        self.precision = choose_precision(device, dtype)
        if scaler is None:
            # A scale held at 1 changes no bit, and leaves the check for inf and NaN.
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

    def autocast(self) -> AbstractContextManager[object]:
        """Make the context for the forward pass and the loss; a new one each time.

        Returns
        -------
        context manager
            ``torch.autocast`` on the device in the half type; for float32 one that does nothing.
        """
        return self.precision.autocast()

    @property
    def grad_norm(self) -> float | None:
        """Norm of the last group's gradients, before clipping; reading it waits for the device.

        None without `max_norm`, and before the first group is complete. inf or NaN when it was
        skipped.
        """
        return None if self._norm is None else float(self._norm)

    def step(self, loss: torch.Tensor) -> bool:
        """Take one batch's loss; at the end of a group, clip and step.

        Parameters
        ----------
        loss : tensor of one element
            As the forward pass gave it: not scaled, and not divided by `accumulate`.

        Returns
        -------
        bool
            True when the optimizer stepped; False within a group, and when it was skipped.

        Raises
        ------
        TypeError
            When the loss is no tensor.
        ValueError
            When it has several elements, no gradient, or is on another device than the model.
        RuntimeError
            When no parameter of the optimizer has a part in it; or a gradient of the group was
            zeroed or changed since the batch before.
        NotImplementedError
            From a torch that cannot clip sparse gradients (2.13 cannot, 2.14.1 can): leave
            `max_norm` or ``Embedding(sparse=True)`` out.
        """
        try:
            self._check_loss(loss)
            self._check_gradients("step")
            if self._batches == 0:
                self.optimizer.zero_grad(set_to_none=True)
            with outside_autocast(self.precision.device):
                part = loss if self.accumulate == 1 else loss / self.accumulate
                self.scaler.scale(part).backward()
            self._batches += 1
            if self._batches == self.accumulate:
                return self._end("step")
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
            True when the optimizer stepped; False when it was skipped, or no batch was waiting.

        Raises
        ------
        RuntimeError
            When no parameter of the optimizer has a part in the losses; or a gradient of the
            group was zeroed or changed since the last batch.
        NotImplementedError
            With `max_norm` and sparse gradients, as :meth:`step` does.
        """
        try:
            self._check_gradients("finish")
            return self._batches > 0 and self._end("finish")
        except BaseException:
            self._drop()
            raise

    def state_dict(self) -> dict[str, Any]:
        """Give the scale and the counts, between groups; model and optimizer have their own.

        Returns
        -------
        dict
            Plain numbers and strings: ``dtype``, ``scaler``, ``skipped_steps``, ``steps``.

        Raises
        ------
        RuntimeError
            Within a group, whose gradients no state holds.
        """
        if self._batches:
            raise RuntimeError(
                f"state_dict(): {self._batches} of {self.accumulate} batches of a group are "
                "waiting; expected none: save between groups, or call finish() first"
            )
        return {
            "dtype": self.precision.dtype,
            "scaler": self.scaler.state_dict(),
            "skipped_steps": self.skipped_steps,
            "steps": self.steps,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a state; a group that is not complete is dropped.

        Parameters
        ----------
        state_dict : dict
            From :meth:`state_dict`.

        Raises
        ------
        ValueError
            When it is of another dtype, in which training would go on differently, or no state
            of an Amp.
        TypeError
            When it is no dict, or a count no integer.
        RuntimeError
            When its scaler was disabled and this one is not.
        """
        read = Reader("load_state_dict")
        if not isinstance(state_dict, Mapping):
            kind = type(state_dict).__name__
            raise read.error(TypeError, f"found a {kind}, expected a state_dict")
        if sorted(map(str, state_dict)) != list(STATE):
            keys = sorted(map(str, state_dict))
            raise read.error(ValueError, f"a state with the keys {keys}; expected {list(STATE)}")
        found, own = state_dict["dtype"], self.precision.dtype
        if found != own:
            raise read.error(
                ValueError,
                f"the state is of dtype={found!r}, this Amp of {own!r}; expected the same: "
                f"Amp(..., dtype={found!r})",
            )
        steps = read.number("steps", state_dict["steps"], 0, NO_CAP)
        skipped = read.number("skipped_steps", state_dict["skipped_steps"], 0, NO_CAP)
        self.scaler.load_state_dict(state_dict["scaler"])
        self.steps, self.skipped_steps = steps, skipped
        self._drop()

    def _parameters(self) -> list[torch.Tensor]:
        """Give what the optimizer trains; groups may have been added to it."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _check_loss(self, loss: Any) -> None:
        """Refuse what cannot be gone backward from."""
        read = Reader("step")
        if not isinstance(loss, torch.Tensor):
            raise read.error(TypeError, f"loss is a {type(loss).__name__}; expected a tensor")
        if loss.numel() != 1:
            message = f"loss of shape {list(loss.shape)}; expected one element: loss.mean()"
            raise read.error(ValueError, message)
        if not loss.requires_grad:
            raise read.error(
                ValueError,
                "loss has no gradient; expected one computed from the model's parameters, not "
                "detached, and outside torch.no_grad()",
            )
        if loss.device.type != self.precision.device:
            raise read.error(
                ValueError,
                f"loss is on {loss.device.type}, and this Amp for {self.precision.device}; "
                f"expected the same: make the Amp after model.to({loss.device.type!r})",
            )

    def _check_gradients(self, name: str) -> None:
        """Refuse to go on with a group whose gradients somebody else has touched."""
        for parameter, grad, version in self._seen:
            found, found_version = _mark(parameter)
            if found is not grad or found_version != version:
                change = "zeroed" if found is None else "zeroed or changed"
                raise RuntimeError(
                    f"{name}(): gradients of the group were {change} after {self._batches} of "
                    f"{self.accumulate} batches; expected them as step() left them: leave out "
                    "zero_grad(), Amp zeroes them itself, and add other losses to that of step()"
                )

    def _end(self, name: str) -> bool:
        """Unscale, clip, step and update, at the end of a group."""
        parameters = self._parameters()
        if all(parameter.grad is None for parameter in parameters):
            raise RuntimeError(
                f"{name}(): no parameter of the optimizer has a gradient; expected a loss that "
                "depends on them"
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
        # Inside an open autocast the weights' halves would else be those from before the step.
        torch.clear_autocast_cache()
        if is_skipped:
            self.skipped_steps += 1
            return False
        self.steps += 1
        if self.scheduler is not None:
            self.scheduler.step()
        return True

    def _drop(self) -> None:
        """Let go of the group and its gradients."""
        self._batches = 0
        self._seen = []
        self.scaler._forget()
        self.optimizer.zero_grad(set_to_none=True)


def _mark(parameter: torch.Tensor) -> tuple[torch.Tensor | None, int]:
    """Give a gradient and how often it was written to: zeroing it changes one or the other."""
    grad = parameter.grad
    return grad, 0 if grad is None else grad._version


def _check_parts(read: Reader, model: Any, optimizer: Any, scheduler: Any, scaler: Any) -> None:
    """Refuse parts that do not go together."""
    if not isinstance(model, torch.nn.Module):
        found = type(model).__name__
        raise read.error(TypeError, f"model is a {found}; expected a torch.nn.Module")
    if not isinstance(optimizer, torch.optim.Optimizer):
        found = type(optimizer).__name__
        raise read.error(TypeError, f"optimizer is a {found}; expected a torch.optim.Optimizer")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise read.error(TypeError, "LBFGS wants a closure; expected an optimizer without")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not any(id(parameter) in names for parameter in trained):
        raise read.error(
            ValueError,
            "the optimizer has no parameter of the model; expected an optimizer made from "
            "model.parameters()",
        )
    for parameter in trained:
        if parameter.requires_grad and parameter.dtype in HALVES:
            name = names.get(id(parameter), "of the optimizer, without a name")
            raise read.error(
                ValueError,
                f"parameter {name} is {parameter.dtype}; expected float32: model.float(), and "
                "autocast does the rest",
            )
        is_scaled = not isinstance(scaler, GradScaler) or scaler.is_enabled()
        if parameter.requires_grad and parameter.is_complex() and is_scaled:
            name = names.get(id(parameter), "of the optimizer, without a name")
            raise read.error(
                ValueError,
                f"parameter {name} is {parameter.dtype}, which torch's loss scaler does not take; "
                "expected float32, or scaler=GradScaler(enabled=False)",
            )
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        message = "scheduler ReduceLROnPlateau wants a metric; leave it out, and step it yourself"
        raise read.error(TypeError, message)
    if scheduler is not None and not callable(getattr(scheduler, "step", None)):
        found = type(scheduler).__name__
        raise read.error(TypeError, f"scheduler is a {found}; expected one of lr_scheduler's")
    if scaler is not None and not isinstance(scaler, GradScaler):
        kind = f"{type(scaler).__module__}.{type(scaler).__name__}"
        raise read.error(TypeError, f"scaler is a {kind}; expected a tightbatch.amp.GradScaler")
    owner = None if scaler is None else OPTIMIZERS.get(scaler, ref(optimizer))()
    if owner not in (None, optimizer):
        raise read.error(
            ValueError,
            "scaler is that of another Amp, for another optimizer; expected one for each, as "
            "either would change the other's scale within a group",
        )
