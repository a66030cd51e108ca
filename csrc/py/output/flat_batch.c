#include "py/base/tb_numpy.h"
#include "py/output/flat_batch.h"

#include <string.h>

/* --- laid out ------------------------------------------------------------------- */

static int
lay_out_rows(const tb_flat_batch *batch, tb_job *job)
{
    ptrdiff_t width = batch->flat.width;

    job->options.width = width;
    if (tb_in_parts(batch)) { /* more may be read than is kept */
        job->options.width = -1;
        if (tb_lay_out(&job->column, &job->options, &job->layout) < 0) {
            return -1;
        }
        job->options.width = job->layout.width > width ? job->layout.width : width;
    }
    if (tb_lay_out(&job->column, &job->options, &job->layout) < 0) {
        return -1;
    }
    job->layout.width = width;
    return 0;
}

static int
lay_out_column(tb_flat_batch *batch, Py_ssize_t k)
{
    tb_job *job = &batch->jobs[k];
    const tb_job *main = &batch->jobs[batch->main];

    if (batch->roles[k] == NUMBERS) {
        return tb_lay_out(&job->column, &job->options, &job->layout);
    }
    if (batch->roles[k] == OF_MAIN) {
        tb_type type = main->column.dtype.type;
        if (!(tb_type_is_integer(type) || type == TB_BOOL) || main->column.ndim > 0) {
            return tb_raise_at(
                &job->column.context, PyExc_TypeError, -1, -1,
                "cannot be made of key %R, which holds no token ids; add "
                "the column, or return_labels=False",
                main->column.context.key);
        }
        job->layout = main->layout;
        job->layout.type = job->column.dtype.type;
        job->layout.item_size = job->column.dtype.item_size;
    }
    else {
        if (lay_out_rows(batch, job) < 0) {
            return -1;
        }
        job->layout.row_multiple = batch->flat.piece_multiple;
    }
    if (batch->roles[k] == ROWS && !tb_in_parts(batch) &&
        !tb_needs_fill(&job->column, &job->layout)) {
        return 0;
    }
    return tb_read_fill(batch->state, &job->column.context, job->padding_value,
                        &job->column.dtype, job->layout.fill);
}

static void
lay_out_extra(tb_flat_batch *batch, Py_ssize_t k)
{
    tb_job *job = &batch->jobs[k];
    const tb_flat *flat = &batch->flat;
    tb_flat_extra extra = (tb_flat_extra)batch->roles[k];
    int is_int64 = extra == PLACES || extra == TRACES;

    if (extra == SHIFTED) {
        const tb_job *labels = &batch->jobs[batch->labels];
        job->kind = COLUMN;
        job->layout = labels->layout;
        Py_XINCREF((PyObject *)labels->column.dtype.descr);
        Py_XDECREF((PyObject *)job->column.dtype.descr);
        job->column.dtype = labels->column.dtype;
        return;
    }
    job->kind = MADE;
    job->layout.type = is_int64 ? TB_I64 : TB_I32;
    job->layout.item_size = is_int64 ? 8 : 4;
    if (extra == PLACES || extra == SEQUENCES) {
        job->ndim = 2;
        job->dims[0] = 1;
        job->dims[1] = flat->width;
    }
    else {
        job->ndim = 1;
        job->dims[0] = flat->entries + (extra != TRACES);
    }
}

/* --- filled --------------------------------------------------------------------- */

/* Without the GIL, where there is enough to do; NULL: there is not. */
static PyThreadState *
let_others_run(const tb_flat_batch *batch)
{
    return batch->flat.width < TB_WORTH_RELEASING / 8 ? NULL : PyEval_SaveThread();
}

static void
take_turn_again(PyThreadState *saved)
{
    if (saved != NULL) {
        PyEval_RestoreThread(saved);
    }
}

/* Rows that are packs, cut or padded inside: all that they hold is read as it stands,
 * and what is kept of each piece is moved from there. */
static tb_read
fill_parts(tb_flat_batch *batch, tb_job *job, void *out)
{
    const tb_flat *flat = &batch->flat;
    ptrdiff_t position = job->layout.trailing * job->layout.item_size, at = 0;
    tb_pad_options options = {.width = -1, .max_length = -1, .multiple = 1, .flat = 1};
    tb_layout whole;
    tb_error error;
    tb_status status;
    tb_read read = TB_READ_ERROR;
    char *values = NULL;
    const void **pieces = NULL;

    if (tb_lay_out(&job->column, &options, &whole) < 0) {
        return TB_READ_ERROR;
    }
    values = PyMem_Malloc((size_t)(whole.width * position) + 1);
    pieces = PyMem_Malloc(((size_t)flat->pieces + 1) * sizeof *pieces);
    if (values == NULL || pieces == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    read = tb_fill_rows(batch->state, &job->column, &whole, values);
    if (read != TB_READ_DONE) {
        goto done;
    }
    for (ptrdiff_t i = 0; i < flat->pieces; i++) {
        pieces[i] = values + at * position;
        at += flat->lengths[i];
    }
    tb_rows rows = {flat->pieces, pieces, flat->lengths, NULL};
    job->layout.max_length = flat->max_length;
    job->layout.cut_left = batch->cut_left;
    PyThreadState *saved = let_others_run(batch);
    tb_fill_tail(&job->layout, flat->used, out);
    status = tb_pad_rows(&rows, &job->layout, out, &error);
    take_turn_again(saved);
    if (status != TB_OK) { /* nothing is converted here that could fail */
        PyErr_BadInternalCall();
        read = TB_READ_ERROR;
    }
done:
    PyMem_Free(values);
    PyMem_Free((void *)(uintptr_t)pieces);
    return read;
}

/* An id that the labels' type does not hold. */
static tb_read
refuse_label(tb_flat_batch *batch, tb_job *job, tb_status status, const tb_error *error)
{
    const ptrdiff_t *rows = batch->piece_rows;
    tb_context context = job->column.context;
    PyArrayObject *ids = batch->jobs[batch->main].out;
    PyObject *value =
        PyArray_GETITEM(ids, PyArray_BYTES(ids) + (error->value + error->column) *
                                                      PyArray_ITEMSIZE(ids));

    if (value != NULL) {
        tb_raise_value(&context, status, rows == NULL ? error->row : rows[error->row],
                       rows == NULL ? error->column : -1, value, &job->column.dtype);
        Py_DECREF(value);
    }
    return TB_READ_ERROR;
}

static tb_read
fill_column(tb_flat_batch *batch, Py_ssize_t k)
{
    tb_job *job = &batch->jobs[k];
    const tb_job *main = &batch->jobs[batch->main];
    void *out = PyArray_DATA(job->out);
    tb_flat_role role = (tb_flat_role)batch->roles[k];
    tb_error error;

    if (role == OF_MAIN) {
        PyThreadState *saved = let_others_run(batch);
        tb_status status =
            tb_label_sequences(&batch->flat, main->layout.type, PyArray_DATA(main->out),
                               job->layout.type, job->layout.fill, out, &error);
        take_turn_again(saved);
        return status == TB_OK ? TB_READ_DONE
                               : refuse_label(batch, job, status, &error);
    }
    tb_read read = role != NUMBERS && tb_in_parts(batch)
                       ? fill_parts(batch, job, out)
                       : tb_fill_rows(batch->state, &job->column, &job->layout, out);
    if (role == LABELS && read == TB_READ_DONE) {
        tb_mark_starts(&batch->flat, job->layout.item_size, job->layout.fill, out);
    }
    return read;
}

/* Made of lengths and of columns that are there: nothing of Python is looked at. */
static void
fill_extra(const tb_flat_batch *batch, Py_ssize_t k)
{
    const tb_flat *flat = &batch->flat;
    void *out = PyArray_DATA(batch->jobs[k].out);

    switch ((tb_flat_extra)batch->roles[k]) {
        case SHIFTED: {
            /* A sequence begins with an ignored label, and so the one before ends with
             * one. */
            const tb_job *labels = &batch->jobs[batch->labels];
            const char *from = (const char *)PyArray_DATA(labels->out);
            size_t size = (size_t)labels->layout.item_size;
            size_t rest = (size_t)(flat->width - 1) * size;
            memcpy(out, from + size, rest);
            memcpy((char *)out + rest, labels->layout.fill, size);
            break;
        }
        case PLACES:
            tb_number_positions(flat, batch->start, (int64_t *)out);
            break;
        case SEQUENCES:
            tb_number_sequences(flat, (int32_t *)out);
            break;
        case BOUNDS:
        case REAL:
            tb_bound_sequences(flat, batch->roles[k] == REAL, (int32_t *)out);
            break;
        case TRACES:
            tb_trace_sequences(flat, batch->piece_rows, (int64_t *)out);
            break;
    }
}

static tb_read
fill_batch(tb_flat_batch *batch)
{
    tb_read read = TB_READ_DONE;

    /* Labels may be made of the main column: it comes first. */
    read = fill_column(batch, batch->main);
    for (Py_ssize_t k = 0; k < batch->columns && read == TB_READ_DONE; k++) {
        read = k == batch->main ? read : fill_column(batch, k);
    }
    if (read != TB_READ_DONE) {
        return read;
    }
    PyThreadState *saved = let_others_run(batch);
    for (Py_ssize_t k = batch->columns; k < batch->count; k++) {
        fill_extra(batch, k);
    }
    take_turn_again(saved);
    return TB_READ_DONE;
}

int
tb_run_batch(tb_flat_batch *batch, PyObject *allocate, int as_tensors)
{
    tb_read read;

    do {
        for (Py_ssize_t k = 0; k < batch->count; k++) {
            Py_CLEAR(batch->jobs[k].out);
        }
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
        if (tb_allocate_jobs(batch->state, batch->jobs, batch->count, allocate,
                             as_tensors) < 0) {
            return -1;
        }
        read = fill_batch(batch);
    } while (read == TB_READ_WIDEN);
    return read == TB_READ_DONE ? 0 : -1;
}
