/* The plan of a padding-free batch, before anything is laid out: settings, masks that
 * must be ones, the segments of packs, and where each segment goes. */
#include "py/base/tb_numpy.h"
#include "py/output/padding_free.h"

#include <stdio.h>

/* --- settings --------------------------------------------------------------------- */

#define FIELD(name) #name, TB_SETTING_INT, offsetof(tb_padding_free_settings, name)
#define CHOICE(name) #name, TB_SETTING_CHOICE, offsetof(tb_padding_free_settings, name)
#define FLAG(name) #name, TB_SETTING_FLAG, offsetof(tb_padding_free_settings, name)
#define MOST ((int64_t)1 << 62) /* rounding up and adding do not overflow */

static const tb_setting settings_table[] = {
    {FIELD(max_tokens), 1, MOST, -1, NULL},
    {FIELD(max_segments), 1, INT32_MAX - 1, -1, NULL},
    {FIELD(max_seqlen), 1, MOST, -1, NULL},
    {FIELD(pad_to_multiple_of), 1, MOST, 1, NULL},
    {FIELD(segment_multiple_of), 1, MOST, 1, NULL},
    {FIELD(max_length), 1, MOST, -1, NULL},
    {FIELD(position_ids_start), 0, MOST, TB_REQUIRED, NULL},
    {CHOICE(truncation_side), 0, 0, 0, tb_sides},
    {FLAG(return_num_items), 0, 0, 0, NULL},
};

/* The padding after the last segment must be a multiple too. */
static int
check_multiple(const tb_context *context, const char *name, int64_t size,
               const char *multiple_name, int64_t multiple)
{
    return size <= 1 || size % multiple == 0
               ? 0
               : tb_raise_at(context, PyExc_ValueError, -1, -1,
                             "%s=%lld is not a multiple of %s=%lld", name,
                             (long long)size, multiple_name, (long long)multiple);
}

int
tb_read_padding_free_settings(const tb_context *context, PyObject *mapping,
                              tb_padding_free_settings *settings)
{
    const size_t count = sizeof settings_table / sizeof *settings_table;
    const char *row = "pad_to_multiple_of", *segment = "segment_multiple_of";

    if (tb_read_settings(context, settings_table, count, mapping, settings) < 0) {
        return -1;
    }
    int64_t tokens = settings->max_tokens, of_row = settings->pad_to_multiple_of;
    int64_t of_segment = settings->segment_multiple_of;
    if (check_multiple(context, row, of_row, segment, of_segment) < 0 ||
        check_multiple(context, "max_tokens", tokens, segment, of_segment) < 0 ||
        check_multiple(context, "max_tokens", tokens, row, of_row) < 0) {
        return -1;
    }
    return 0;
}

/* --- masks ------------------------------------------------------------------------ */

/* Whether all items are True or the int object 1, of which CPython has only one. For
 * the masks of tokenizers it is enough to compare addresses, and no code can run. */
static int
has_only_known_ones(PyObject *list, ptrdiff_t n)
{
    PyObject *one = PyLong_FromLong(1);
    int found = 0;

    TB_BEGIN_CRITICAL_SECTION(list);
    if (one != NULL && tb_list_size(list) == n) {
        PyObject *const *items = tb_list_items(list);
        found = 1;
        for (ptrdiff_t i = 0; i < n; i++) {
            found &= items[i] == one || items[i] == Py_True;
        }
    }
    TB_END_CRITICAL_SECTION();
    PyErr_Clear();
    Py_XDECREF(one);
    return found;
}

/* Whether row i of the mask, a list, holds only ones: 0 with *at set if not. */
static int
list_is_ones(tb_state *state, tb_column *mask, ptrdiff_t i, ptrdiff_t *at)
{
    ptrdiff_t n = mask->lengths[i];
    double *values = PyMem_Malloc((size_t)(n > 0 ? n : 1) * sizeof *values);
    tb_list_reader reader = {.state = state,
                             .context = &mask->context,
                             .dtype = {TB_F64, 8, NULL}, /* holds any one */
                             .row = i};

    if (values == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    tb_read read =
        tb_read_list(&reader, (PyObject *)(uintptr_t)mask->data[i], n, 0, n, values);
    *at = read == TB_READ_DONE ? tb_find_not_one(TB_F64, values, n) : 0;
    PyMem_Free(values);
    return read == TB_READ_DONE ? *at == n : -1;
}

static int
refuse_mask(tb_state *state, tb_column *mask)
{
    if (mask->ndim > 0) {
        return tb_raise_at(&mask->context, PyExc_ValueError, -1, -1,
                           "has rows of %d dimensions, but a padding-free batch has no "
                           "mask; expected one value for each token, or no such column",
                           mask->ndim + 1);
    }
    for (ptrdiff_t i = 0; i < mask->count; i++) {
        ptrdiff_t n = mask->lengths[i], at = n;
        int ones = 1;
        if (mask->types[i] == TB_LIST) {
            if (has_only_known_ones((PyObject *)(uintptr_t)mask->data[i], n)) {
                continue;
            }
            ones = list_is_ones(state, mask, i, &at);
        }
        else if (n > 0 && mask->types[i] > TB_F64) {
            return tb_raise_at(&mask->context, PyExc_TypeError, i, -1,
                               "found a mask of another type; expected integers, "
                               "bools, float32 or float64");
        }
        else if (n > 0) {
            if (tb_verify_rows(mask) < 0) {
                return -1;
            }
            at = tb_find_not_one((tb_type)mask->types[i], mask->data[i], n);
            ones = at == n;
        }
        if (ones <= 0) {
            return ones < 0 ? -1
                            : tb_raise_at(&mask->context, PyExc_ValueError, i, at,
                                          "is not 1, but a padding-free batch has no "
                                          "mask, so models would attend to this token; "
                                          "remove padding from the samples first");
        }
    }
    return 0;
}

/* --- columns ---------------------------------------------------------------------- */

/* Checks that the lengths of row i's segments add up to the row's length. */
static int
check_segments(const tb_column *main, const tb_column *segments, ptrdiff_t i,
               const int64_t *lengths)
{
    int64_t left = main->lengths[i];

    for (ptrdiff_t j = 0; j < segments->lengths[i]; j++) {
        if (lengths[j] < 0) {
            return tb_raise_at(&segments->context, PyExc_ValueError, i, j,
                               "is %lld; expected the length of a segment",
                               (long long)lengths[j]);
        }
        if (lengths[j] > left) {
            return tb_raise_at(&segments->context, PyExc_ValueError, i, j,
                               "the lengths up to this one add up to more than the %zd "
                               "tokens that key %R has in this row",
                               (Py_ssize_t)main->lengths[i], main->context.key);
        }
        left -= lengths[j];
    }
    return left == 0 ? 0
                     : tb_raise_at(&segments->context, PyExc_ValueError, i, -1,
                                   "sums to %zd, but key %R has %zd tokens in this row",
                                   (Py_ssize_t)(main->lengths[i] - left),
                                   main->context.key, (Py_ssize_t)main->lengths[i]);
}

/* Reads the lengths of the segments that make up each row. */
static int
read_segments(tb_padding_free_batch *batch, tb_column *segments)
{
    const tb_column *main = &batch->outputs[batch->main].column;
    tb_int_rows *rows = &batch->segment_lengths;

    if (segments->ndim > 0 || segments->count != main->count) {
        return tb_raise_at(&segments->context, PyExc_ValueError, -1, -1,
                           "expected a list of lengths for each row");
    }
    if (tb_read_int_column(batch->state, segments, rows) < 0) {
        return -1;
    }
    const int64_t *lengths = tb_int_values(rows);
    npy_intp count = PyArray_SIZE(rows->values);
    batch->segment_rows =
        PyMem_Malloc(((size_t)count + 1) * sizeof *batch->segment_rows);
    if (batch->segment_rows == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    ptrdiff_t at = 0;
    for (ptrdiff_t i = 0; i < segments->count; i++) {
        if (check_segments(main, segments, i, lengths + at) < 0) {
            return -1;
        }
        for (ptrdiff_t j = 0; j < segments->lengths[i]; j++) {
            batch->segment_rows[at++] = i;
        }
    }
    batch->plan.count = count;
    batch->plan.lengths = (const ptrdiff_t *)lengths;
    return 0;
}

/* Reads one spec into the place for its role. */
static int
read_spec(tb_padding_free_batch *batch, PyObject *given)
{
    const tb_pad_options sides = {.cut_left = batch->settings.truncation_side,
                                  .flat = 1};
    tb_output *output = &batch->outputs[batch->columns];

    if (tb_read_column_spec(batch->state, &batch->context, &sides, given,
                            &output->spec) < 0) {
        return -1;
    }
    switch (output->spec.role) {
        case TB_ROLE_MASK:
            batch->mask.spec = output->spec;
            output->spec = (tb_column_spec){0};
            return tb_survey_spec(batch->state, &batch->mask.spec, &batch->mask.column);
        case TB_ROLE_SEGMENTS:
            batch->segments.spec = output->spec;
            output->spec = (tb_column_spec){0};
            return tb_survey_spec(batch->state, &batch->segments.spec,
                                  &batch->segments.column);
        case TB_ROLE_LABELS_OF_MAIN:
            batch->labels = batch->columns++;
            output->column.context = output->spec.context;
            return 0;
        case TB_ROLE_LABELS:
        case TB_ROLE_LABELS_KEPT:
            batch->labels = batch->columns++;
            break;
        case TB_ROLE_MAIN:
            batch->main = batch->columns++;
            break;
        default:
            batch->columns++;
            break;
    }
    return tb_survey_spec(batch->state, &output->spec, &output->column);
}

int
tb_read_padding_free_columns(tb_padding_free_batch *batch, PyObject *specs)
{
    batch->main = batch->labels = -1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(specs); i++) {
        if (read_spec(batch, PyList_GET_ITEM(specs, i)) < 0) {
            return -1;
        }
    }
    if (batch->main < 0) {
        return tb_raise_at(&batch->context, PyExc_TypeError, -1, -1,
                           "there is no main column");
    }
    const tb_column *main = &batch->outputs[batch->main].column;
    for (Py_ssize_t k = 0; k < batch->columns; k++) {
        tb_column_role role = batch->outputs[k].spec.role;
        if (!tb_role_is_numbers(role) && role != TB_ROLE_LABELS_OF_MAIN &&
            tb_check_per_token(&batch->outputs[k].column, main) < 0) {
            return -1;
        }
    }
    if (batch->mask.spec.rows != NULL &&
        (tb_check_per_token(&batch->mask.column, main) < 0 ||
         refuse_mask(batch->state, &batch->mask.column) < 0)) {
        return -1;
    }
    batch->plan.count = main->count;
    batch->plan.lengths = main->lengths;
    return batch->segments.spec.rows != NULL
               ? read_segments(batch, &batch->segments.column)
               : 0;
}

/* --- the plan --------------------------------------------------------------------- */

static int
refuse_plan(const tb_padding_free_batch *batch, tb_status status, const tb_error *error)
{
    tb_context context = batch->context;

    context.rows = batch->segment_rows;
    if (status == TB_ERR_TOO_LONG) {
        return tb_raise_at(&context, PyExc_ValueError, error->row, -1,
                           "with this row the batch has %zd positions, more than "
                           "max_tokens=%zd; a LengthBatchSampler with max_tokens= and "
                           "padding_free=True makes batches that fit",
                           (Py_ssize_t)error->value,
                           (Py_ssize_t)batch->plan.max_tokens);
    }
    return tb_raise_at(
        &context, PyExc_ValueError, error->row, -1,
        "with this row the batch has more positions than can be addressed");
}

/* Refuses more or longer segments than the settings allow. */
static int
check_plan(const tb_padding_free_batch *batch)
{
    const tb_padding_free *plan = &batch->plan;
    const tb_padding_free_settings *settings = &batch->settings;

    if (plan->max_segments >= 0 && plan->segments > plan->max_segments) {
        char tail[160] = "", fix[160] = "";
        if (plan->tails > 0) {
            snprintf(tail, sizeof tail,
                     " (the padded tail of %zd positions takes %zd, as none is to be "
                     "longer than %zd)",
                     (Py_ssize_t)tb_tail(plan), (Py_ssize_t)plan->tails,
                     (Py_ssize_t)plan->piece);
            snprintf(fix, sizeof fix,
                     "; pass max_segments=%zd or more, or a %smax_length=",
                     (Py_ssize_t)plan->segments, plan->max_tail > 0 ? "larger " : "");
        }
        return tb_raise_at(&batch->context, PyExc_ValueError, -1, -1,
                           "the batch has %zd segments%s, more than max_segments=%zd%s",
                           (Py_ssize_t)plan->segments, tail,
                           (Py_ssize_t)plan->max_segments, fix);
    }
    if (settings->max_seqlen >= 0 && plan->longest > settings->max_seqlen) {
        return tb_raise_at(
            &batch->context, PyExc_ValueError, -1, -1,
            "the longest segment has %zd positions, more than max_seqlen=%zd",
            (Py_ssize_t)plan->longest, (Py_ssize_t)settings->max_seqlen);
    }
    if (plan->width > INT32_MAX) {
        return tb_raise_at(&batch->context, PyExc_OverflowError, -1, -1,
                           "%zd positions are more than cu_seqlens (int32) can count",
                           (Py_ssize_t)plan->width);
    }
    return 0;
}

int
tb_plan_batch(tb_padding_free_batch *batch)
{
    const tb_padding_free_settings *settings = &batch->settings;
    tb_padding_free *plan = &batch->plan;
    tb_error error;

    plan->max_length = settings->max_length < 0 ? INT64_MAX : settings->max_length;
    plan->segment_multiple = settings->segment_multiple_of;
    plan->width_multiple = settings->pad_to_multiple_of;
    plan->max_tokens = settings->max_tokens;
    plan->max_segments = settings->max_segments;
    /* Without a limit the tail gets no position that the rows do not have. */
    plan->max_tail = tb_min(
        plan->max_length, settings->max_seqlen < 0 ? INT64_MAX : settings->max_seqlen);
    plan->max_tail = plan->max_tail == INT64_MAX ? 0 : plan->max_tail;
    plan->keep_empty = settings->keep_empty;
    tb_status status = tb_plan_padding_free(plan, &error);
    if (status != TB_OK) {
        return refuse_plan(batch, status, &error);
    }
    if (plan->width == 0 && !plan->keep_empty) {
        return tb_raise_at(&batch->context, PyExc_ValueError, -1, -1,
                           "no row of the batch has a token, expected at least one; "
                           "filter empty rows out");
    }
    return check_plan(batch);
}
