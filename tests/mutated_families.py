"""Which tests are asked about a change, and which changes no test can find. Used by mutate.py."""

import re

# The quickest and most telling first. Comparisons with peers, models and workers are left out:
# they take most of the suite's time and look at what these tests look at.
PADDING = (
    "padding_errors padding padding_rows padding_fill padding_refused padding_exactness "
    "padding_types padding_hostile padding_half padding_torch padding_dlpack padding_memory memory"
).split()
SEGMENTS = "segments segment_mask block_mask masks".split()
PLANS = (
    "batching_limits batching_errors batching batching_state batching_ranks batching_resume "
    "buckets packing_errors packing"
).split()
BATCHES = (
    "collate_errors collate collate_boundaries collate_cut collate_dtype collate_repr "
    "padding_free_errors padding_free padding_free_masks"
).split()
COLUMNS = "arrow_sliced arrow_hostile arrow_release arrow ragged ragged_use".split()
DATASETS = "dataset dataset_sources".split()
HALVES = "half_errors half half_report padding_half".split()
HUGGINGFACE = "huggingface_rows huggingface_labels huggingface huggingface_lm".split()
ARGUMENTS = ["wrong_arguments", "messages"]
AMP = ["amp_scaler", "amp"]
COMPARE = ["compare_lines", "compare"]

BINDING = [ARGUMENTS + PADDING, SEGMENTS + BATCHES, HALVES + COLUMNS, PLANS + DATASETS]
ROOMS = {"csrc/core": ["C", *BINDING], "csrc/py": BINDING}
ROOMS["python/tightbatch"] = [*BINDING, HUGGINGFACE, AMP, COMPARE]

# By the first pattern that the file's name matches: groups that are run before the others of
# its room, one after the other. None: these groups alone.
FIRST = [
    (r"core/(cast|loss)/", ["C", HALVES]),
    (r"core/plan/", ["C", PLANS]),
    (r"core/arrow/", ["C", COLUMNS]),
    (r"core/layout/(pad|mask|mlm)\b", ["C", PADDING[:5]]),
    (r"core/layout/padding_free", ["C", BATCHES]),
    (r"core/layout/", ["C", SEGMENTS]),
    (r"core/base/", ["C", PADDING[:5] + ["batching"]]),
    (r"py/.*(arrow|ragged)", [COLUMNS + ARGUMENTS]),
    (r"py/wrap/wrap_(batching|buckets)", [PLANS + ARGUMENTS]),
    (r"py/wrap/wrap_(segment|mask|block_mask)|py/input/lengths", [SEGMENTS + ARGUMENTS]),
    (r"py/wrap/wrap_(collate|padding_free|mlm)|py/output/padding_free", [BATCHES + HUGGINGFACE]),
    (r"py/output/columns|py/input/column_spec|py/output/width", [BATCHES + ["dataset"]]),
    (r"py/wrap/wrap_half|py/input/tensor|py/input/array", [HALVES + ["padding_torch"]]),
    (r"py/.*settings", [ARGUMENTS, SEGMENTS[:2] + ["padding_errors", "batching_errors"]]),
    (r"py/", [ARGUMENTS[:1] + PADDING]),
    (r"tightbatch/(compare|__main__)", [COMPARE, None]),
    (r"tightbatch/amp/", [AMP, None]),
    (r"tightbatch/huggingface/", [HUGGINGFACE + ARGUMENTS, BATCHES]),
    (r"tightbatch/sampling/", [PLANS + ARGUMENTS, ["batching_use"]]),
    (r"tightbatch/collate/", [BATCHES + ARGUMENTS + ["dataset"], HUGGINGFACE]),
    (r"tightbatch/half/", [HALVES + ARGUMENTS]),
    (r"tightbatch/(masks|padding|_numpy)", [SEGMENTS[1:] + PADDING]),
    (r"tightbatch/(ragged|_arrow|_samples|dataset)", [COLUMNS + DATASETS]),
    (r"", []),
]


def tests_of(path):
    """Groups of test files for a change in `path`, and "C" for the C tests; no file twice."""
    first = next(groups for pattern, groups in FIRST if re.search(pattern, path))
    room = next(room for room in ROOMS if path.startswith(room))
    groups, seen = [], set()
    for group in first if None in first else first + ROOMS[room]:
        if group is None or group == "C":
            groups += ["C"] if group == "C" and "C" not in groups else []
            continue
        groups.append([f"tests/test_{name}.py" for name in group if name not in seen])
        seen.update(group)
    return [group for group in groups if group]


# What a change makes of a line, and why nobody can notice it.
EQUIVALENT: dict[tuple[str, str], str] = {}
