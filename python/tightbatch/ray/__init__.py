"""Ray Data: batches, batches by length, and packs, of data that no single machine holds.

:class:`CollateFn` makes any collator a ``collate_fn`` of ``iter_torch_batches`` and
``iter_jax_batches``. :class:`StoreBatch` collates in Ray's tasks, on nodes without an accelerator,
and :class:`LoadBatch` gives the tensors as views of the object store. :func:`batch_by_length` cuts
a dataset into batches of rows of like length, as many for each worker of Ray Train, and
:class:`BatchLoader` hands them out and can resume. :func:`pack_dataset` packs a whole dataset.

``import tightbatch`` does not import this module, which imports Ray.
"""

try:
    import pyarrow  # noqa: F401
    import ray.data  # noqa: F401
except ImportError as error:
    raise ImportError(
        "tightbatch.ray needs Ray Data and pyarrow: python -m pip install 'ray[data]' pyarrow "
        f"({error})"
    ) from None

from .batching import batch_by_length
from .collating import CollateFn
from .loader import BatchLoader
from .packing import pack_dataset
from .storing import LoadBatch, StoreBatch

__all__ = [
    "BatchLoader",
    "CollateFn",
    "LoadBatch",
    "StoreBatch",
    "batch_by_length",
    "pack_dataset",
]
