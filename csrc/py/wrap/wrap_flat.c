/* What the padding-free collator needs: columns laid in one line, in one call. */
#include "py/base/tb_numpy.h"
#include "py/output/flat_batch.h"

/* The main column's lengths are those of every other that lies in the line. */
static int
check_lengths(const tb_column *column, const tb_column *main)
{
    if (column->count != main->count) {
        return tb_raise_at(&column->context, PyExc_ValueError, -1, -1,
                           "has %zd rows, but key %R has %zd",
                           (Py_ssize_t)column->count, main->context.key,
                           (Py_ssize_t)main->count);
    }
    for (ptrdiff_t i = 0; i < column->count; i++) {
        if (column->lengths[i] != main->lengths[i]) {
            return tb_raise_at(&column->context, PyExc_ValueError, i, -1,
                               "has length %zd, but key %R has %zd there: rows without "
                               "a value a token do not fit into a padding-free batch",
                               (Py_ssize_t)column->lengths[i], main->context.key,
                               (Py_ssize_t)main->lengths[i]);
        }
    }
    return 0;
}

/* (key, rows, role, padding_value, dtype): what is said of a column, and its rows. */
static int
survey_spec(tb_flat_batch *batch, PyObject *spec, Py_ssize_t k, PyObject **dtype)
{
    tb_job *job = &batch->jobs[k];
    tb_context context = batch->context;
    PyObject *key, *rows, *sequences;
    unsigned char role;

    if (!PyArg_ParseTuple(spec, "OObOO", &key, &rows, &role, &job->padding_value,
                          dtype)) {
        return -1;
    }
    batch->roles[k] = role;
    job->is_flat = context.one_row = role == NUMBERS;
    context.key = key;
    job->options = (tb_pad_options){.width = -1,
                                    .max_length = -1,
                                    .multiple = 1,
                                    .cut_left = batch->cut_left,
                                    .flat = role != NUMBERS};
    if (role == OF_MAIN) {
        job->column.context = context;
        return 0;
    }
    sequences = role == NUMBERS ? PyTuple_Pack(1, rows) : Py_NewRef(rows);
    int answer = sequences == NULL
                     ? -1
                     : tb_survey_rows(batch->state, &context, sequences, &job->column);
    Py_XDECREF(sequences);
    return answer;
}

/* Labels are numbers that one position has one of. */
static int
check_labels(const tb_job *job)
{
    if (job->column.ndim > 0) {
        return tb_raise_at(&job->column.context, PyExc_ValueError, -1, -1,
                           "has %d dimensions a row; expected a label a token",
                           job->column.ndim + 1);
    }
    return job->column.dtype.type == TB_OTHER
               ? tb_raise_at(&job->column.context, PyExc_TypeError, -1, -1,
                             "dtype %s cannot hold labels",
                             tb_dtype_name(&job->column.dtype))
               : 0;
}

/* The element type: labels are int64, as losses ask for, unless another is named. */
static int
settle_spec(tb_flat_batch *batch, Py_ssize_t k, PyObject *dtype)
{
    tb_job *job = &batch->jobs[k];
    int is_label = batch->roles[k] == LABELS || batch->roles[k] == OF_MAIN;
    tb_dtype asked = {TB_I64, 8, NULL};
    int answer = 0;
    int has_dtype =
        tb_dtype_from_object(batch->state, &job->column.context, dtype, &asked);

    if (has_dtype < 0) {
        return -1;
    }
    if (batch->roles[k] == OF_MAIN) {
        if (asked.type == TB_OTHER) {
            answer = tb_raise_at(&job->column.context, PyExc_TypeError, -1, -1,
                                 "dtype=%s; expected an integer type",
                                 tb_dtype_name(&asked));
        }
        job->column.dtype = asked;
        job->column.dtype.descr = NULL;
    }
    else {
        if (batch->roles[k] != NUMBERS && !tb_in_parts(batch) &&
            batch->flat.max_length != PTRDIFF_MAX) {
            job->options.max_length = batch->flat.max_length;
        }
        answer = tb_settle_dtype(batch->state, &job->column, &job->options,
                                 has_dtype || is_label ? &asked : NULL);
    }
    Py_XDECREF((PyObject *)asked.descr);
    return answer == 0 && batch->roles[k] == LABELS ? check_labels(job) : answer;
}

/* None, or (key, rows) of a column that does not itself go into the batch. */
static int
survey_aside(tb_flat_batch *batch, PyObject *pair, tb_column *column)
{
    tb_context context = batch->context;
    PyObject *rows;

    if (pair == Py_None) {
        return 0;
    }
    if (!PyArg_ParseTuple(pair, "OO", &context.key, &rows)) {
        return -1;
    }
    return tb_survey_rows(batch->state, &context, rows, column) < 0 ? -1 : 1;
}

/* Columns surveyed and measured, the pieces known, the line planned, types settled. */
static int
read_columns(tb_flat_batch *batch, PyObject *specs, PyObject *mask, PyObject *segments)
{
    PyObject **dtypes = PyMem_Calloc((size_t)batch->columns + 1, sizeof *dtypes);
    tb_column masks = {0}, pieces = {0};
    int answer = -1;

    if (dtypes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t k = 0; k < batch->columns; k++) {
        if (survey_spec(batch, PyList_GET_ITEM(specs, k), k, &dtypes[k]) < 0) {
            goto done;
        }
    }
    const tb_column *main = &batch->jobs[batch->main].column;
    for (Py_ssize_t k = 0; k < batch->columns; k++) {
        if ((batch->roles[k] == ROWS || batch->roles[k] == LABELS) &&
            check_lengths(&batch->jobs[k].column, main) < 0) {
            goto done;
        }
    }
    int has_mask = survey_aside(batch, mask, &masks);
    if (has_mask < 0 || (has_mask && (check_lengths(&masks, main) < 0 ||
                                      tb_refuse_masked(batch->state, &masks) < 0))) {
        goto done;
    }
    batch->flat.pieces = main->count;
    batch->flat.lengths = main->lengths;
    int has_pieces = survey_aside(batch, segments, &pieces);
    if (has_pieces < 0 || (has_pieces && tb_read_segments(batch, &pieces) < 0) ||
        tb_plan_batch(batch) < 0) {
        goto done;
    }
    for (Py_ssize_t k = 0; k < batch->columns; k++) {
        if (settle_spec(batch, k, dtypes[k]) < 0) {
            goto done;
        }
    }
    answer = 0;
done:
    tb_clear_column(&masks);
    tb_clear_column(&pieces);
    PyMem_Free(dtypes);
    return answer;
}

/* (cut_left, max_length, multiple, sequence_multiple, max_tokens, max_seqs, max_seqlen,
 *  position_ids_start), sizes checked already; -1 is "not given" */
static int
read_settings(tb_flat_batch *batch, PyObject *settings)
{
    tb_flat *flat = &batch->flat;
    long long start;

    if (!PyArg_ParseTuple(settings, "pnnnnnnL", &batch->cut_left, &flat->max_length,
                          &flat->line_multiple, &flat->piece_multiple,
                          &flat->max_tokens, &flat->max_sequences,
                          &batch->longest_asked, &start)) {
        return -1;
    }
    batch->start = start;
    flat->max_length = flat->max_length < 0 ? PTRDIFF_MAX : flat->max_length;
    return 0;
}

/* (arrays, longest, counted): the arrays as pad_columns gives them, the positions of
 * the longest sequence, and the labels that count (0 where nobody asked). */
static PyObject *
answer_batch(const tb_flat_batch *batch, int counts)
{
    Py_ssize_t counted = 0;
    ptrdiff_t longest =
        batch->longest_asked < 0 ? batch->flat.longest : batch->longest_asked;
    PyObject *arrays = tb_answer_jobs(batch->jobs, batch->count);

    if (arrays == NULL) {
        return NULL;
    }
    if (counts && batch->labels >= 0) {
        const tb_job *labels = &batch->jobs[batch->labels];
        counted = tb_count_others(PyArray_DATA(labels->out), PyArray_SIZE(labels->out),
                                  labels->layout.item_size, labels->layout.fill);
    }
    return Py_BuildValue("(Nnn)", arrays, (Py_ssize_t)longest, counted);
}

/* flatten_columns(function, specs, main, labels, mask, segments, settings, extras,
 *                 counts, allocate, as_tensors) -> (arrays, longest, counted)
 *
 * `main` and `labels` are places in specs, labels -1 where there are none; `mask` and
 * `segments` None or (key, rows); `extras` bytes, a tb_flat_extra each. */
static PyObject *
wrap_flatten_columns(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_flat_batch batch = {.state = tb_state_of(module)};
    PyObject *answer = NULL;
    Py_ssize_t extras;
    int counts, as_tensors;

    if (tb_check_count("flatten_columns", nargs, 11) < 0 ||
        tb_read_flag(&(tb_context){.function = "flatten_columns"}, "counts", args[8],
                     &counts) < 0 ||
        tb_read_flag(&(tb_context){.function = "flatten_columns"}, "as_tensors",
                     args[10], &as_tensors) < 0 ||
        read_settings(&batch, args[6]) < 0) {
        return NULL;
    }
    batch.context.function = PyUnicode_AsUTF8(args[0]);
    batch.columns = PyList_Size(args[1]);
    batch.main = PyLong_AsSsize_t(args[2]);
    batch.labels = PyLong_AsSsize_t(args[3]);
    extras = PyBytes_Size(args[7]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (batch.main < 0 || batch.main >= batch.columns || batch.labels < -1 ||
        batch.labels >= batch.columns) {
        PyErr_SetString(PyExc_TypeError, "flatten_columns(): malformed arguments");
        return NULL;
    }
    batch.count = batch.columns + extras;
    batch.jobs = PyMem_Calloc((size_t)batch.count + 1, sizeof *batch.jobs);
    batch.roles = PyMem_Calloc((size_t)batch.count + 1, 1);
    if (batch.jobs == NULL || batch.roles == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < extras; i++) {
        batch.roles[batch.columns + i] = (unsigned char)PyBytes_AS_STRING(args[7])[i];
    }
    if (read_columns(&batch, args[1], args[4], args[5]) == 0 &&
        tb_run_batch(&batch, args[9], as_tensors) == 0) {
        answer = answer_batch(&batch, counts);
    }
done:
    for (Py_ssize_t i = 0; batch.jobs != NULL && i < batch.count; i++) {
        tb_clear_job(&batch.jobs[i]);
    }
    PyMem_Free(batch.jobs);
    PyMem_Free(batch.roles);
    PyMem_Free(batch.piece_rows);
    Py_XDECREF((PyObject *)batch.segments);
    return answer;
}

PyMethodDef tb_flat_methods[] = {
    {"flatten_columns", (PyCFunction)(void (*)(void))wrap_flatten_columns,
     METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
