"""Which tests are asked about a change, and which changes no test can find. Used by mutate.py."""

import re

# The quickest and most telling first; what looks at memory last. Comparisons with peers, models
# and workers take most of the suite's time and look at what these look at: they are left out.
PADDING = (
    "padding_errors padding_rows padding_types padding_hostile padding_refused "
    "padding_exactness padding_fill padding padding_half"
).split()
NUMBERS = "zero_dimensions tensor_kinds padding_nested".split()
SEGMENTS = "segments masks segment_mask block_mask".split()
PLANS = (
    "batching_limits batching_errors batching batching_state batching_ranks batching_resume "
    "buckets packing_errors packing batching_use"
).split()
LIMITED = ["several_limits", "mapped_lengths", *PLANS[:2], "binding"]
STREAMS = [
    f"streaming{part}"
    for part in ("", "_resume", "_redeal", "_shares", "_loaders", "_limits", "_interrupted")
]
ORDERS = ["batching_order", "fairness", "batching_loops"]
BATCHES = (
    "collate_errors collate collate_boundaries collate_cut collate_dtype collate_repr "
    "padding_free_errors padding_free padding_free_masks"
).split()
COLUMNS = "arrow_sliced arrow_hostile arrow_release arrow ragged ragged_use".split()
TOKENS = ["tokens", "ragged_use", "wrong_arguments"]
DATASETS = "dataset dataset_sources".split()
HALVES = "half_errors half half_report half_checkpoints".split()
HUGGINGFACE = "huggingface_rows huggingface_labels huggingface huggingface_lm".split()
AMP = ["amp_scaler", "amp_overflow", "amp"]
TENSORS = ["padding_torch", "padding_dlpack"]
CHECKS = (
    "check_batch check_batch_use check_batch_kinds check_batch_labels check_batch_right".split()
)
ANALYSIS = ["analyze_sampler", "analyze"]
MODELS = "check_model_report check_model check_model_padding check_model_transformers".split()
PLOTS = ["plots_style", "plots_batch", "plots"]
COMPARE = ["compare_lines", "compare"]
ROLES = (
    "collate_roles collate_labels collate_passengers samples masks_added batch_pytree "
    "padding_free_apart"
).split()
LAST = ["binding", "references", "wrong_arguments", "messages", "memory", "no_memory"]

MORE_SETTINGS = ["packing_errors", "collate_boundaries"]
PARTS = ["partition", "batching_use", *LAST]

ROOMS = ["csrc/core", "csrc/py", "python/tightbatch"]

# By the first pattern found in the file's name.
FAMILIES = [
    (r"core/(cast|loss)/", [*HALVES, "padding_half", "padding_exactness", "padding_types"]),
    (r"core/check/|wrap_check|checks/batch", [*CHECKS, *LAST]),
    (r"plan/waste|wrap_waste", [*ANALYSIS, *LAST]),
    (r"tightbatch/analysis/(meter|counting)", ["meter", *LAST]),
    (r"tightbatch/analysis/", [*ANALYSIS, "cli", "cli_commands", *LAST]),
    (r"tightbatch/checks/model", [*MODELS, *LAST]),
    (r"tightbatch/plots/", [*PLOTS, *ANALYSIS[1:], "half_report", *MODELS[:1], *LAST]),
    (r"plan/(partition|difference|exchange|balance)|(wrap_|sampling/)partition", PARTS),
    (r"zigzag", ["zigzag", *LAST]),
    (r"plan/(limit|first_fit|lanes|pair_keys)|py/.*limits|sampling/(limits|rows)", LIMITED),
    (r"plan/(groups|labels)|wrap_groups|plan_arrays|sampling/groups", ["groups", *LAST]),
    (r"sampling/schedule", ["schedule", *PLANS[3:6], *LAST]),
    (r"plan/rectangles|sampling/(pair_)?buckets", ["bucket_pairs", "buckets", *LAST]),
    (r"sampling/(plan_file|saving|saved_packing)", ["saved_plans", "saved_plans_use", *LAST]),
    (
        r"plan/(streaming|neighbours)|wrap_streaming|input/streamed|sampling/stream",
        [*STREAMS, *LAST],
    ),
    (r"core/plan/pool", [*PLANS, *ORDERS, *STREAMS[:2]]),
    (r"core/plan/", [*PLANS, *ORDERS, "groups"]),
    (r"core/arrow/", COLUMNS),
    (r"core/layout/padding_free", BATCHES[6:]),
    (r"core/layout/(pad|mask)\b", PADDING),
    (r"layout/mlm", [HUGGINGFACE[-1], "binding"]),
    (
        r"layout/(tokens|chunks|levels)|wrap_tokens|tightbatch/(tokens|_split|split_report|_mapped)",
        TOKENS,
    ),
    (r"core/layout/", SEGMENTS),
    (r"core/base/sort", [*PLANS[:3], "buckets", "packing", "analyze"]),
    (r"core/base/", [*PADDING[:3], "segments", "half_errors", *PLANS[:3], "buckets", "packing"]),
    (r"py/.*(arrow|ragged)", [*COLUMNS, *DATASETS, *LAST]),
    (r"py/wrap/wrap_(batching|buckets)", [*PLANS, *ORDERS, *LAST]),
    (r"py/input/lengths", [*SEGMENTS, *PLANS[-3:-1], "collate_boundaries", *LAST]),
    (r"py/wrap/wrap_(segment|mask|block_mask)", [*SEGMENTS, *PLANS[-3:-1], *LAST]),
    (r"py/wrap/wrap_mlm", [HUGGINGFACE[-1], *LAST]),
    (r"py/wrap/wrap_(collate|padding_free)|py/output/padding_free", [*BATCHES, *LAST]),
    (r"py/output/column_role", [*ROLES[:3], *BATCHES, *LAST]),
    (r"py/(output/columns|output/width|input/column)", [*BATCHES, *DATASETS, *LAST]),
    (r"py/wrap/wrap_half|py/input/(tensor|array)", [*HALVES, *TENSORS[:1], *LAST, *TENSORS[1:]]),
    (r"py/.*settings", ["segments", *PADDING[:1], *PLANS[:3], *MORE_SETTINGS, *LAST]),
    (r"py/input/(number|list|dtype|rows)", [*PADDING, *NUMBERS, *BATCHES[:2], *LAST]),
    (r"py/", [*PADDING, *BATCHES[:2], "collate_cut", "masks", *NUMBERS, *LAST, "padding_memory"]),
    (r"tightbatch/compare", COMPARE),
    (r"tightbatch/(cli|__main__)", ["cli_errors", "cli_commands", "cli"]),
    (r"tightbatch/amp/", AMP),
    (r"tightbatch/ray/", ["ray"]),
    (r"tightbatch/huggingface/trl", ["huggingface_trl", *LAST]),
    (r"tightbatch/collate/tokenizers", ["huggingface_extractors", *LAST]),
    (r"tightbatch/huggingface/_features", [*HUGGINGFACE, "huggingface_extractors", *LAST]),
    (r"tightbatch/huggingface/trainer", ["huggingface_trainer", *LAST]),
    (r"tightbatch/huggingface/", [*HUGGINGFACE, *LAST]),
    (r"tightbatch/sampling/", [*PLANS, *ORDERS, *LAST]),
    (r"tightbatch/collate/batch_(roles|values)", [*CHECKS, *PLOTS, "meter"]),
    (r"tightbatch/collate/picture", [*PLOTS, *LAST]),
    (r"tightbatch/collate/", [*BATCHES, *ROLES, "dataset", *HUGGINGFACE[:3], *LAST]),
    (r"tightbatch/half/", [*HALVES, *LAST]),
    (r"tightbatch/(masks|padding|_numpy)", [*SEGMENTS, *PADDING, *LAST]),
    (r"tightbatch/", [*COLUMNS, *DATASETS, "collate", *LAST]),
]


def family_of(path):
    """The test files for a change in `path`."""
    names = next(names for pattern, names in FAMILIES if re.search(pattern, path))
    return [f"tests/test_{name}.py" for name in dict.fromkeys(names)]


def families_of(paths):
    """All test files for changes in `paths`."""
    return list(dict.fromkeys(file for path in paths for file in family_of(path)))


# A file, a line of it, what a change makes of the line; and why nobody can notice it.
EQUIVALENT: dict[tuple[str, str, str], str] = {
    (
        "csrc/core/check/scan.c",
        "if (tb_level_used() == TB_LEVEL_AVX512) {",
        "if (!(tb_level_used() == TB_LEVEL_AVX512)) {",
    ): "another instruction set finds the same",
    (
        "csrc/core/plan/cost.c",
        "return a > UINT64_MAX - b ? UINT64_MAX : a + b;",
        "return a >= UINT64_MAX - b ? UINT64_MAX : a + b;",
    ): "where they are equal the sum is the most there is",
    (
        "csrc/core/plan/limit_cut.c",
        "uint64_t mask = ((uint64_t)1 << plan->index_bits) - 1;",
        "uint64_t mask = ((uint64_t)0 << plan->index_bits) - 1;",
    ): "what is fetched ahead is only an advice",
    (
        "csrc/core/cast/cpu.c",
        "(c & 1u << 29) != 0;",
        "(c & 1u << 28) != 0;",
    ): "whatever has AVX2 has both",
    (
        "python/tightbatch/checks/model_run.py",
        "torch.default_generator.manual_seed(self.seed + draw)",
        "torch.default_generator.manual_seed(self.seed - draw)",
    ): "any other seed does",
    (
        "python/tightbatch/collate/padded.py",
        "MOST_PLANS, MOST_KEYS = 64, 4096  # sets of keys, and keys, that are remembered",
        "MOST_PLANS, MOST_KEYS = 63, 4096  # sets of keys, and keys, that are remembered",
    ): "what is forgotten is read again",
    (
        "python/tightbatch/plots/leaks.py",
        "reach = max(3.0, float(np.ceil(finite.max(initial=0))))",
        "reach = max(3.0, float(np.ceil(finite.max(initial=1))))",
    ): "3 is more",
    (
        "csrc/core/layout/segment.c",
        "return left->id < right->id ? -1 : 1;",
        "return left->id < right->id ? -1 : 2;",
    ): "sorting asks for the sign alone",
    (
        "csrc/core/loss/half_loss.c",
        "for (ptrdiff_t i = 0; i < n; i += TB_LOSS_COUNTED) {",
        "for (ptrdiff_t i = 0; i <= n; i += TB_LOSS_COUNTED) {",
    ): "an empty block adds nothing",
    (
        "csrc/core/plan/streaming.c",
        "ptrdiff_t middle = low + (high - low) / 2;",
        "ptrdiff_t middle = low + (high - low) / 3;",
    ): "the search is slower",
    (
        "csrc/core/plan/fairness.h",
        "enum { TB_RANDOM_ROWS = 1 << 20 }; /* more would measure the same */",
        "enum { TB_RANDOM_ROWS = 1 << 21 }; /* more would measure the same */",
    ): "more measure the same",
    (
        "csrc/core/plan/groups.c",
        "if (n > 0 && groups->quotas[k] > 0) {",
        "if (n > 0 || groups->quotas[k] > 0) {",
    ): "no rows are drawn of a group without a quota, which has rows where it has one",
    (
        "csrc/core/loss/levels/half_loss_avx2.c",
        "__m256d bound = _mm256_mul_pd(limit, _mm256_andnot_pd(sign, whole));",
        "__m256d bound = _mm256_mul_pd(limit, _mm256_andnot_pd(whole, sign));",
    ): "blocks are looked at one by one for nothing",
    (
        "csrc/core/cast/half.c",
        "for (ptrdiff_t k = i; found > 0 && k < i + few; k++) {",
        "for (ptrdiff_t k = i; found >= 0 && k < i + few; k++) {",
    ): "looks among numbers of which none overflows",
    (
        "csrc/core/plan/partition.c",
        "*k = at - leaves + 1 > *k ? at - leaves + 1 : *k;",
        "*k = at - leaves + 2 > *k ? at - leaves + 1 : *k;",
    ): "one more only where both are the same number",
    (
        "csrc/py/input/tensor.c",
        "int is_bfloat16 = 0;",
        "int is_bfloat16 = 1;",
    ): "written before it is read",
    (
        "csrc/py/input/list.c",
        "return run;",
        ";",
    ): "what was read is read again, more slowly",
    (
        "csrc/py/input/arrow_column.c",
        "if (chunk.count > PTRDIFF_MAX / 16 - column->count) {",
        "if (chunk.count >= PTRDIFF_MAX / 16 - column->count) {",
    ): "nobody has 2**59 rows",
    (
        "csrc/py/input/tensor.c",
        "if (needed > 0 && (int64_t)((uintptr_t)view->data - first) + needed > held) {",
        "if (needed > 1 && (int64_t)((uintptr_t)view->data - first) + needed > held) {",
    ): "a tensor of floats that is not empty has 2 bytes or more",
    (
        "csrc/py/input/rows.c",
        "view.dtype.descr = NULL;",
        ";",
    ): "all that fills a view writes the whole of it",
    (
        "csrc/core/plan/cost.c",
        "if (length < 1 && !settings->padding_free) {",
        "if (length <= 1 && !settings->padding_free) {",
    ): "1 becomes 1",
    (
        "csrc/py/wrap/wrap_mlm.c",
        "check_plain(&context, args[1], NPY_INT64, args[1]) < 0 ||",
        "check_plain(&context, args[1], NPY_INT64, args[2]) < 0 ||",
    ): "the next line compares the same two",
    (
        "csrc/core/base/stream.c",
        "_mm_sfence();",
        ";",
    ): "orders the writes for other cores, which a test cannot see reliably",
    (
        "csrc/core/plan/packing.c",
        "tree->levels = 1;",
        "tree->levels = 0;",
    ): "the next line makes it 1 at least, as a capacity is",
    (
        "csrc/core/arrow/kind.c",
        'if (strncmp(format, "+s", 2) == 0) {',
        'if (strncmp(format, "+s", 3) == 0) {',
    ): "the format of a struct is these two letters",
    (
        "csrc/core/plan/buckets.c",
        "if (count - 1 == best || from > lines[count - 1].from) {",
        "if (count - 1 == best || from >= lines[count - 1].from) {",
    ): "keeps a line that is best nowhere",
    (
        "csrc/core/cast/half.c",
        "if (stream) {",
        "if (!(stream)) {",
    ): "only the speed is another",
    (
        "csrc/core/cast/levels/half_level.inc.h",
        "step(src + i * size, dst + i * size_out, 1, &top);",
        "step(src + i * size, dst + i * size_out, 0, &top);",
    ): "only the speed is another",
    (
        "python/tightbatch/checks/batch_block_mask.py",
        "key, row, int(query) * blocks.query_size, int(other) * blocks.key_size + far",
        "key, row, int(query) * blocks.query_size, int(other) * blocks.key_size - far",
    ): "where it is not 0, the first token of the next row is seen, which is found before",
    (
        "csrc/core/base/random.h",
        "tb_swap_words(words, n - 1, (size_t)tb_random_below(random, n));",
        "tb_swap_words(words, n - 0, (size_t)tb_random_below(random, n));",
    ): "shuffles more than 2**32 rows: 32 GiB",
    (
        "csrc/core/check/scan.c",
        "enum { BLOCK = 2048, FIRST = 64, FEW = 4 };",
        "enum { BLOCK = 2049, FIRST = 64, FEW = 4 };",
    ): "only the speed is another",
    (
        "python/tightbatch/collate/padded.py",
        "if type(samples) is Samples and samples.size > 0:",
        "if type(samples) is Samples and samples.size > 1:",
    ): "only the speed is another",
    (
        "python/tightbatch/compare/text.py",
        "return names, file.iter_batches(4096, columns=[n for n in names if n in wanted])",
        "return names, file.iter_batches(4095, columns=[n for n in names if n in wanted])",
    ): "only the speed is another",
    (
        "csrc/core/cast/half.c",
        "for (ptrdiff_t i = 0; i < n; i += PART) {",
        "for (ptrdiff_t i = 0; i <= n; i += PART) {",
    ): "the last part is empty",
    (
        "csrc/core/base/size.h",
        "int64_t rest = multiple > 1 ? n % multiple : 0;",
        "int64_t rest = multiple >= 1 ? n % multiple : 0;",
    ): "every number is a multiple of 1",
    (
        "csrc/core/layout/pad.c",
        "own.stream = own.width * position * (own.flat ? 1 : rows->count) >= TB_STREAM_FROM;",
        ";",
    ): "only the speed is another",
    (
        "csrc/py/input/list.c",
        "if (run == 0 && tb_type_is_float(type)) {",
        "if (run != 0 && tb_type_is_float(type)) {",
    ): "only the speed is another",
    (
        "csrc/py/output/padding_free.c",
        ".width = -1, .max_length = -1, .multiple = 1, .flat = 1};",
        ".width = -1, .max_length = -1, .multiple = 0, .flat = 1};",
    ): "every number is a multiple of 1",
    (
        "csrc/py/input/settings.c",
        "if (PyArray_Check(value) || PyArray_CheckScalar(value)) {",
        "if (PyArray_Check(value) && PyArray_CheckScalar(value)) {",
    ): "the way of other objects gives the same answer",
    (
        "csrc/py/wrap/wrap_pad.c",
        "static const tb_pad_options keep_all = {.width = -1, .max_length = -1, .multiple = 1};",
        "static const tb_pad_options keep_all = {.width = -1, .max_length = -1, .multiple = 0};",
    ): "every number is a multiple of 1",
    (
        "csrc/py/output/padding_free.c",
        "char *values = PyMem_Malloc((size_t)of_rows.width * size + 1);",
        "char *values = PyMem_Malloc((size_t)of_rows.width * size + 2);",
    ): "more memory is reserved than is needed",
    (
        "csrc/core/check/batch.c",
        "if (i >= 0 && check->columns[i].form == TB_FORM_LIST) {",
        "if (i > 0 && check->columns[i].form == TB_FORM_LIST) {",
    ): "more memory is reserved than is needed",
    (
        "csrc/core/check/square.c",
        "if (hidden < 0 && shown == begin) {",
        "if (hidden <= 0 && shown == begin) {",
    ): "what is shown is not asked for where the first token is hidden",
    (
        "csrc/core/check/levels/scan.inc.h",
        "for (; i + 2 * LANES <= n; i += 2 * LANES) {",
        "for (; i + 2 * LANES <= n; i += 1 * LANES) {",
    ): "only the speed is another",
    (
        "python/tightbatch/checks/model_rows.py",
        "new: NDArray[Any] = mean + std * generator.standard_normal(old.shape)",
        "new: NDArray[Any] = mean - std * generator.standard_normal(old.shape)",
    ): "the normal distribution is symmetric",
    (
        "csrc/py/wrap/wrap_segment.c",
        "tb_layout layout = {0};",
        "tb_layout layout = {1};",
    ): "tb_lay_out writes all of it",
    (
        "csrc/py/input/floats.c",
        "return low < end && high > begin;",
        "return low < end && high >= begin;",
    ): "neighbours are copied first, to the same result",
    (
        "csrc/py/output/padding_free_plan.c",
        'char tail[160] = "", fix[160] = "";',
        'char tail[159] = "", fix[160] = "";',
    ): "the longest text has 130 characters",
    (
        "csrc/py/wrap/wrap_check.c",
        "for (int d = 1; d < column->ndim; d++) {",
        "for (int d = 1; d <= column->ndim; d++) {",
    ): "an estimate of the work: it says whether other threads may run meanwhile",
    (
        "csrc/py/input/floats.c",
        "return low < end && high > begin;",
        "return low <= end && high > begin;",
    ): "neighbours are copied first, to the same result",
    (
        "csrc/py/output/columns.c",
        "if (PyLong_CheckExact(first) || PyFloat_CheckExact(first) || PyBool_Check(first)) {",
        "if (PyLong_CheckExact(first) && PyFloat_CheckExact(first) || PyBool_Check(first)) {",
    ): "an int is asked for its dtype, and has none",
}
