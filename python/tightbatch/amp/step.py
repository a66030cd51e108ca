"""Amp: a training step in mixed precision."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch

from .. import _core
from .._words import counted
from .arguments import (
    check_loss,
    check_parameters,
    check_types,
    one_backward,
    read_state,
    wrong_type,
)
from .grad_scaler import GradScaler
from .overflow import Batch, Overflow, Skips, explain, warn_of_zeros
from .precision import HalfChoice, choose_for, outside_autocast

MOST = 2**63 - 1  # what a count may be
CALLS = 8  # of the model, kept of one batch

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
      bad batch would put NaN into every weight;
    - stops with an error when `max_skipped` groups in a row were skipped though no other scale
      could have helped, and warns when more than half of the last 100 groups were skipped, or
      when all gradients of float16 are zero;
    - tells on request which module and which rows were not finite (:attr:`overflow`).

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
        `dtype`, and gets the names of the model's parameters if it has none. By default the scale
        of float16 stays between 1 and 2**32: if your gradients are above 65504, give one with a
        lower `min_scale`. ``GradScaler(enabled=False)`` neither scales nor checks for inf and NaN;
        with bfloat16 or float32 it saves reading the gradients once, and waiting for the device at
        each step.
    max_skipped : int or None
        The number of groups in a row that may be skipped without hope: because a loss was inf or
        NaN, or with the scale at `min_scale`. The last of them is an error. None allows any number,
        without the warning that most of the last 100 were skipped.

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
        bfloat16, or complex while the scaler is enabled; when `accumulate` or `max_skipped` is
        below 1 or `max_norm` is not positive; when `dtype` or `device` is unknown; when the
        scaler belongs to another Amp with another optimizer.
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
        max_skipped: int | None = 50,
    ) -> None:
        check_types(model, optimizer, scheduler)
        if scaler is not None and not isinstance(scaler, GradScaler):
            raise wrong_type("scaler", scaler, "a tightbatch.amp.GradScaler")
        owner = None if scaler is None else OPTIMIZERS.get(scaler, ref(optimizer))()
        check_parameters(model, optimizer, scaler, owner)
        self.max_skipped = None
        if max_skipped is not None:
            self.max_skipped = _core.read_int("Amp", "max_skipped", max_skipped, 1, MOST)
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
        elif scaler._names is None:
            scaler._names = list(model.named_parameters())
        self.scaler = scaler
        OPTIMIZERS[scaler] = ref(optimizer)
        self.steps = self.skipped_steps = 0
        self._batches = 0  # of the group so far
        self._seen: list[tuple[torch.Tensor, torch.Tensor | None, int]] = []  # after the last one
        self._norm: torch.Tensor | None = None
        self._model = model
        self._calls: deque[Any] = deque(maxlen=CALLS)  # of the model since the last batch
        self._is_open = self._has_warned = False
        self._group: list[Batch] = []  # kept after its end if it was skipped
        self._overflow: Overflow | None = None
        self._helpless = 0  # groups in a row
        self._skips = Skips()

    def __repr__(self) -> str:
        """Show device, type and optimizer, and the settings that differ from the default."""
        parts = [type(self.optimizer).__name__, f"device={self.precision.device!r}"]
        parts.append(f"dtype={self.precision.dtype!r}")
        parts += [f"accumulate={self.accumulate}"] if self.accumulate != 1 else []
        parts += [] if self.max_norm is None else [f"max_norm={self.max_norm!r}"]
        parts += [f"max_skipped={self.max_skipped}"] if self.max_skipped != 50 else []
        parts += [] if self.scheduler is None else [f"scheduler={type(self.scheduler).__name__}"]
        return f"{type(self).__name__}({', '.join(parts)})"

    def autocast(self) -> AbstractContextManager[object]:
        """Make the context for the forward pass and the loss; a new one each time.

        Returns
        -------
        context manager
            ``torch.autocast`` for the device and the half type; for float32 it computes as ever.
            The arguments of the model's forward passes are kept until the next group, for
            :attr:`overflow`.
        """
        return self._open()

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Enter autocast, and note calls of the model; the hook goes with the context."""
        handle = None
        # Code that torch compiled for the module itself would be compiled again for each new hook.
        if not self._is_open and getattr(self._model, "_compiled_call_impl", None) is None:
            handle = self._model.register_forward_pre_hook(self._note_call, with_kwargs=True)
            self._is_open = True
        try:
            with self.precision.autocast():
                yield
        finally:
            if handle is not None:
                handle.remove()
                self._is_open = False

    def _note_call(self, _: torch.nn.Module, args: Any, kwargs: Any) -> None:
        if torch.is_grad_enabled():
            self._calls.append((args, kwargs))

    @property
    def overflow(self) -> Overflow | None:
        """Why the last group was skipped; None if it was not, or a new group has begun.

        Reading it repeats the forward pass of that group once, without gradients, up to the first
        output that is inf or NaN. So read it right after :meth:`step` returned False. Random
        generators and buffers are put back; a module that changes other things of its own when it
        is called, changes them once more.
        """
        if self._overflow is None and self._group and self._batches == 0:
            names = self.scaler.overflowed
            self._overflow = explain(self._model, self._group, names, self.precision)
            self._group = []
        return self._overflow

    @property
    def grad_norm(self) -> float | None:
        """Norm of the last group's gradients before clipping; reading it waits for the device.

        It is None without `max_norm` and before the first group is complete, and inf or NaN if
        the group was skipped.
        """
        return None if self._norm is None else float(self._norm)

    def step(self, loss: torch.Tensor, batch: Mapping[str, Any] | None = None) -> bool:
        """Run the backward pass of one batch; at the end of a group, clip and step.

        Parameters
        ----------
        loss : tensor of one element
            The result of the forward pass, neither scaled nor divided by `accumulate`.
        batch : mapping, optional
            The collator's batch. If it has a column of indices (``idx``, ``indices``, ``row_idx``
            and the like), :attr:`overflow` names the rows of the data set. It is kept until the
            next group.

        Returns
        -------
        bool
            True if the optimizer stepped; False within a group, and when the step was skipped.

        Raises
        ------
        TypeError
            When the loss is not a tensor, or `batch` no mapping.
        ValueError
            When the loss has several elements, needs no gradient, or is on another device than
            the model.
        RuntimeError
            When the loss does not depend on the optimizer's parameters, or has had its backward
            pass, or when a gradient of the group was set to zero or changed since the last batch.
        FloatingPointError
            When `max_skipped` groups in a row were skipped and a lower scale could not have
            helped. The message is :attr:`overflow`; the weights are as they were.
        NotImplementedError
            From a torch that cannot clip sparse gradients (2.13 cannot, 2.14.1 can): leave
            `max_norm` or ``Embedding(sparse=True)`` out.
        """
        try:
            check_loss(loss, batch, self.precision.device)
            self._check_gradients("Amp.step")
            if self._batches == 0:
                self.optimizer.zero_grad(set_to_none=True)
                self._group, self._overflow = [], None
            self._group.append(Batch(loss.detach(), list(self._calls), batch))
            self._calls.clear()
            with outside_autocast(self.precision.device):
                part = loss if self.accumulate == 1 else loss / self.accumulate
                with one_backward():
                    self.scaler.scale(part).backward()
            self._batches += 1
            if self._batches == self.accumulate:
                return self._end("Amp.step")
            self._seen = [(parameter, *_mark(parameter)) for parameter in self._parameters()]
            return False
        except BaseException:
            self._drop()
            self._group = []
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
        FloatingPointError
            As in :meth:`step`.
        NotImplementedError
            With `max_norm` and sparse gradients, as in :meth:`step`.
        """
        try:
            self._check_gradients("Amp.finish")
            return self._batches > 0 and self._end("Amp.finish")
        except BaseException:
            self._drop()
            self._group = []
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
        steps, skipped = read_state(state_dict, self.precision.dtype)
        self.scaler.load_state_dict(state_dict["scaler"])
        self.steps, self.skipped_steps = steps, skipped
        self._group, self._overflow, self._helpless = [], None, 0
        self._skips = Skips()
        self._drop()

    def _parameters(self) -> list[torch.Tensor]:
        """Give the parameters that the optimizer trains now; groups may have been added to it."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _check_gradients(self, function: str) -> None:
        """Refuse to continue a group if other code has changed its gradients."""
        for parameter, grad, version in self._seen:
            found, found_version = _mark(parameter)
            if found is not grad or found_version != version:
                change = "set to zero" if found is None else "set to zero or changed"
                raise RuntimeError(
                    f"{function}(): gradients of the group were {change} after {self._batches} of "
                    f"{self.accumulate} batches; expected no change between calls of step(): do "
                    "not call zero_grad() or backward(), and add other losses to step()'s loss"
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
        if self.precision.dtype == "float16" and not self._has_warned:
            loss, scale = self._group[-1].loss, self.scaler.get_scale
            self._has_warned = warn_of_zeros(function, parameters, loss, scale)
        self.scaler.step(self.optimizer)
        is_skipped = self.scaler.is_enabled() and self.scaler._is_found(self.optimizer)
        self.scaler.update()
        self._drop()
        # An open autocast keeps the converted weights from before the step.
        torch.clear_autocast_cache()
        if self.max_skipped is not None:
            self._skips.add(function, is_skipped)
        if is_skipped:
            self.skipped_steps += 1
            self._count_helpless(function)
            return False
        self._helpless, self._group = 0, []
        self.steps += 1
        if self.scheduler is not None:
            self.scheduler.step()
        return True

    def _count_helpless(self, function: str) -> None:
        """Count groups in a row that no lower scale could have saved; the last is an error."""
        self._helpless = self._helpless + 1 if self.scaler._is_helpless else 0
        if self.max_skipped is None or self._helpless < self.max_skipped:
            return
        count, self._helpless = self._helpless, 0
        self._skips = Skips()
        raise FloatingPointError(
            f"{function}(): {counted(count, 'group')} in a row skipped: losses or gradients are "
            f"inf or NaN, and a loss scale below {self.scaler.get_scale():g} is not allowed or "
            f"would not help. Of the last: {self.overflow}. Expected finite ones: leave such rows "
            "out, lower the learning rate, the loss or min_scale, or pass max_skipped=None"
        )

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
