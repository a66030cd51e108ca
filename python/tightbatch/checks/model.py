"""check_model: does padding, or another row, change what the user's model gives for a row?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .model_batch import (
    PADDING,
    Placed,
    cut_out,
    place,
    same_tokens,
    tensors_of,
    with_other_padding,
    without_padding,
)
from .model_compare import tolerance_for
from .model_input import read_outputs, read_rows
from .model_labels import by_first_labels, note_of_first_labels
from .model_movement import Reference
from .model_report import ModelReport
from .model_rows import NAME, Rows
from .model_run import Runner
from .model_where import Place, find_place, suspects
from .model_wider import NotWidened, wider

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ModelReport", "check_model"]

ONE_BY_ONE = 8  # rows up to which each is changed by itself
MOST_ONE_BY_ONE = 64  # and where something leaks


def check_model(
    model: Any,
    collate_fn: Callable[[list[Any]], Any],
    samples: Iterable[Any],
    *,
    tolerance: float | None = None,
    training: bool = False,
    call: Callable[[Any, Any], Any] | None = None,
    outputs: Collection[str] | None = None,
    seed: int = 0,
) -> ModelReport:
    """Check on a model that padding and the other rows of a batch do not affect a row.

    The samples are made into a batch, which the model reads many times: with other tokens in other
    rows, with other tokens in the padding, with more padding, with other rows longer and in another
    order, and each row alone. Whatever of a row's outputs then moves, leaks. Two controls go with
    it: other tokens in a row must move its own outputs, and the same batch must give the same
    again.

    Where a row's tokens are in the batch is found by changing them, so that the check believes no
    mask and no boundaries. Any layout will do: padded on either side, rows one after another, packs
    (samples with ``seq_lengths`` or with ``position_ids`` that start anew; each of their rows is
    checked by itself).

    Parameters
    ----------
    model : torch.nn.Module
        Called as ``model(**batch)``, ``model(*batch)`` or ``model(batch)``, by what the batch is
        and what ``forward`` takes. It is left as it was.
    collate_fn : callable
        Makes a batch of a list of samples. Its batch may hold tensors or arrays.
    samples : iterable
        At least two: dicts (nested ones too), tuples, dataclasses or bare rows, with rows of
        integers or floats as lists, arrays or tensors; or a dict of columns, as ``dataset[:8]`` of
        Hugging Face's. A dozen of different lengths shows what many would.
    tolerance : float, optional
        How far outputs may move, of the largest magnitude of that output. By default what rounding
        may do: 32 steps of float32 or float64, or 1 step of a half type, times the root of the
        number of modules with weights that are called.
    training : bool
        Check the model in training mode, without its dropout; otherwise in evaluation mode. The
        model's own modes are put back afterwards.
    call : callable, optional
        ``call(model, batch)`` instead of calling the model.
    outputs : collection of str, optional
        The names of the outputs to look at, as the report has them, such as ("logits",). All
        others are left out: those that compare rows on purpose, for example. By default all.
    seed : int
        For the tokens that are drawn, and before each run.

    Returns
    -------
    ModelReport
        ``print(report)`` shows what moved what, and where in the model it began;
        ``assert report.holds, report`` makes a test of it.

    Raises
    ------
    TypeError
        When the model is no module, collate_fn or call cannot be called, outputs are no names, or
        samples are no list of samples.
    ValueError
        When there are fewer than two rows; when samples have no rows of numbers; when the batch
        does not change with its samples, or a change of one row changes others in the batch; when
        no output is of single rows; when the model has none of the names in `outputs`.
    ImportError
        When torch is not installed.

    Notes
    -----
    Tokens are drawn from those of the samples. Special tokens that a transformers model, or the
    tokenizer of the collate_fn, knows of stay as they are, because models look for them. With more
    than 8 rows half of them are changed at a time, in different halves; only if something leaks is
    each changed by itself.

    Examples
    --------
    >>> import tightbatch as tb, torch
    >>> class Sum(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.embed = torch.nn.Embedding(50, 8)
    ...     def forward(self, input_ids, attention_mask):
    ...         return (self.embed(input_ids) * attention_mask[..., None]).sum(1)
    >>> samples = [{"input_ids": [5, 6, 7, 8]}, {"input_ids": [9, 10]}]
    >>> report = tb.check_model(Sum(), tb.PadCollator(), samples)
    >>> report.holds, report.leaks
    (True, ())
    """
    _require_torch()
    import torch

    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"{NAME}(): model={_core.show(model)}; expected a torch.nn.Module")
    if isinstance(collate_fn, type) or not callable(collate_fn):
        raise TypeError(
            f"{NAME}(): collate_fn={_core.show(collate_fn)}; expected a function of samples"
        )
    if call is not None and (isinstance(call, type) or not callable(call)):
        raise TypeError(
            f"{NAME}(): call={_core.show(call)}; expected None or a function of a model and a batch"
        )
    if tolerance is not None:
        tolerance = _core.read_real(NAME, "tolerance", tolerance, 0.0, 1e300)
    training = _core.read_flag(NAME, "training", training)
    seed = _core.read_int(NAME, "seed", seed, 0, 2**63 - 1)
    runner = Runner(model, call, training, seed, read_outputs(outputs))
    with runner.prepared():
        rows = read_rows(model, collate_fn, samples, seed)
        return _Check(runner, _settled(runner, collate_fn, rows), rows, tolerance).report()


def _require_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{NAME}() needs torch: python -m pip install torch") from error


def _settled(runner: Runner, collate_fn: Any, rows: Rows) -> Callable[[list[Any]], Any]:
    """The collate_fn, the same at each call: seeded, and copied where it remembers."""

    def plain(samples: list[Any]) -> Any:
        runner.reseed()
        return collate_fn(samples)

    def copied(samples: list[Any]) -> Any:
        runner.reseed()
        return copy.deepcopy(collate_fn)(samples)

    for collate in (plain, copied):
        one, other = (tensors_of(collate(list(rows.samples))) for _ in range(2))
        if one.keys() == other.keys() and all(_equal(one[path], other[path]) for path in one):
            return collate
    raise ValueError(
        f"{NAME}(): collate_fn gives another batch for the same samples each time; expected one "
        "without random changes, such as mlm=False"
    )


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    same = one == other
    if one.is_floating_point():
        same |= one.isnan() & other.isnan()
    return bool(same.all())


class _Check:
    """The runs of one check, in order, and what they found."""

    def __init__(
        self, runner: Runner, collate: Callable[[list[Any]], Any], rows: Rows, given: float | None
    ) -> None:
        self.runner, self.collate, self.rows, self.given = runner, collate, rows, given
        config = getattr(runner.model, "config", None)
        self.encoder_decoder = bool(getattr(config, "is_encoder_decoder", False))
        self.count, self.notes = len(rows.units), list[str]()
        self.by_first_labels: dict[str, float] = {}
        self.base = place(rows, collate, list(range(self.count)), self.encoder_decoder)
        outputs = self._first_run()
        self.tolerance = given if given is not None else tolerance_for(runner.step, runner.depth)
        alone, alone_error = self._alone_runs()
        self.reference = Reference(self.count, self.base, outputs, alone, self.encoder_decoder)
        self.alone = np.full(self.count, np.nan)
        for row, (placed, found) in alone.items():
            self.alone[row] = self.reference.moved(found, placed, [row])[row]
        self.alone_batches = {row: placed for row, (placed, _) in alone.items()}
        if alone_error is not None:
            self.notes.append(alone_error)
        for row in set(range(self.count)) - set(self.base.rows):
            self.notes.append(f"{rows.units[row].name} is not in the batch: collate_fn cut it off")

    def _place(self, rows: Rows, numbers: list[int]) -> Placed:
        return place(rows, self.collate, numbers, self.encoder_decoder, like=self.base)

    def _first_run(self) -> dict[str, Tensor]:
        try:
            return self.runner.observed(self.base.batch)
        except Exception as error:
            keys = list(self.base.batch) if isinstance(self.base.batch, Mapping) else None
            error.add_note(
                f"{NAME}(): the model does not take the batch"
                + (f" with the keys {_core.show(keys)}" if keys else "")
                + "; a call= that takes (model, batch) can choose what it is given"
            )
            raise

    def _alone_runs(self) -> tuple[dict[int, tuple[Placed, dict[str, Tensor]]], str | None]:
        found: dict[int, tuple[Placed, dict[str, Tensor]]] = {}
        problem = None
        for row in self.base.rows:
            try:
                placed = self._place(self.rows.alone(row), [row])
                found[row] = self._run_alone(placed)
            except Exception as error:  # models and collators raise errors of any kind
                if problem is None:
                    told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                    name = self.rows.units[row].name
                    problem = f"{name} could not be read alone: {told}"
        return found, problem

    def _run_alone(self, placed: Placed) -> tuple[Placed, dict[str, Tensor]]:
        bare = without_padding(placed)
        if not same_tokens(self.base, placed, placed.rows[0]):
            bare = cut_out(self.base, placed.rows[0])
            if bare is None:
                raise ValueError("collate_fn gives it other tokens alone than in the batch")
        if bare is not None:
            try:
                return bare, self.runner(bare.batch)
            except Exception:  # a model may want the width that the collate_fn pads to
                pass
        return placed, self.runner(placed.batch)

    def report(self) -> ModelReport:
        """Make all other runs."""
        again = self.reference.moved(
            self.runner(self.base.batch, draw=1), self.base, self.base.rows
        )
        matrix = self._other_rows()
        padding = self._padding()
        more, company = self._wider(), self._company()
        self.notes += [note_of_first_labels(*each) for each in self.by_first_labels.items()]
        names = tuple(unit.name for unit in self.rows.units)
        made = ModelReport(
            holds=False,
            rows=names,
            matrix=matrix,
            padding=padding,
            wider=more,
            alone=self.alone,
            company=company,
            again=again,
            tolerance=self.tolerance,
            dtype=self.runner.dtype,
            depth=self.runner.depth,
            outputs=self.reference.kinds,
            scales=self.reference.scales,
            place=None,
            notes=(),
        )
        there = list(self.base.rows)
        steady = bool((again[there] <= self.tolerance).all())
        compared = not np.isnan(self.alone[there]).any()
        unmoved = {names[row] for row in there} & set(made.unmoved)
        holds = steady and compared and not made.leaks and not unmoved
        where = None if holds else self._where(made, steady)
        if made.leaks and steady:
            self._advise(made)
        settled = {**vars(made), "holds": holds, "place": where, "notes": tuple(self.notes)}
        return ModelReport(**settled)

    def _moved(self, batch: Any, rows: Collection[int] | None = None) -> NDArray[np.float64]:
        """How far the rows' outputs are from those of the first run, for a batch laid out alike."""
        other = Placed(batch, self.base.grids, self.base.rows, self.base.segments)
        rows = self.base.rows if rows is None else rows
        return self.reference.moved(self.runner(batch), other, rows)

    def _other_rows(self) -> NDArray[np.float64]:
        """The matrix: each row changed by itself, or halves of the rows first."""
        matrix = np.full((self.count, self.count), np.nan)
        there = list(self.base.rows)
        if len(there) > ONE_BY_ONE:
            for draw, half in enumerate(_halves(there)):
                self._change(matrix, half, draw + 1)
            off = matrix[~np.eye(self.count, dtype=bool)]
            if not np.nanmax(off, initial=0.0) > self.tolerance or len(there) > MOST_ONE_BY_ONE:
                return matrix
        for row in there:
            moved = self._moved(self.collate(self.rows.changed([row], row)))
            matrix[row, there] = moved[there]
        return matrix

    def _change(self, matrix: NDArray[np.float64], half: list[int], draw: int) -> None:
        """Change half of the rows; what one of them does to another row is at most this."""
        moved = self._moved(self.collate(self.rows.changed(half, draw)))
        for row in self.base.rows:
            if row in half:
                matrix[row, row] = np.fmax(matrix[row, row], moved[row])
            else:
                matrix[half, row] = np.fmin(matrix[half, row], moved[row])

    def _padding(self) -> NDArray[np.float64]:
        """Change the padding's ids; where that moves rows, what their embeddings are instead."""
        batch = with_other_padding(self.base, self.rows, self.rows.special)
        if batch is None:
            self.notes.append("the batch has no padding: nothing of padding was tried")
            return np.full(self.count, np.nan)
        found, there = self.runner(batch), list(self.base.rows)
        moved = self.reference.moved(found, self.base, there)
        over = self._over(found, replace(self.base, batch=batch))
        if not np.nanmax(moved, initial=0.0) > self.tolerance and not over:
            return moved
        outputs = self.runner.with_other_embeddings(self.base)
        if outputs is not None:
            other = self.reference.moved(outputs, self.base, there)
            still = self.reference.totals(outputs, self.tolerance).keys() - self.by_first_labels
            if not np.nanmax(other, initial=0.0) > self.tolerance and not still:
                self.notes.append(
                    "the model tells padding by its id: with other ids there outputs move by "
                    f"{float(np.nanmax(moved, initial=0.0)):.1e}, with other embeddings of the "
                    "padding they do not; padding must keep its id"
                )
                return other
        for name, by in over.items():
            self.notes.append(
                f"{name}, one number for the batch, moves by {by:.1e} with the padding"
            )
            moved[there] = np.fmax(moved[there], by)
        return moved

    def _over(self, found: dict[str, Tensor], other: Placed) -> dict[str, float]:
        """The numbers for the whole batch that moved; not through first labels alone."""
        over = self.reference.totals(found, self.tolerance)
        for name in by_first_labels(self.runner, self.base, other, over, self.tolerance):
            by = over.pop(name)
            self.by_first_labels[name] = max(by, self.by_first_labels.get(name, 0.0))
        return over

    def _wider(self) -> NDArray[np.float64]:
        """Add padding to the batch: a mean over all places shows, which the values do not."""
        there, none = list(self.base.rows), np.full(self.count, np.nan)
        if all((grid.owner != PADDING).all() for grid in self.base.grids):
            return none
        try:
            self.wider_batch = wider(self.base, self.runner.most_positions(self.base))
            found = self.runner(self.wider_batch.batch)
        except Exception as error:  # wider than the model can have
            told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            told = str(error) if isinstance(error, NotWidened) else told
            self.notes.append(f"more padding could not be tried: {told}")
            return none
        moved = self.reference.moved(found, self.wider_batch, there)
        stay = not np.nanmax(moved, initial=0.0) > self.tolerance
        cure = ": divide by the number of tokens that count, not of all places" if stay else ""
        for name, by in self._over(found, self.wider_batch).items():
            self.notes.append(
                f"{name}, one number for the batch, moves by {by:.1e} with more padding{cure}"
            )
            moved[there] = np.fmax(moved[there], by)
        return moved

    def _company(self) -> NDArray[np.float64]:
        """Reverse the order and make every other sample longer; watch the rows in between."""
        found = np.full(self.count, np.nan)
        most, said = self.runner.most_positions(self.base), False
        samples = len(self.rows.samples)
        for longer in (range(0, samples, 2), range(1, samples, 2)):
            for grown in (longer, ()):
                other = self.rows.in_company(grown, most)
                try:
                    placed, outputs, watched = self._in_company(other, set(longer))
                except Exception as error:  # longer than collator or model can have
                    if not said and not grown:
                        told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                        self.notes.append(f"another order could not be tried: {told}")
                        said = True
                    continue
                moved = self.reference.moved(outputs, placed, watched)
                found[watched] = np.fmax(found[watched], moved[watched])
                self.company_batch = placed
                break
        return found

    def _in_company(
        self, other: Rows, longer: Collection[int]
    ) -> tuple[Placed, dict[str, Tensor], list[int]]:
        key = {(unit.sample, unit.segment): row for row, unit in enumerate(self.rows.units)}
        numbers = [key[unit.sample, unit.segment] for unit in other.units]
        placed = self._place(other, numbers)
        watched = [
            row
            for row in placed.rows
            if row in self.base.rows and self.rows.units[row].sample not in longer
        ]
        if not all(same_tokens(self.base, placed, row) for row in watched):
            raise ValueError("collate_fn gives rows other tokens in another order")
        return placed, self.runner(placed.batch), watched

    def _where(self, report: ModelReport, steady: bool) -> Place | None:
        """Find the module where the largest movement began."""
        grids, limit = self.base, self.tolerance
        if not steady:
            row = int(np.nanargmax(report.again))
            return find_place(self.runner, grids, grids, row, limit, draw=1)
        others = np.where(np.eye(self.count, dtype=bool), np.nan, report.matrix)
        batch: Any = None
        if np.nanmax(others, initial=0.0) > limit:
            changed, row = map(int, np.unravel_index(np.nanargmax(others), others.shape))
            batch = self.collate(self.rows.changed([changed], changed))
        elif np.nanmax(report.padding, initial=0.0) > limit:
            row = int(np.nanargmax(report.padding))
            batch = with_other_padding(self.base, self.rows, self.rows.special)
        elif np.nanmax(report.wider, initial=0.0) > limit:
            row = int(np.nanargmax(report.wider))
            return find_place(self.runner, self.base, self.wider_batch, row, limit)
        elif np.nanmax(report.alone, initial=0.0) > limit:
            row = int(np.nanargmax(report.alone))
            return find_place(self.runner, self.base, self.alone_batches[row], row, limit)
        elif np.nanmax(report.company, initial=0.0) > limit:
            row = int(np.nanargmax(report.company))
            return find_place(self.runner, self.base, self.company_batch, row, limit)
        if batch is None:
            return None
        other = Placed(batch, self.base.grids, self.base.rows, self.base.segments)
        return find_place(self.runner, self.base, other, row, limit)

    def _advise(self, report: ModelReport) -> None:
        """Add what is known of such leaks."""
        batch = self.base.batch
        others = np.where(np.eye(self.count, dtype=bool), np.nan, report.matrix)
        config = getattr(self.runner.model, "config", None)
        mapping = isinstance(batch, Mapping) and self.runner.call is None
        if (
            mapping
            and getattr(config, "use_cache", False)
            and "use_cache" not in batch
            and np.nanmax(others, initial=0.0) > self.tolerance
        ):
            self._try_without_cache(report)
        for name, output in self.reference.outputs.items():
            lines = {grid.shape[0] for grid in self.base.grids}
            if output.dim() == 2 and {*output.shape} <= lines and len(self.base.rows) > 1:
                self.notes.append(
                    f"{name} has shape {list(output.shape)}: if it compares rows on purpose, leave "
                    "it out: name the others in outputs="
                )
        named = suspects(self.runner.model)
        if named:
            self.notes.append(f"modules that see their neighbours: {', '.join(named[:6])}")

    def _try_without_cache(self, report: ModelReport) -> None:
        rows = list(self.base.rows)
        one, other = (
            {**self.collate(samples), "use_cache": False}
            for samples in (self.rows.samples, self.rows.changed(rows[:1], rows[0]))
        )
        first, second = self.runner(one), self.runner(other)
        before = Reference(self.count, self.base, first, {}, self.encoder_decoder)
        moved = before.moved(second, self.base, rows[1:])
        if not np.nanmax(moved, initial=0.0) > self.tolerance:
            self.notes.append(
                "with use_cache=False rows are apart: transformers looks for rows one after "
                "another only where it makes no cache"
            )


def _halves(rows: list[int]) -> list[list[int]]:
    """Parts of the rows so that each pair is parted by some of them, in both directions."""
    found = []
    for bit in range((len(rows) - 1).bit_length()):
        for value in (0, 1):
            found.append([row for i, row in enumerate(rows) if i >> bit & 1 == value])
    return found
