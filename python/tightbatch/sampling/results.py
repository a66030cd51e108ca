"""What a sampler's plan amounts to, and what a model gave for it, in the data set's order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fairness import Fairness, measure
from .order import restore
from .plan_file import check_batches
from .ranks import Steps, handed_out
from .saving import Saving
from .state import NAME

Array = NDArray[np.int64]


class Results(Saving):
    """What a sampler can tell of its plan and do with its results."""

    def _deal(self) -> Steps:
        raise NotImplementedError

    def _batches(self, indices: Array, steps: Steps, rank: int) -> Iterator[list[int]]:
        raise NotImplementedError

    @property
    def dropped(self) -> int:
        """How many rows the coming iteration leaves out, on all ranks together."""
        return len(self._planner.lengths) - self._count()[1]

    @property
    def repeated(self) -> int:
        """How many rows the coming iteration hands out twice, on all ranks together."""
        handed_out, different = self._count()
        return handed_out - different

    def _count(self) -> tuple[int, int]:
        """Count the rows that are handed out, and the different ones among them."""
        indices, steps = self._plan()[0], self._deal()
        rows = len(indices) - steps.dropped
        groups = self._planner.groups
        if groups is None or groups.quotas is None:
            return rows + steps.repeated, rows
        different = np.count_nonzero(np.bincount(indices[:rows]))
        return rows + steps.repeated, int(different)

    def restore_order(self, outputs: Any, *, fill: Any = None) -> Any:
        """Put what a model gave for the batches of the latest iteration into the data set's order.

        Parameters
        ----------
        outputs : list, tensor, array, dict or tuple
            A list of what each batch gave, from the first to the last: a tensor, an array or a
            list with an item for each row, or a dict or tuple of these. Or one of these that has
            all rows already. Rows that another library repeated at the end are cut. With
            `num_replicas` above 1, a list with this for each rank, as
            ``torch.distributed.all_gather_object`` gives it; of a row that came twice, the first
            output counts.
        fill : object, optional
            What rows get that the sampler left out (`drop_last`, ``overlong="drop"``).

        Returns
        -------
        tensor, array, list, dict or tuple
            Item i is that of row i of the data set. Tensors, or arrays, of one element type and of
            rows of one shape become one of shape [rows, ...]; others become a list of rows. Dicts
            and tuples keep their keys and places.

        Raises
        ------
        ValueError
            When the outputs are not those of every row, when keys differ, or when the sampler left
            rows out and there is no `fill`.
        TypeError
            When there is no item for each row: leave out what a batch has one of, like a loss.

        Examples
        --------
        >>> import tightbatch as tb
        >>> rows = ["eleven", "two", "three"]
        >>> sampler = tb.LengthBatchSampler(list(map(len, rows)), batch_size=2, shuffle=False)
        >>> outputs = [[rows[row].upper() for row in batch] for batch in sampler]
        >>> outputs
        [['ELEVEN', 'THREE'], ['TWO']]
        >>> sampler.restore_order(outputs)
        ['ELEVEN', 'TWO', 'THREE']
        """
        name, run = f"{NAME}.restore_order", self._run
        epoch, planned = (self._epoch, self._planned) if run is None else (run.epoch, run.planned)
        steps = self._deal() if run is None else run.steps
        if steps.begin:
            raise ValueError(
                f"{name}(): the latest iteration began after {steps.begin} rows, where a state was "
                "loaded; expected one of a whole epoch"
            )
        indices = self._planner.plan(epoch, planned)[0]
        given = handed_out(indices, steps, lambda rank: self._batches(indices, steps, rank))
        return restore(name, outputs, given, len(self._planner.lengths), fill)

    def fairness(self) -> Fairness:
        """Tell how far the batches of the coming epoch are from random batches.

        Batches of rows of like length are no random sample of the rows: the price of less padding.
        This gives that price: the spread of rows a batch, that of the mean lengths of batches, and
        how alike neighbouring batches are, beside those of random batches under the same caps.
        10 million rows take a fraction of a second.

        Returns
        -------
        Fairness
            Of whole batches, on all ranks together. ``print`` shows it as a table.

        Examples
        --------
        >>> import tightbatch as tb
        >>> lengths = [3, 5, 4] * 2000
        >>> sampler = tb.LengthBatchSampler(lengths, max_tokens=64, padding_free=True)
        >>> fairness = sampler.fairness()
        >>> round(fairness.plan.rows_mean), round(fairness.plan.padding, 2)
        (16, 0.0)
        >>> fairness.plan.length_std < 2 * fairness.random.length_std
        True
        """
        planner = self._planner
        indices, offsets = self._plan()
        if planner.saved:  # a file may be written to while it is mapped
            indices, offsets = np.array(indices, np.int64), np.array(offsets)
            if not check_batches(indices, offsets, len(planner.lengths)):
                raise ValueError(f"{NAME}.fairness(): the plan's file was changed; save it again")
        ranks = self.num_replicas
        return measure(NAME, planner.lengths, planner.settings, indices, offsets, ranks)
