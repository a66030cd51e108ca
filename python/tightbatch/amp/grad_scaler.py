"""GradScaler: torch's loss scaler with limits, counts, and names of what overflowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from inspect import signature
from typing import Any

import numpy as np
import torch

from .. import _core
from .arguments import read_names

# Between these a scale and its inverse are both normal float32, on devices without subnormals too.
LEAST_SCALE, MOST_SCALE = 2.0**-126, 2.0**126
FLOAT32_MOST = float(np.finfo(np.float32).max)
# Limits that are not given. Below 1 a scale loses small gradients instead of saving them, and at
# 2**32 the smallest float16 is a gradient of 2**-56.
USUAL_LEAST, USUAL_MOST = 1.0, 2.0**32
# After so many good steps at a scale that was lowered already, an overflow is the batch's.
STEADY = 8
SINCE = "_steps_since_overflow"  # in a state, beside torch's five
MOST = 2**63 - 1  # what a count may be


class GradScaler(torch.amp.GradScaler):
    """:class:`torch.amp.GradScaler` with scale limits, a count of skipped steps, and names.

    float16 rounds gradients below 2**-25 to zero. So the loss, and with it every gradient, is
    multiplied by a scale. The scale is halved when a gradient overflows, and doubled after
    `growth_interval` steps without an overflow. With torch's scaler, batches that are inf or NaN
    by themselves halve it too, until all gradients are zero, or until the inverse of the scale
    is infinite and with it the weights. Here the scale has limits, and such batches do not
    change it (see Notes). Apart from that it does what torch's does, bit for bit.

    Parameters
    ----------
    device, init_scale, growth_factor, backoff_factor, growth_interval, enabled
        As in torch's, in the same order and with the same defaults. If `device` is "cuda" and
        torch finds no CUDA device, the scaler warns and is disabled, as torch's is.
    min_scale, max_scale : float, optional
        The scale always stays between these limits: when it is lowered or raised after a step,
        in ``update(new_scale)`` and in ``load_state_dict``. By default 1, or `init_scale` if that
        is lower; and 2**32, or `init_scale` if that is higher. A scale below 1 makes gradients
        smaller than they are; choose a lower `min_scale` if they are above 65504 themselves.
        At `max_scale` the growth tracker counts on as before.
    named_parameters : iterable of (str, Parameter), optional
        ``model.named_parameters()``, so that `overflowed` can give names.

    Attributes
    ----------
    min_scale, max_scale : float
        The limits, rounded to float32.

    Raises
    ------
    ValueError
        When a limit or `init_scale` is outside 2**-126 to 2**126, `init_scale` is outside the
        limits, `growth_factor` is not above 1, `backoff_factor` is not from 0 to below 1, or
        `growth_interval` is below 1.
    TypeError
        When a number is none, `enabled` is no bool, or `named_parameters` are not pairs of a name
        and a tensor.

    Notes
    -----
    What torch's scaler does otherwise: (1) If a loss given to ``scale()`` is inf or NaN, the step
    is skipped as well, but no scale could have helped: the scale and its growth tracker stay. (2)
    A scale that was lowered since it last grew, and then held for 8 steps, is right for most
    batches: if one overflows now, its step is skipped, and scale and tracker stay. So a bad batch
    now and then costs a step, and the scale still grows after `growth_interval` good steps. (3)
    The limits. With a fused optimizer and without `named_parameters` nothing waits for the
    device, and (2) is left out.

    Waiting for the device: ``step()`` waits once for each optimizer, as torch's does, to know
    whether to skip the step. With `named_parameters`, an explicit ``unscale_()`` waits instead,
    because clipping turns all gradients into NaN when one of them is NaN. Only after an overflow
    are the gradients read once more, to find the names. Fused optimizers skip the step on the
    device: nothing waits until `skipped_steps` is read, except with `named_parameters`, where
    each step waits.

    A copy or a pickle also copies the parameters that it was given. If the optimizer is not
    copied together with it, `overflowed` gives positions in the optimizer instead of names.
    ``state_dict()`` holds the same five numbers as torch's, and how many steps ago a gradient
    overflowed, without limits, count and names. Either class loads the other's state.

    Examples
    --------
    >>> import torch
    >>> from tightbatch.amp import GradScaler
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> scaler = GradScaler("cpu", min_scale=1, named_parameters=model.named_parameters())
    >>> loss = model(torch.tensor([1.0, torch.inf])).sum()  # no scale makes this finite
    >>> scaler.scale(loss).backward()
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> scaler.skipped_steps, scaler.overflowed, scaler.get_scale()
    (1, ('weight',), 65536.0)
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
        *,
        min_scale: float | None = None,
        max_scale: float | None = None,
        named_parameters: Iterable[tuple[str, torch.Tensor]] | None = None,
    ) -> None:
        name = "GradScaler"
        # torch reads none of them: True would be a scale of 1, and "no" would enable it.
        init_scale = _core.read_real(name, "init_scale", init_scale, LEAST_SCALE, MOST_SCALE)
        growth_factor = _core.read_real(name, "growth_factor", growth_factor, 1.0, FLOAT32_MOST)
        backoff_factor = _core.read_real(name, "backoff_factor", backoff_factor, 0.0, 1.0)
        if growth_factor == 1:
            raise ValueError(f"{name}(): growth_factor=1 keeps the scale; expected more than 1")
        if backoff_factor == 1:
            raise ValueError(f"{name}(): backoff_factor=1 keeps the scale; expected less than 1")
        growth_interval = _core.read_int(name, "growth_interval", growth_interval, 1, MOST)
        enabled = _core.read_flag(name, "enabled", enabled)
        first = float(np.float32(init_scale))
        least = None if min_scale is None else _read_scale("min_scale", min_scale)
        most = None if max_scale is None else _read_scale("max_scale", max_scale)
        _check_order(least, first, most)
        self._usual_limits = min(USUAL_LEAST, first), max(USUAL_MOST, first)
        self.min_scale = self._usual_limits[0] if least is None else least
        self.max_scale = self._usual_limits[1] if most is None else most
        self._names = read_names(named_parameters)
        self._overflowed: dict[str, None] = {}  # in order, each once
        self._skipped = 0
        self._skipped_on_device: torch.Tensor | None = None  # by fused optimizers, not yet read
        self._losses: list[torch.Tensor] = []  # since the last update; read after an overflow
        # Good steps since the scale was lowered, and since an overflow; None: it grew since.
        self._since_lowered: int | None = None
        self._since_overflow: int | None = None
        self._is_helpless = False  # at the last update a lower scale could not have helped
        super().__init__(
            device, init_scale, growth_factor, backoff_factor, growth_interval, enabled
        )

    def __repr__(self) -> str:
        """Show the device, and the settings that differ from the default."""
        parts = [repr(str(self._device))]
        for name, parameter in signature(GradScaler).parameters.items():
            if name in ("min_scale", "max_scale"):
                value = getattr(self, name)
                parts += [f"{name}={value!r}"] if value not in self._usual_limits else []
                continue
            value = getattr(self, f"_{name}", None)
            if name == "named_parameters":
                count = len(self._names or ())
                parts += [f"{name}=<{count} name{'s' * (count != 1)}>"] if count else []
            elif name != "device" and value is not None and value != parameter.default:
                parts.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"

    @property
    def skipped_steps(self) -> int:
        """Optimizer steps that were skipped because a gradient was inf or NaN.

        The steps of several optimizers are added up. Reading it waits for the device only if a
        fused optimizer has stepped since it was last read.
        """
        if self._skipped_on_device is not None:
            self._skipped += int(self._skipped_on_device.item())
            self._skipped_on_device = None
        return self._skipped

    @property
    def overflowed(self) -> tuple[str, ...]:
        """Names of the parameters whose gradient was inf or NaN in the last iteration.

        They are in the order of the optimizers. It is () if there were none, or if no
        `named_parameters` were given. The names of an iteration are kept until the first
        ``unscale_()`` or ``step()`` after the next ``update()``. A parameter without a name is
        given by its position in the optimizer.
        """
        return tuple(self._overflowed)

    def scale(self, outputs: Any) -> Any:
        """Multiply a loss by the scale, as torch does, and keep it until ``update()``.

        Parameters
        ----------
        outputs : tensor, or iterable of tensors
            If a gradient overflows, ``update()`` looks whether they are finite.

        Returns
        -------
        tensor, or iterable of tensors
            ``outputs`` times the scale; the same object if the scaler is disabled.
        """
        if self._enabled:
            self._note_losses(outputs)
        return super().scale(outputs)

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the optimizer's gradients by the scale, as torch does, and note overflows.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            Its parameters' gradients are divided.

        Raises
        ------
        RuntimeError
            When called twice, or after ``step()``, without ``update()`` in between.
        ValueError
            When a gradient is float16: keep the parameters in float32, and let autocast convert.
        """
        self._begin()
        super().unscale_(optimizer)
        if self._enabled and self._names is not None:
            self._note(optimizer)

    def step(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> float | None:
        """Step the optimizer, unless a gradient is inf or NaN; then count it as skipped.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            Its gradients are divided by the scale first, unless ``unscale_()`` has done so.
        *args, **kwargs
            For ``optimizer.step()``. A closure is not allowed.

        Returns
        -------
        float or None
            The result of ``optimizer.step()``; None when the step was skipped.

        Raises
        ------
        RuntimeError
            When called twice without ``update()`` in between, or with a closure.
        AssertionError
            When no parameter has a gradient, or ``scale()`` has never been called.
        """
        self._begin()
        result = super().step(optimizer, *args, **kwargs)
        if self._enabled and getattr(optimizer, "_step_supports_amp_scaling", False):
            self._count_fused(optimizer)
        return result

    def update(self, new_scale: float | torch.Tensor | None = None) -> None:
        """Lower or raise the scale, or set it; it stays within the limits.

        Parameters
        ----------
        new_scale : float or tensor of one element, optional
            The scale from now on. The growth tracker does not change.

        Raises
        ------
        AssertionError
            When there was no step since the last update and no `new_scale` is given.
        ValueError
            When `new_scale` is NaN.
        """
        if not self._enabled:
            return
        if new_scale is not None:
            is_one = isinstance(new_scale, float) or (
                isinstance(new_scale, torch.Tensor) and new_scale.numel() == 1
            )
            if is_one and math.isnan(float(new_scale)):
                raise ValueError("GradScaler.update(): new_scale=nan; expected a number")
            super().update(new_scale)
            self._since_lowered = self._since_overflow = None
        else:
            self._adapt()
        self._losses.clear()
        if self._scale is not None:
            self._scale.clamp_(self.min_scale, self.max_scale)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this class or of torch's, and keep its scale within the limits.

        Parameters
        ----------
        state_dict : dict
            From ``state_dict()``.

        Raises
        ------
        ValueError
            When the state's scale is NaN, or another of its numbers could not be a setting.
        TypeError
            When `state_dict` is not a dict, or one of its numbers is none.
        RuntimeError
            When the state is empty, as the state of a disabled scaler is, and this scaler is
            enabled.
        """
        if not isinstance(state_dict, Mapping):
            found = type(state_dict).__name__
            raise TypeError(
                f"GradScaler.load_state_dict(): state_dict has type {found}; expected a dict"
            )
        if not self._enabled:
            return
        state = self._read_state(state_dict)
        super().load_state_dict(state)
        since = state.get(SINCE, -1)
        self._since_overflow = None if since < 0 else since
        self._since_lowered = None if since < 0 else state["_growth_tracker"]

    def state_dict(self) -> dict[str, Any]:
        """Give torch's five numbers, and the number of good steps since an overflow.

        Returns
        -------
        dict
            The last number is -1 if the scale was not lowered since it last grew. A disabled
            scaler gives an empty dict.
        """
        state = super().state_dict()
        if state:
            state[SINCE] = -1 if self._since_overflow is None else self._since_overflow
        return state

    def __getstate__(self) -> dict[str, Any]:
        """Give the state to pickle, with counts as numbers instead of tensors on a device."""
        self._skipped = self.skipped_steps
        return {**super().__getstate__(), "_losses": []}

    def _read_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Read the numbers of a state, and keep the scale within the limits."""
        function, held = "GradScaler.load_state_dict", dict(state)
        ranges = {
            "scale": (-math.inf, math.inf),
            "growth_factor": (1.0, FLOAT32_MOST),
            "backoff_factor": (0.0, 1.0),
        }
        for name, (least, most) in ranges.items():
            if name in held:
                held[name] = _core.read_real(function, name, held[name], least, most)
        for name, least in {"growth_interval": 1, "_growth_tracker": 0, SINCE: -1}.items():
            if name in held:
                held[name] = _core.read_int(function, name, held[name], least, MOST)
        if "scale" in held:
            held["scale"] = min(max(held["scale"], self.min_scale), self.max_scale)
        return held

    def _note_losses(self, outputs: Any) -> None:
        if isinstance(outputs, torch.Tensor):
            self._losses.append(outputs.detach())
        elif isinstance(outputs, list | tuple):
            for output in outputs:
                self._note_losses(output)

    def _adapt(self) -> None:
        """Update as torch does, unless what overflowed was not the scale's fault."""
        states = self._per_optimizer_states.values()
        is_known = all("is_found" in state for state in states)
        is_found = any(state.get("is_found", False) for state in states)
        self._is_helpless = False
        if self._scale is None or self._growth_tracker is None or (is_known and not is_found):
            super().update()
            self._count_good()
            return
        scale, tracker = self._scale.clone(), self._growth_tracker.clone()
        super().update()
        if not is_known:  # only the device knows: a bad loss takes back what was lowered
            for loss in self._losses:
                is_bad = loss.isfinite().all().logical_not_().to(scale.device, non_blocking=True)
                is_bad &= self._scale < scale
                self._scale.copy_(torch.where(is_bad, scale, self._scale))
                self._growth_tracker.copy_(torch.where(is_bad, tracker, self._growth_tracker))
            return
        is_loss_bad = not all(bool(loss.isfinite().all()) for loss in self._losses)
        is_steady = self._since_overflow is not None and self._since_overflow >= STEADY
        self._is_helpless = is_loss_bad or (not is_steady and scale.item() <= self.min_scale)
        if is_loss_bad or is_steady:
            self._scale.copy_(scale)
            self._growth_tracker.copy_(tracker)
        else:
            self._since_lowered = 0
        if not is_loss_bad:
            self._since_overflow = 0

    def _count_good(self) -> None:
        """Count a step without an overflow, as the growth tracker does on the device."""
        if self._since_lowered is None or self._since_overflow is None:
            return
        self._since_lowered += 1
        self._since_overflow += 1
        if self._since_lowered >= self._growth_interval:
            self._since_lowered = self._since_overflow = None

    def _begin(self) -> None:
        """Forget the names of the previous iteration, at the first call of a new one."""
        if self._enabled and not self._per_optimizer_states:
            self._overflowed = {}

    def _is_found(self, optimizer: torch.optim.Optimizer) -> bool:
        """Wait for the device to tell whether a gradient is not finite; the answer is kept."""
        state = self._per_optimizer_states[id(optimizer)]
        if "is_found" not in state:
            state["is_found"] = any(v.item() for v in state["found_inf_per_device"].values())
        return bool(state["is_found"])

    def _maybe_opt_step(
        self,
        optimizer: torch.optim.Optimizer,
        optimizer_state: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> float | None:
        """Step or skip. torch's ``step()`` calls it for all optimizers that are not fused."""
        if self._is_found(optimizer):
            self._skipped += 1
            return None
        result: float | None = optimizer.step(*args, **kwargs)
        return result

    def _count_fused(self, optimizer: torch.optim.Optimizer) -> None:
        """Count the step of a fused optimizer, which the device may have skipped."""
        if self._names is not None:
            self._note(optimizer)
            self._skipped += self._is_found(optimizer)
            return
        flags = self._found_inf_per_device(optimizer).values()
        if self._scale is not None and flags:
            device = self._scale.device
            found = torch.stack([flag.to(device, non_blocking=True) for flag in flags]).any()
            earlier = self._skipped_on_device
            self._skipped_on_device = found.long() if earlier is None else earlier + found

    def _note(self, optimizer: torch.optim.Optimizer) -> None:
        """Note which gradients are not finite, once in an iteration for each optimizer."""
        if "is_found" in self._per_optimizer_states[id(optimizer)] or not self._is_found(optimizer):
            return
        names = {id(parameter): name for name, parameter in self._names or ()}
        flags: dict[torch.device, list[torch.Tensor]] = {}
        owners: dict[torch.device, list[str]] = {}
        for group_number, group in enumerate(optimizer.param_groups):
            for number, parameter in enumerate(group["params"]):
                if parameter.grad is None:
                    continue
                grad = parameter.grad.detach()
                values = grad.coalesce().values() if grad.is_sparse else grad
                if values.numel() == 0:
                    continue
                # The largest magnitude: NaN or inf where there is one, without a temporary.
                norm = torch.linalg.vector_norm(values, math.inf)
                flags.setdefault(values.device, []).append(norm.isfinite())
                position = f"param_groups[{group_number}]['params'][{number}]"
                owners.setdefault(values.device, []).append(names.get(id(parameter), position))
        for device, finite in flags.items():
            for name, is_finite in zip(owners[device], torch.stack(finite).tolist(), strict=True):
                if not is_finite:
                    self._overflowed[name] = None

    def _forget(self) -> None:
        """Forget an iteration in which an exception was raised before ``update()``."""
        if self._enabled:
            self._per_optimizer_states.clear()
            self._losses.clear()


def _read_scale(name: str, value: Any) -> float:
    """Read a scale, and round it to float32."""
    return float(np.float32(_core.read_real("GradScaler", name, value, LEAST_SCALE, MOST_SCALE)))


def _check_order(least: float | None, scale: float, most: float | None) -> None:
    """Refuse limits in the wrong order, and a first scale outside them."""
    if least is not None and most is not None and least > most:
        raise ValueError(
            f"GradScaler(): min_scale={least} is more than max_scale={most}; expected at most "
            "max_scale"
        )
    if least is not None and scale < least:
        raise ValueError(
            f"GradScaler(): init_scale={scale} is less than min_scale={least}; expected at least "
            "min_scale"
        )
    if most is not None and scale > most:
        raise ValueError(
            f"GradScaler(): init_scale={scale} is more than max_scale={most}; expected at most "
            "max_scale"
        )
