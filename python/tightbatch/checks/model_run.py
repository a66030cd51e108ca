"""Run the user's model: in one mode, without dropout, from the same seed, and restored after it."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .model_batch import Placed, padding_of, tensors_of, with_tensors
from .model_rows import NAME
from .model_tree import leaves, named

if TYPE_CHECKING:
    from torch import Tensor, nn

# Outputs that are not looked at: what is kept for the next token, and weights of attention.
LEFT_OUT = ("past_key_values", "attentions", "mems", "cache_params")


class Runner:
    """A model and how it takes a batch.

    Attributes
    ----------
    depth : int
        Calls of modules with weights in the first run: sums that are rounded one after another.
    step : float
        The coarsest relative step of the floating types that these gave.
    dtype : str
        That type.
    """

    def __init__(
        self,
        model: nn.Module,
        call: Callable[[Any, Any], Any] | None,
        training: bool,
        seed: int,
        names: Collection[str] | None = None,
    ) -> None:
        self.model, self.call, self.training, self.seed = model, call, training, seed
        self.names = names  # of the outputs that are looked at; None for all
        self.depth, self.step, self.dtype = 0, 0.0, ""
        weight = next((p for p in model.parameters()), None)
        self.device = None if weight is None else weight.device

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Set the mode of all modules; put back modes, buffers and random states."""
        import torch

        modes = {module: module.training for module in self.model.modules()}
        buffers = {name: b.detach().clone() for name, b in self.model.named_buffers()}
        states = random.getstate(), np.random.get_state()  # noqa: NPY002
        devices = [self.device] if self.device is not None and self.device.type == "cuda" else []
        try:
            with torch.no_grad(), torch.random.fork_rng(devices), _no_dropout(self):
                self.model.train(self.training)
                yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            for module, mode in modes.items():
                module.training = mode
            with torch.no_grad():
                for name, buffer in self.model.named_buffers():
                    if name in buffers and buffer.shape == buffers[name].shape:
                        buffer.copy_(buffers[name])

    def reseed(self, draw: int = 0) -> None:
        """Start all random numbers anew, so that what is drawn is the same for the same draw."""
        import torch

        random.seed(self.seed + draw)
        np.random.seed((self.seed + draw) % 2**32)  # noqa: NPY002, collators use it
        if self.device is None or self.device.type == "cpu":
            # torch.manual_seed formats the stack for each accelerator that is not in use yet.
            torch.default_generator.manual_seed(self.seed + draw)
        else:
            torch.manual_seed(self.seed + draw)

    def __call__(self, batch: Any, draw: int = 0) -> dict[str, Tensor]:
        """The outputs for a batch by name."""
        import torch

        self.reseed(draw)
        tensors = tensors_of(batch)
        if self.device is not None:
            tensors = {path: tensor.to(self.device) for path, tensor in tensors.items()}
        outputs = self._forward(with_tensors(batch, tensors))
        found: dict[str, Tensor] = {}
        for path, value in leaves(_unpacked(outputs), lists=True).items():
            if not isinstance(value, torch.Tensor) or not value.is_floating_point():
                continue
            if not any(str(part).endswith(LEFT_OUT) for part in path):
                found[named(path) or "output"] = value.detach()
        if self.names is None:
            return found
        if missing := [name for name in sorted(self.names) if name not in found]:
            raise ValueError(
                f"{NAME}(): outputs: the model gives no {_core.show(missing[0])}; expected names "
                f"of {_core.show(list(found))}"
            )
        return {name: value for name, value in found.items() if name in self.names}

    def observed(self, batch: Any) -> dict[str, Tensor]:
        """Do the same, and note depth and types."""
        import torch

        steps: dict[str, float] = {}

        def note(module: nn.Module, _: Any, output: Any) -> None:
            weighs = any(True for _ in module.parameters(recurse=False))
            self.depth += weighs
            if weighs and isinstance(output, torch.Tensor) and output.is_floating_point():
                steps[str(output.dtype).removeprefix("torch.")] = torch.finfo(output.dtype).eps

        handles = [module.register_forward_hook(note) for module in self.model.modules()]
        try:
            outputs = self(batch)
        finally:
            for handle in handles:
                handle.remove()
        for output in outputs.values():
            steps[str(output.dtype).removeprefix("torch.")] = torch.finfo(output.dtype).eps
        self.dtype = max(steps, key=lambda name: steps[name], default="float32")
        self.step = steps.get(self.dtype, torch.finfo(torch.float32).eps)
        rounded = torch.get_float32_matmul_precision() != "highest"
        if self.dtype == "float32" and rounded and self.device and self.device.type == "cuda":
            self.dtype, self.step = "float32 multiplied as TF32", 2.0**-10
        return outputs

    def with_other_embeddings(self, placed: Placed) -> dict[str, Tensor] | None:
        """Run with other embeddings of the padding, its ids as they are; None without any.

        Models that find padding by its id are so told apart from those that read what is there.
        """
        import torch

        tensors, changed = tensors_of(placed.batch), 0
        generator = torch.Generator().manual_seed(self.seed % 2**63)
        ids = [
            (tensors[path], padding_of(tensors[path], grid))
            for grid in placed.grids
            for path in grid.paths
            if not tensors[path].is_floating_point()
        ]

        def change(_: nn.Module, args: Any, output: Tensor) -> Tensor | None:
            nonlocal changed
            for tensor, empty in ids:
                if len(args) and args[0].shape == tensor.shape:
                    if not bool((args[0].cpu() == tensor.cpu()).all()):
                        continue
                    noise = torch.randn(output.shape, generator=generator).to(output)
                    changed += 1
                    mask = empty.to(output.device)[..., None]
                    return torch.where(mask, noise * (output.std() + 1e-3), output)
            return None

        handles = [
            module.register_forward_hook(change)
            for module in self.model.modules()
            if isinstance(module, torch.nn.Embedding)
        ]
        try:
            outputs = self(placed.batch)
        finally:
            for handle in handles:
                handle.remove()
        return outputs if changed else None

    def most_positions(self, placed: Placed) -> int | None:
        """The most tokens that a row may have, as far as it can be known; None without a limit."""
        config = getattr(self.model, "config", None)
        names = ("max_position_embeddings", "n_positions", "max_source_positions")
        known = [getattr(config, name, None) for name in names]
        limits = [one for one in known if type(one) is int and one > 0]
        for name, module in self.model.named_modules():
            if "position" in name and getattr(module, "padding_idx", None) is not None:
                limits.append(module.num_embeddings - module.padding_idx - 1)
        if not limits and self.device is not None and self.device.type != "cpu":
            # An index beyond a table ends the process's use of a GPU.
            limits = [grid.shape[1] for grid in placed.grids]
        return min(limits, default=None)

    def _forward(self, batch: Any) -> Any:
        if self.call is not None:
            return self.call(self.model, batch)
        if isinstance(batch, Mapping):
            if _takes_names(self.model, batch):
                return self.model(**{str(key): value for key, value in batch.items()})
        elif (
            isinstance(batch, (tuple, list))
            and not hasattr(batch, "batch_sizes")  # a PackedSequence is one thing
            and _takes_count(self.model, len(batch))
        ):
            return self.model(*batch)
        return self.model(batch)


def _unpacked(outputs: Any) -> Any:
    """Outputs with packed sequences padded again: their rows are in the batch's order."""
    import torch

    def plain(value: Any) -> Any:
        if isinstance(value, torch.nn.utils.rnn.PackedSequence):
            return torch.nn.utils.rnn.pad_packed_sequence(value, batch_first=True)[0]
        if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
            return [plain(part) for part in value]
        return value

    return plain(outputs)


def _signature(model: nn.Module) -> inspect.Signature | None:
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError):
        return None


def _takes_names(model: nn.Module, batch: Mapping[Any, Any]) -> bool:
    signature = _signature(model)
    if signature is None:
        return True
    parameters = signature.parameters.values()
    if any(p.kind is p.VAR_KEYWORD or p.name in batch for p in parameters):
        return True
    return len(list(parameters)) != 1


def _takes_count(model: nn.Module, count: int) -> bool:
    signature = _signature(model)
    if signature is None:
        return True
    parameters = list(signature.parameters.values())
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return count <= len(positional)


@contextlib.contextmanager
def _no_dropout(runner: Runner) -> Iterator[None]:
    """Switch dropout off where the mode would use it: masks drawn for other shapes differ."""
    if not runner.training:
        yield
        return
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    dropouts = {
        function
        for name in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout",
                     "feature_alpha_dropout")
        for function in (getattr(functional, name, None), getattr(torch, name, None))
        if function is not None
    }  # fmt: skip

    class Off(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = dict(kwargs or {})
            if function in dropouts:
                return args[0] if args else kwargs["input"]
            if function is functional.scaled_dot_product_attention:
                if len(args) > 4:
                    args = (*args[:4], 0.0, *args[5:])
                kwargs["dropout_p"] = 0.0 if len(args) <= 4 else kwargs.pop("dropout_p", 0.0)
                if len(args) > 4:
                    del kwargs["dropout_p"]
            return function(*args, **kwargs)

    rates = []
    for module in runner.model.modules():
        if isinstance(module, (torch.nn.RNNBase, torch.nn.MultiheadAttention)):
            rates.append((module, module.dropout))
            module.dropout = 0.0
    try:
        with Off():
            yield
    finally:
        for module, rate in rates:
            module.dropout = rate
