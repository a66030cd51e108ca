"""The first module whose output for a row moved though the row did not, and what to do there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .model_batch import Layout, Placed, layouts
from .model_run import Runner
from .model_tree import leaves

if TYPE_CHECKING:
    from torch import Tensor, nn

MOST_NUMBERS = 2 * 10**8  # that are kept of the modules' outputs: 0.8 GB; a leak is in the first

Key = tuple[int, Layout]  # of a grid
Parts = dict[Key, "Tensor"]


@dataclass(frozen=True)
class Place:
    """Where a row's numbers first moved.

    Attributes
    ----------
    module : str
        The module's name in the model; "" is the model itself.
    kind : str
        Its class.
    between : tuple of str
        Modules after and before which the numbers moved, where the module's own forward() moved
        them between the calls of others. Empty if the module has no modules inside.
    hint : str
        What to look at.
    """

    module: str
    kind: str
    between: tuple[str, ...]
    hint: str

    def __str__(self) -> str:
        """Name the place, and what to do."""
        where = f"{self.module or 'the model itself'} ({self.kind})"
        if self.between:
            where += f", in its own forward(), {' and '.join(self.between)}"
        return f"{where}: {self.hint}"


@dataclass
class Call:
    """One call of a module: a row's parts of its inputs and outputs, as each layout takes them."""

    name: str
    kind: str
    leaf: bool
    inputs: list[tuple[tuple[int, ...], Parts]]
    outputs: list[tuple[tuple[int, ...], Parts]]


def find_place(
    runner: Runner, one: Placed, other: Placed, row: int, tolerance: float, draw: int = 0
) -> Place | None:
    """Compare what each module gives for a row in two batches; None if no module shows it.

    With ``draw`` the second run has other random numbers.
    """
    first, second = _calls(runner, one, row, 0), _calls(runner, other, row, draw)
    before: Call | None = None
    for call, again in zip(first, second, strict=False):
        if call.name != again.name:
            break
        if _moved(call.outputs, again.outputs, tolerance):
            came_in = _moved(call.inputs, again.inputs, tolerance)
            found = _place(runner.model, call, before, came_in)
            return replace(found, hint=_RANDOM) if one is other else found
        before = call if call.leaf else before
    return None


def _place(model: nn.Module, call: Call, before: Call | None, came_in: bool) -> Place:
    if not came_in or not call.name:
        after: tuple[str, ...] = ()
        if not call.leaf and before is not None:  # none of the modules inside it did it
            after = (f"after {before.name}",)
        return Place(call.name, call.kind, after, hint_of(call.kind, call.leaf))
    if call.kind == "Embedding":
        return Place(call.name, call.kind, (), _POSITIONS)
    parent = call.name.rpartition(".")[0]
    while parent and type(model.get_submodule(parent)).__name__ in ("Sequential", "ModuleList"):
        parent = parent.rpartition(".")[0]
    kind = type(model.get_submodule(parent)).__name__
    between = [f"before {call.name}"]
    if before is not None:
        between.insert(0, f"after {before.name}")
    return Place(parent, kind, tuple(between), hint_of(kind, leaf=False))


_RANDOM = (
    "gives other numbers for the same input: dropout that eval() does not switch off, or a state "
    "that it keeps"
)
_POSITIONS = (
    "looks up other places for the same row: positions that count the padding or other rows. Pass "
    "position_ids that start anew with each row"
)
_HINTS_OF_PARENTS = [
    (
        ("Pooler", "Head"),
        "takes the first or the last place of a line, where padding may be (pad the other side, or "
        "take the row's own first or last token), or pools over the padding",
    ),
    (
        ("Attention", "Attn"),
        "attends to other rows or to padding: pass attention_mask for padded rows; for rows one "
        "after another position_ids without attention_mask, and use_cache=False in transformers, "
        "or another attention",
    ),
    (("Mamba", "SSM", "Mixer"), "carries its state from row to row: pass seq_idx, or pad"),
]
_HINTS = [
    (
        ("BatchNorm",),
        "takes its mean over all rows and the padding in training: use LayerNorm or GroupNorm, or "
        "leave the padding out of its statistics",
    ),
    (
        ("InstanceNorm", "GroupNorm"),
        "takes its mean over the padding of a row: use LayerNorm over features",
    ),
    (
        ("Conv", "Unfold"),
        "a convolution reads the padding that is beside a row: set padding to 0 before each "
        "convolution (x * mask), not only before the first",
    ),
    (("Pool",), "pools over the padding: leave it out (set it to -inf before a maximum)"),
    (
        ("LSTM", "GRU", "RNN"),
        "runs through the padding: pass it pack_padded_sequence(x, lengths, batch_first=True, "
        "enforce_sorted=False)",
    ),
    *_HINTS_OF_PARENTS,
]


def hint_of(kind: str, leaf: bool) -> str:
    """What to look at in a module of this class; one with modules inside may be called anything."""
    for names, hint in _HINTS if leaf else _HINTS_OF_PARENTS:
        if any(name in kind for name in names):
            return hint
    return (
        "mixes rows or reads padding: a mean, a maximum, a sum or a softmax over tokens needs the "
        "mask, and the first or last place of a line may be padding"
    )


def suspects(model: nn.Module) -> list[str]:
    """Modules that see neighbours by what they are: names and classes, each class once."""
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        kind = type(module).__name__
        wide = any(size > 1 for size in _kernel(module))
        if "BatchNorm" in kind or ("Pool" in kind and "Pooler" not in kind) or wide:
            found.setdefault(kind, name)
    return [f"{name or 'the model'} ({kind})" for kind, name in found.items()]


def _kernel(module: Any) -> tuple[int, ...]:
    size = getattr(module, "kernel_size", ())
    sizes = size if isinstance(size, tuple) else (size,)
    return tuple(one for one in sizes if isinstance(one, int))


def _calls(runner: Runner, placed: Placed, row: int, draw: int) -> list[Call]:
    """Run the model; give all calls of its modules in the order in which they ended."""
    import torch

    calls: list[Call] = []
    left = MOST_NUMBERS
    names = {module: name for name, module in runner.model.named_modules()}

    def parts(value: Any, name: str) -> list[tuple[tuple[int, ...], Parts]]:
        nonlocal left
        found = []
        # In an encoder and decoder a shape may be either's.
        decoder = "encoder" not in name
        grids = sorted(
            enumerate(placed.grids), key=lambda one: (one[1].prefix == "decoder_") != decoder
        )
        for part in leaves(value, lists=True).values():
            if not isinstance(part, torch.Tensor) or part.dim() == 0:
                continue
            taken: Parts = {}
            for number, grid in grids:
                for layout in layouts(tuple(part.shape), grid):
                    if left > 0 and layout.fits(tuple(part.shape), placed, grid):
                        if row not in grid.owner:
                            continue
                        mine = layout.take(part.detach(), placed, grid, row).clone()
                        taken[number, layout] = mine
                        left -= mine.numel()
            found.append((tuple(part.shape), taken))
        return found

    def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        leaf = next(module.children(), None) is None
        name = names[module]
        inputs = parts([*args, *kwargs.values()], name) if leaf else []
        calls.append(Call(name, type(module).__name__, leaf, inputs, parts(output, name)))

    handles = [
        module.register_forward_hook(note, with_kwargs=True) for module in runner.model.modules()
    ]
    try:
        runner(placed.batch, draw)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _moved(one: Any, other: Any, tolerance: float) -> bool:
    """Whether a row's part of any tensor differs, by the first layout that fits both."""
    from .model_compare import difference, scale_of

    for (_, first), (_, second) in zip(one, other, strict=False):
        for key, part in first.items():
            again = second.get(key)
            if again is None or again.shape != part.shape:
                continue
            if difference(part, again, scale_of(part)) > 4 * tolerance:
                return True
            break
    return False
