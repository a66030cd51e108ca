"""GradScaler: torch's loss scaler with limits, counts, and names of what overflowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from inspect import signature
from typing import Any

import numpy as np
import torch

from .. import _core

# Between these a scale and its inverse are both normal float32, on devices without subnormals too.
LEAST_SCALE, MOST_SCALE = 2.0**-126, 2.0**126
FLOAT32_LEAST, FLOAT32_MOST = 2.0**-149, float(np.finfo(np.float32).max)
MOST = 2**63 - 1  # what a count may be


class GradScaler(torch.amp.GradScaler):
    """:class:`torch.amp.GradScaler` with scale limits, a count of skipped steps, and names.

    Without limits it does what torch's does, bit for bit: the scales, the weights and
    ``state_dict()`` are the same, and either class loads the other's state. float16 rounds
    gradients below 2**-25 to zero. So the loss, and with it every gradient, is multiplied by a
    scale. The scale is halved when a gradient overflows, and doubled after `growth_interval`
    steps without an overflow.

    Parameters
    ----------
    device, init_scale, growth_factor, backoff_factor, growth_interval, enabled
        As in torch's, in the same order and with the same defaults. If `device` is "cuda" and
        torch finds no CUDA device, the scaler warns and is disabled, as torch's is.
    min_scale, max_scale : float, optional
        The scale always stays between these limits: when it is lowered or raised after a step,
        in ``update(new_scale)`` and in ``load_state_dict``. Without a lower limit, a model whose
        gradients are often NaN drives the scale to 0, and then nothing is learned any more.
        ``min_scale=1`` prevents that, and `skipped_steps` shows how often it happened. At
        `max_scale` the growth tracker counts on as before.
    named_parameters : iterable of (str, Parameter), optional
        ``model.named_parameters()``, so that `overflowed` can give names.

    Attributes
    ----------
    min_scale, max_scale : float or None
        The limits, rounded to float32.

    Raises
    ------
    ValueError
        When a limit is outside 2**-126 to 2**126, `init_scale` is outside the limits or no
        positive float32, `growth_factor` is not above 1, `backoff_factor` is not from 0 to below
        1, or `growth_interval` is below 1.
    TypeError
        When a number is none, `enabled` is no bool, or `named_parameters` are not pairs of a name
        and a tensor.

    Notes
    -----
    Waiting for the device: ``step()`` waits once for each optimizer, as torch's does, to know
    whether to skip the step. With `named_parameters`, an explicit ``unscale_()`` waits instead,
    because clipping turns all gradients into NaN when one of them is NaN. Only after an overflow
    are the gradients read once more, to find the names. Fused optimizers skip the step on the
    device: nothing waits until `skipped_steps` is read, except with `named_parameters`, where
    each step waits.

    A copy or a pickle also copies the parameters that it was given. If the optimizer is not
    copied together with it, `overflowed` gives positions in the optimizer instead of names.
    ``state_dict()`` holds the same five numbers as torch's, without limits, count and names.

    Examples
    --------
    >>> import torch
    >>> from tightbatch.amp import GradScaler
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> scaler = GradScaler("cpu", min_scale=1, named_parameters=model.named_parameters())
    >>> loss = model(torch.tensor([1.0, torch.inf])).sum()
    >>> scaler.scale(loss).backward()
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> scaler.skipped_steps, scaler.overflowed, scaler.get_scale()
    (1, ('weight',), 32768.0)
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
        init_scale = _core.read_real(name, "init_scale", init_scale, FLOAT32_LEAST, FLOAT32_MOST)
        growth_factor = _core.read_real(name, "growth_factor", growth_factor, 1.0, FLOAT32_MOST)
        backoff_factor = _core.read_real(name, "backoff_factor", backoff_factor, 0.0, 1.0)
        if growth_factor == 1:
            raise ValueError(f"{name}(): growth_factor=1 keeps the scale; expected more than 1")
        if backoff_factor == 1:
            raise ValueError(f"{name}(): backoff_factor=1 keeps the scale; expected less than 1")
        growth_interval = _core.read_int(name, "growth_interval", growth_interval, 1, MOST)
        enabled = _core.read_flag(name, "enabled", enabled)
        self.min_scale = None if min_scale is None else _read_scale("min_scale", min_scale)
        self.max_scale = None if max_scale is None else _read_scale("max_scale", max_scale)
        _check_order(self.min_scale, init_scale, self.max_scale)
        self._names = _read_names(named_parameters)
        self._overflowed: dict[str, None] = {}  # in order, each once
        self._skipped = 0
        self._skipped_on_device: torch.Tensor | None = None  # by fused optimizers, not yet read
        super().__init__(
            device, init_scale, growth_factor, backoff_factor, growth_interval, enabled
        )

    def __repr__(self) -> str:
        """Show the device, and the settings that differ from the default."""
        parts = [repr(str(self._device))]
        for name, parameter in signature(GradScaler).parameters.items():
            value = getattr(self, name if name in ("min_scale", "max_scale") else f"_{name}", None)
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
        """Lower or raise the scale, as torch does, or set it; then keep it within the limits.

        Parameters
        ----------
        new_scale : float or tensor of one element, optional
            The scale from now on. The growth tracker does not change.

        Raises
        ------
        AssertionError
            When there was no step since the last update and no `new_scale` is given.
        """
        super().update(new_scale)
        if self._enabled and self._has_limits and self._scale is not None:
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
            When there are limits and the state's scale is NaN.
        TypeError
            When `state_dict` is not a dict, or its scale is not a number.
        RuntimeError
            When the state is empty, as the state of a disabled scaler is, and this scaler is
            enabled.
        """
        if not isinstance(state_dict, Mapping):
            found = type(state_dict).__name__
            raise TypeError(
                f"GradScaler.load_state_dict(): state_dict has type {found}; expected a dict"
            )
        if self._enabled and "scale" in state_dict:
            state_dict = {**state_dict, "scale": self._held(state_dict["scale"])}
        super().load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        """Give the state to pickle, with counts as numbers instead of tensors on a device."""
        self._skipped = self.skipped_steps
        return super().__getstate__()

    @property
    def _has_limits(self) -> bool:
        return self.min_scale is not None or self.max_scale is not None

    def _held(self, scale: float) -> float:
        """Keep a scale within the limits."""
        if not self._has_limits:
            return scale
        function = "GradScaler.load_state_dict"
        scale = _core.read_real(function, "scale", scale, -math.inf, math.inf)
        least = scale if self.min_scale is None else max(scale, self.min_scale)
        return least if self.max_scale is None else min(least, self.max_scale)

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


def _read_scale(name: str, value: Any) -> float:
    """Read a scale, and round it to float32."""
    return float(np.float32(_core.read_real("GradScaler", name, value, LEAST_SCALE, MOST_SCALE)))


def _check_order(least: float | None, first: float, most: float | None) -> None:
    """Refuse limits in the wrong order, and a first scale outside them."""
    if least is not None and most is not None and least > most:
        raise ValueError(
            f"GradScaler(): min_scale={least} is more than max_scale={most}; expected at most "
            "max_scale"
        )
    if least is None and most is None:
        return
    scale = _read_scale("init_scale", first)
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


def _read_names(given: Any) -> list[tuple[str, torch.Tensor]] | None:
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
