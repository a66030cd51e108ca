#include "py/base/tb_numpy.h"
#include "py/output/padding_free.h"
#include "py/output/fill.h"
#include "py/output/layout.h"

#include <string.h>

/* --- types ------------------------------------------------------------------------ */

/* A position has one label, a number. */
static int
check_labels(const tb_output *labels)
{
    if (labels->column.ndim > 0) {
        return tb_raise_at(
            &labels->spec.context, PyExc_ValueError, -1, -1,
            "has rows of %d dimensions, expected one label for each token",
            labels->column.ndim + 1);
    }
    return labels->column.dtype.type == TB_NUMPY_ONLY
               ? tb_raise_at(&labels->spec.context, PyExc_TypeError, -1, -1,
                             "dtype %s cannot hold labels; expected an integer type",
                             tb_dtype_name(&labels->column.dtype))
               : 0;
}

/* Whether a column holds labels of language models: each is predicted from the tokens
 * before it. */
static int
is_next_token(tb_column_role role)
{
    return role == TB_ROLE_LABELS || role == TB_ROLE_LABELS_OF_MAIN;
}

/* Labels are int64, as losses need, unless another type is asked for. */
static int
settle_column(tb_padding_free_batch *batch, tb_output *output)
{
    static const tb_dtype int64 = {TB_I64, 8, NULL};
    tb_column_spec *spec = &output->spec;
    int is_label = is_next_token(spec->role);

    if (spec->role == TB_ROLE_LABELS_OF_MAIN) {
        if (spec->dtype.type == TB_NUMPY_ONLY && spec->dtype.item_size > 0) {
            return tb_raise_at(&spec->context, PyExc_TypeError, -1, -1,
                               "dtype=%s; expected an integer type",
                               tb_dtype_name(&spec->dtype));
        }
        output->column.dtype = spec->dtype.item_size > 0 ? spec->dtype : int64;
        return 0;
    }
    if (!tb_role_is_numbers(spec->role) && !tb_moves_segments(batch)) {
        spec->options.max_length = (Py_ssize_t)batch->settings.max_length;
    }
    int answer =
        tb_settle_spec(batch->state, spec, is_label ? &int64 : NULL, &output->column);
    /* Labels that are kept may be floats; those that are not become int64 as well. */
    if (answer == 0 && spec->role == TB_ROLE_LABELS_KEPT &&
        spec->dtype.item_size == 0 && !output->column.provisional &&
        tb_type_is_integer(output->column.dtype.type)) {
        return tb_settle_spec(batch->state, spec, &int64, &output->column);
    }
    return answer == 0 && is_label ? check_labels(output) : answer;
}

/* --- laid out --------------------------------------------------------------------- */

static int
lay_out_rows(const tb_padding_free_batch *batch, tb_output *output)
{
    tb_pad_options options = output->spec.options;
    ptrdiff_t width = batch->plan.width;

    options.width = width;
    if (tb_moves_segments(batch)) { /* more may be read than kept */
        options.width = -1;
        if (tb_lay_out(&output->column, &options, &output->layout) < 0) {
            return -1;
        }
        options.width = output->layout.width > width ? output->layout.width : width;
    }
    if (tb_lay_out(&output->column, &options, &output->layout) < 0) {
        return -1;
    }
    output->layout.width = width;
    output->layout.row_multiple = (ptrdiff_t)batch->plan.segment_multiple;
    return 0;
}

/* Labels that are made from the main column have its layout, but not its type. */
static int
lay_out_labels_of_main(const tb_output *main, tb_output *output)
{
    tb_type type = main->column.dtype.type;

    if (!(tb_type_is_integer(type) || type == TB_BOOL) || main->column.ndim > 0) {
        return tb_raise_at(&output->spec.context, PyExc_TypeError, -1, -1,
                           "cannot be made from key %R, which does not hold token ids; "
                           "add the column, or pass return_labels=False",
                           main->spec.context.key);
    }
    output->layout = main->layout;
    output->layout.type = output->column.dtype.type;
    output->layout.item_size = output->column.dtype.item_size;
    return 0;
}

static int
lay_out_column(tb_padding_free_batch *batch, Py_ssize_t k)
{
    tb_output *output = &batch->outputs[k];
    tb_column_role role = output->spec.role;
    int answer, is_label = is_next_token(role) || role == TB_ROLE_LABELS_KEPT;

    if (tb_settle_widened(batch->state, &output->spec, &output->column) < 0) {
        return -1;
    }
    if (tb_role_is_numbers(role)) {
        answer = tb_lay_out(&output->column, &output->spec.options, &output->layout);
        if (answer < 0 || role == TB_ROLE_NUMBERS) {
            return answer;
        }
        output->layout.width = batch->plan.entries;
        /* No fill is read where each entry has a row: bools have none. */
        return batch->plan.entries == batch->plan.segments - batch->plan.tails
                   ? 0
                   : tb_read_fill(batch->state, &output->spec.context,
                                  output->spec.padding_value, &output->column.dtype,
                                  output->layout.fill);
    }
    answer = role == TB_ROLE_LABELS_OF_MAIN
                 ? lay_out_labels_of_main(&batch->outputs[batch->main], output)
                 : lay_out_rows(batch, output);
    if (answer < 0 || !(is_label || tb_moves_segments(batch) ||
                        tb_needs_fill(&output->column, &output->layout))) {
        return answer;
    }
    return tb_read_fill(batch->state, &output->spec.context, output->spec.padding_value,
                        &output->column.dtype, output->layout.fill);
}

static void
lay_out_extra(tb_padding_free_batch *batch, Py_ssize_t k)
{
    tb_output *output = &batch->outputs[k];
    const tb_padding_free *plan = &batch->plan;
    tb_padding_free_extra extra = batch->extras[k - batch->columns];
    int is_int64 = extra == TB_POSITION_IDS || extra == TB_ROW_IDX;

    if (extra == TB_SHIFT_LABELS) {
        const tb_output *labels = &batch->outputs[batch->labels];
        output->kind = TB_OUTPUT_COLUMN;
        output->layout = labels->layout;
        output->column.dtype = labels->column.dtype; /* never TB_NUMPY_ONLY */
        return;
    }
    output->kind = TB_OUTPUT_PLANNED;
    output->layout.type = is_int64 ? TB_I64 : TB_I32;
    output->layout.item_size = is_int64 ? 8 : 4;
    if (extra == TB_POSITION_IDS || extra == TB_SEQ_IDX) {
        output->ndim = 2;
        output->dims[0] = 1;
        output->dims[1] = plan->width;
    }
    else {
        output->ndim = 1;
        output->dims[0] = plan->entries + (extra != TB_ROW_IDX);
    }
}

/* --- filled ----------------------------------------------------------------------- */

static PyThreadState *
release_gil(const tb_padding_free_batch *batch)
{
    return tb_release_gil(batch->plan.width * 8);
}

/* Moves segments that lie at `values` one after another to their positions in `out`. */
static int
move_segments(const tb_padding_free_batch *batch, tb_layout *layout, const char *values,
              void *out)
{
    const tb_padding_free *plan = &batch->plan;
    ptrdiff_t position = layout->trailing * layout->item_size;
    const void **segments = PyMem_Malloc(((size_t)plan->count + 1) * sizeof *segments);
    tb_error error;

    if (segments == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (ptrdiff_t i = 0; i < plan->count; i++) {
        segments[i] = values;
        values += plan->lengths[i] * position;
    }
    tb_rows rows = {plan->count, segments, plan->lengths, NULL};
    layout->max_length = (ptrdiff_t)plan->max_length;
    layout->cut_left = batch->settings.truncation_side;
    PyThreadState *saved = release_gil(batch);
    tb_fill_tail(layout, plan->used, out);
    tb_status status = tb_pad_rows(&rows, layout, out, &error);
    tb_restore_gil(saved);
    PyMem_Free((void *)(uintptr_t)segments);
    if (status != TB_OK) { /* nothing is converted here, so nothing can fail */
        PyErr_BadInternalCall();
        return -1;
    }
    return 0;
}

/* Rows that are packs whose segments move apart: whole rows are read first, and then
 * what is kept of each segment is moved to its position. */
static tb_read
fill_packs(tb_padding_free_batch *batch, tb_output *output, void *out)
{
    const tb_pad_options options = {
        .width = -1, .max_length = -1, .multiple = 1, .flat = 1};
    tb_layout whole;

    if (tb_lay_out(&output->column, &options, &whole) < 0) {
        return TB_READ_ERROR;
    }
    ptrdiff_t bytes = whole.width * whole.trailing * whole.item_size;
    char *values = PyMem_Malloc((size_t)bytes + 1);
    if (values == NULL) {
        PyErr_NoMemory();
        return TB_READ_ERROR;
    }
    tb_read read = tb_fill_rows(batch->state, &output->column, &whole, values);
    if (read == TB_READ_DONE &&
        move_segments(batch, &output->layout, values, out) < 0) {
        read = TB_READ_ERROR;
    }
    PyMem_Free(values);
    return read;
}

/* One label for each segment, that of its row, and the fill for every other. */
static tb_read
fill_row_labels(tb_padding_free_batch *batch, tb_output *output, char *out)
{
    const size_t size = (size_t)output->layout.item_size;
    const size_t entries = (size_t)batch->plan.entries;
    tb_layout of_rows;

    if (tb_lay_out(&output->column, &output->spec.options, &of_rows) < 0) {
        return TB_READ_ERROR;
    }
    char *values = PyMem_Malloc((size_t)of_rows.width * size + 1);
    int64_t *rows = PyMem_Malloc((entries + 1) * sizeof *rows);
    tb_read read = TB_READ_ERROR;
    if (values == NULL || rows == NULL) {
        PyErr_NoMemory();
    }
    else {
        read = tb_fill_rows(batch->state, &output->column, &of_rows, values);
    }
    if (read == TB_READ_DONE) {
        tb_write_row_idx(&batch->plan, batch->segment_rows, rows);
        for (size_t k = 0; k < entries; k++) {
            const void *label = rows[k] < 0
                                    ? (const void *)output->layout.fill
                                    : (const void *)(values + (size_t)rows[k] * size);
            memcpy(out + k * size, label, size);
        }
    }
    PyMem_Free(values);
    PyMem_Free(rows);
    return read;
}

/* Raises for an id that the labels' type cannot hold. */
static tb_read
refuse_label(tb_padding_free_batch *batch, tb_output *labels, tb_status status,
             const tb_error *error)
{
    const ptrdiff_t *rows = batch->segment_rows;
    PyArrayObject *ids = batch->outputs[batch->main].out;
    PyObject *value =
        PyArray_GETITEM(ids, PyArray_BYTES(ids) + (error->value + error->column) *
                                                      PyArray_ITEMSIZE(ids));

    if (value != NULL) {
        tb_raise_value(&labels->spec.context, status,
                       rows == NULL ? error->row : rows[error->row],
                       rows == NULL ? error->column : -1, value, &labels->column.dtype);
        Py_DECREF(value);
    }
    return TB_READ_ERROR;
}

static tb_read
fill_labels_of_main(tb_padding_free_batch *batch, tb_output *labels, void *out)
{
    const tb_output *main = &batch->outputs[batch->main];
    tb_error error;
    PyThreadState *saved = release_gil(batch);
    tb_status status =
        tb_label_segments(&batch->plan, main->layout.type, PyArray_DATA(main->out),
                          labels->layout.type, labels->layout.fill, out, &error);

    tb_restore_gil(saved);
    return status == TB_OK ? TB_READ_DONE : refuse_label(batch, labels, status, &error);
}

static tb_read
fill_column(tb_padding_free_batch *batch, Py_ssize_t k)
{
    tb_output *output = &batch->outputs[k];
    void *out = PyArray_DATA(output->out);
    tb_column_role role = output->spec.role;

    if (role == TB_ROLE_LABELS_OF_MAIN) {
        return fill_labels_of_main(batch, output, out);
    }
    if (role == TB_ROLE_ROW_LABELS) {
        return fill_row_labels(batch, output, out);
    }
    tb_read read =
        role != TB_ROLE_NUMBERS && tb_moves_segments(batch)
            ? fill_packs(batch, output, out)
            : tb_fill_rows(batch->state, &output->column, &output->layout, out);
    if (role == TB_ROLE_LABELS && read == TB_READ_DONE) {
        tb_mark_first_tokens(&batch->plan, output->layout.item_size,
                             output->layout.fill, out);
    }
    return read;
}

/* A segment begins with an ignored label. So, shifted, the one before ends with it. */
static void
shift_labels(const tb_padding_free_batch *batch, char *out)
{
    const tb_output *labels = &batch->outputs[batch->labels];
    size_t size = (size_t)labels->layout.item_size;
    size_t rest = (size_t)batch->plan.width * size;

    if (rest > 0) {
        rest -= size;
        memcpy(out, (const char *)PyArray_DATA(labels->out) + size, rest);
        memcpy(out + rest, labels->layout.fill, size);
    }
}

/* Made from lengths and from finished columns; no Python object is read. */
static void
fill_extra(const tb_padding_free_batch *batch, Py_ssize_t k)
{
    const tb_padding_free *plan = &batch->plan;
    void *out = PyArray_DATA(batch->outputs[k].out);

    switch (batch->extras[k - batch->columns]) {
        case TB_SHIFT_LABELS:
            shift_labels(batch, (char *)out);
            break;
        case TB_POSITION_IDS:
            tb_write_position_ids(plan, batch->settings.position_ids_start,
                                  (int64_t *)out);
            break;
        case TB_SEQ_IDX:
            tb_write_seq_idx(plan, (int32_t *)out);
            break;
        case TB_CU_SEQLENS:
            tb_write_cu_seqlens(plan, 0, (int32_t *)out);
            break;
        case TB_CU_SEQLENS_TOKENS:
            tb_write_cu_seqlens(plan, 1, (int32_t *)out);
            break;
        case TB_ROW_IDX:
            tb_write_row_idx(plan, batch->segment_rows, (int64_t *)out);
            break;
    }
}

static tb_read
fill_batch(tb_padding_free_batch *batch)
{
    /* Labels may be made from the main column, so it comes first. */
    tb_read read = fill_column(batch, batch->main);

    for (Py_ssize_t k = 0; k < batch->columns && read == TB_READ_DONE; k++) {
        read = k == batch->main ? read : fill_column(batch, k);
    }
    if (read != TB_READ_DONE) {
        return read;
    }
    PyThreadState *saved = release_gil(batch);
    for (Py_ssize_t k = batch->columns; k < batch->count; k++) {
        fill_extra(batch, k);
    }
    tb_restore_gil(saved);
    return TB_READ_DONE;
}

static int
lay_out_batch(tb_padding_free_batch *batch)
{
    if (lay_out_column(batch, batch->main) < 0) {
        return -1;
    }
    for (Py_ssize_t k = 0; k < batch->columns; k++) {
        if (k != batch->main && lay_out_column(batch, k) < 0) {
            return -1;
        }
    }
    for (Py_ssize_t k = batch->columns; k < batch->count; k++) {
        lay_out_extra(batch, k);
    }
    return 0;
}

int
tb_run_batch(tb_padding_free_batch *batch, PyObject *allocate, int as_tensors)
{
    tb_read read;

    for (Py_ssize_t k = 0; k < batch->columns; k++) {
        if (settle_column(batch, &batch->outputs[k]) < 0) {
            return -1;
        }
    }
    do {
        for (Py_ssize_t k = 0; k < batch->count; k++) {
            Py_CLEAR(batch->outputs[k].out);
        }
        if (lay_out_batch(batch) < 0 ||
            tb_allocate_outputs(batch->state, batch->outputs, batch->count, allocate,
                                as_tensors) < 0) {
            return -1;
        }
        read = fill_batch(batch);
    } while (read == TB_READ_WIDEN);
    return read == TB_READ_DONE ? 0 : -1;
}

void
tb_clear_batch(tb_padding_free_batch *batch)
{
    for (Py_ssize_t k = 0; batch->outputs != NULL && k < batch->count; k++) {
        tb_clear_output(&batch->outputs[k]);
    }
    tb_clear_output(&batch->mask);
    tb_clear_output(&batch->segments);
    PyMem_Free(batch->outputs);
    PyMem_Free(batch->extras);
    PyMem_Free(batch->segment_rows);
    tb_clear_int_rows(&batch->segment_lengths);
}
