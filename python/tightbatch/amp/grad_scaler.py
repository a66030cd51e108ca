"""torch's loss scaler, with limits, a count of skipped steps, and who overflowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from .._settings import Reader

# Between these a scale and its inverse are both normal float32, on devices without subnormals too.
LEAST_SCALE, MOST_SCALE = 2.0**-126, 2.0**126


class GradScaler(torch.amp.GradScaler):
    """:class:`torch.amp.GradScaler` with scale limits, a count of skipped steps, and names.

    Without limits it is torch's, bit for bit: the same scales, weights and ``state_dict()``,
    which either loads from the other. float16 flushes gradients below 2**-24 to zero; the loss,
    and so all gradients, are multiplied by a scale that is halved whenever a gradient overflows
    and doubled after `growth_interval` steps without.

    Parameters
    ----------
    device, init_scale, growth_factor, backoff_factor, growth_interval, enabled
        As torch's, in the same order and with the same defaults. `device` "cuda" where torch
        finds no CUDA device warns and disables, as there.
    min_scale, max_scale : float, optional
        The scale never leaves them, whoever sets it: backing off, growing, ``update(new_scale)``
        and ``load_state_dict`` are all held to them. A model that yields NaN by itself otherwise
        drives the scale to 0, where nothing is learned any more; ``min_scale=1`` keeps it usable
        and `skipped_steps` tells. At `max_scale` the growth tracker goes on counting as before.
    named_parameters : iterable of (str, Parameter), optional
        ``model.named_parameters()``, so that `overflowed` can tell names.

    Attributes
    ----------
    min_scale, max_scale : float or None
        The limits, as float32 holds them.

    Raises
    ------
    ValueError
        When a limit is outside 2**-126 to 2**126, or `init_scale` is outside the limits.
    TypeError
        When a limit is no number, or `named_parameters` are no pairs of a name and a tensor.
    AssertionError
        From torch, for a `growth_factor` up to 1 or a `backoff_factor` from 1.

    Notes
    -----
    What waits for the device: ``step()`` waits once for each optimizer, as torch's does, to know
    whether to skip. With `named_parameters` an explicit ``unscale_()`` waits in its stead, since
    clipping makes NaN of all gradients when one is NaN; after an overflow, and only then, the
    gradients are read once more for the names. Fused optimizers skip on the device, and nothing
    waits until `skipped_steps` is read; but with `named_parameters` each step does.

    A copy or a pickle holds the parameters that it was given, as copies: unless the optimizer is
    copied with it, `overflowed` tells places instead of names. ``state_dict()`` holds torch's five
    numbers only, without limits, count and names.

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
        read = Reader("GradScaler")
        self.min_scale = None if min_scale is None else _round(read, "min_scale", min_scale)
        self.max_scale = None if max_scale is None else _round(read, "max_scale", max_scale)
        _check_order(read, self.min_scale, init_scale, self.max_scale)
        self._names = _pairs(read, named_parameters)
        self._overflowed: dict[str, None] = {}  # in order, each once
        self._skipped = 0
        self._skipped_on_device: torch.Tensor | None = None  # by fused optimizers, not yet read
        super().__init__(
            device, init_scale, growth_factor, backoff_factor, growth_interval, enabled
        )

    @property
    def skipped_steps(self) -> int:
        """Steps of optimizers that were skipped, as a gradient was inf or NaN.

        Those of several optimizers are added up. Reading it waits for the device only when a
        fused optimizer has stepped since it was last read.
        """
        if self._skipped_on_device is not None:
            self._skipped += int(self._skipped_on_device.item())
            self._skipped_on_device = None
        return self._skipped

    @property
    def overflowed(self) -> tuple[str, ...]:
        """Names of the parameters with a gradient that was inf or NaN in the last iteration.

        In the optimizers' order; () when there was none, or no `named_parameters` were given. It
        holds those of one iteration, until the first ``unscale_()`` or ``step()`` after the next
        ``update()``. A parameter without a name is called by its place in the optimizer.
        """
        return tuple(self._overflowed)

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the optimizer's gradients by the scale, as torch does, and note who overflowed.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            Who owns the gradients.

        Raises
        ------
        RuntimeError
            When called twice, or after ``step()``, without ``update()`` in between.
        ValueError
            When a gradient is float16: parameters stay in float32, autocast does the rest.
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
            Its gradients are unscaled first where that has not been done.
        *args, **kwargs
            For ``optimizer.step()``; no closure.

        Returns
        -------
        float or None
            What ``optimizer.step()`` returns; None when it was skipped.

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
        """Back off or grow, as torch does, or set a scale; then hold it to the limits.

        Parameters
        ----------
        new_scale : float or tensor of one element, optional
            The scale from now on. The growth tracker stays as it is.

        Raises
        ------
        AssertionError
            When no step was made since the last update, unless there is a `new_scale`.
        """
        super().update(new_scale)
        if self._enabled and self._has_limits and self._scale is not None:
            self._scale.clamp_(self.min_scale, self.max_scale)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this class or of torch's; its scale is held to the limits.

        Parameters
        ----------
        state_dict : dict
            From ``state_dict()``.

        Raises
        ------
        ValueError
            When there are limits and the state's scale is NaN, which they cannot hold.
        RuntimeError
            When the state is empty, as that of a disabled scaler is, and this one is enabled.
        """
        if self._enabled and "scale" in state_dict:
            state_dict = {**state_dict, "scale": self._held(state_dict["scale"])}
        super().load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        """Give what is pickled: counts as numbers, and not on a device."""
        self._skipped = self.skipped_steps
        return super().__getstate__()

    @property
    def _has_limits(self) -> bool:
        return self.min_scale is not None or self.max_scale is not None

    def _held(self, scale: float) -> float:
        """Hold a scale to the limits."""
        if not self._has_limits:
            return scale
        if math.isnan(scale):
            raise ValueError("load_state_dict(): scale=nan; expected a number")
        least = scale if self.min_scale is None else max(scale, self.min_scale)
        return least if self.max_scale is None else min(least, self.max_scale)

    def _begin(self) -> None:
        """Forget the names of the iteration before, at the first call of a new one."""
        if self._enabled and not self._per_optimizer_states:
            self._overflowed = {}

    def _is_found(self, optimizer: torch.optim.Optimizer) -> bool:
        """Wait for whether a gradient is not finite; the second time it is known."""
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
        """Step or skip: where torch's ``step()`` decides, for all but fused optimizers."""
        if self._is_found(optimizer):
            self._skipped += 1
            return None
        result: float | None = optimizer.step(*args, **kwargs)
        return result

    def _count_fused(self, optimizer: torch.optim.Optimizer) -> None:
        """Count a step that a fused optimizer has skipped, or not, on the device."""
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
        """Note whose gradients are not finite, once in an iteration for each optimizer."""
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
                place = f"param_groups[{group_number}]['params'][{number}]"
                owners.setdefault(values.device, []).append(names.get(id(parameter), place))
        for device, finite in flags.items():
            for name, is_finite in zip(owners[device], torch.stack(finite).tolist(), strict=True):
                if not is_finite:
                    self._overflowed[name] = None

    def _forget(self) -> None:
        """Forget an iteration that an exception has ended before ``update()``."""
        if self._enabled:
            self._per_optimizer_states.clear()


def _round(read: Reader, name: str, value: Any) -> float:
    """Read a scale, as float32 holds it."""
    return float(np.float32(read.real(name, value, LEAST_SCALE, MOST_SCALE)))


def _check_order(read: Reader, least: float | None, first: float, most: float | None) -> None:
    """Refuse limits that leave no room for the first scale."""
    if least is not None and most is not None and least > most:
        message = f"min_scale={least} with max_scale={most}; expected at most that"
        raise read.error(ValueError, message)
    if least is None and most is None:
        return
    scale = _round(read, "init_scale", first)
    if least is not None and scale < least:
        message = f"init_scale={first!r} with min_scale={least}; expected at least that"
        raise read.error(ValueError, message)
    if most is not None and scale > most:
        message = f"init_scale={first!r} with max_scale={most}; expected at most that"
        raise read.error(ValueError, message)


def _pairs(read: Reader, given: Any) -> list[tuple[str, torch.Tensor]] | None:
    """Read names and parameters."""
    if given is None:
        return None
    expected = "expected pairs of a name and a parameter, as model.named_parameters() gives them"
    if isinstance(given, Mapping | str | torch.Tensor) or not isinstance(given, Iterable):
        message = f"named_parameters is a {type(given).__name__}; {expected}"
        raise read.error(TypeError, message)
    pairs = []
    for number, pair in enumerate(given):
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2
        if not (is_pair and isinstance(pair[0], str) and isinstance(pair[1], torch.Tensor)):
            message = f"named_parameters[{number}] is a {type(pair).__name__}; {expected}"
            raise read.error(TypeError, message)
        pairs.append((pair[0], pair[1]))
    return pairs
