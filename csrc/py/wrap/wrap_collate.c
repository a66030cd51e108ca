/* What a collator needs: samples turned into columns, and columns padded together. */
#include "py/base/tb_numpy.h"
#include "py/output/job.h"

#include <string.h>

/* --- samples to columns ---------------------------------------------------------- */

/* The first key of `a` that `b` lacks, borrowed; NULL where there is none. */
static PyObject *
missing_key(PyObject *a, PyObject *b)
{
    PyObject *key, *value;
    Py_ssize_t position = 0;

    while (PyDict_Next(a, &position, &key, &value)) {
        int there = PyDict_Contains(b, key);
        if (there <= 0) {
            return there < 0 ? NULL : key;
        }
    }
    return NULL;
}

static int
refuse_keys(const tb_context *context, PyObject *first, PyObject *sample,
            Py_ssize_t row)
{
    PyObject *missing = missing_key(first, sample), *extra = NULL;

    if (missing == NULL && !PyErr_Occurred()) {
        extra = missing_key(sample, first);
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    return missing != NULL ? tb_raise_at(context, PyExc_ValueError, row, -1,
                                         "has no key %R, which row 0 has", missing)
                           : tb_raise_at(context, PyExc_ValueError, row, -1,
                                         "has the key %R, which row 0 lacks", extra);
}

/* A sample as a dict, a new reference: itself, or a copy of another kind of mapping. */
static PyObject *
sample_as_dict(const tb_context *context, PyObject *sample, Py_ssize_t row)
{
    if (PyDict_Check(sample)) {
        return Py_NewRef(sample);
    }
    PyObject *keys;
    int found = tb_find_attribute(sample, "keys", &keys);
    if (found < 0) {
        return NULL;
    }
    Py_XDECREF(keys);
    if (found == 0) {
        tb_raise_at(context, PyExc_TypeError, row, -1,
                    "is a %s, expected a dict as in row 0", Py_TYPE(sample)->tp_name);
        return NULL;
    }
    PyObject *dict = PyDict_New();
    if (dict != NULL && PyDict_Update(dict, sample) < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

/* One sample's values, each to its column's place `row`. */
static int
scatter_sample(const tb_context *context, PyObject *columns, PyObject *first,
               PyObject *sample, Py_ssize_t row)
{
    PyObject *key, *column;
    Py_ssize_t position = 0;

    if (PyDict_GET_SIZE(sample) != PyDict_GET_SIZE(columns)) {
        return refuse_keys(context, first, sample, row);
    }
    while (PyDict_Next(columns, &position, &key, &column)) {
        PyObject *value;
        int found = tb_find_key(sample, key, &value);
        if (found <= 0) {
            return found < 0 ? -1 : refuse_keys(context, first, sample, row);
        }
        PyList_SET_ITEM(column, row, value);
    }
    return 0;
}

/* gather_columns(function, samples: list of mappings) -> {key: list of values}, keys in
 * the order of the first sample. Every sample has the same keys, or it is an error. */
static PyObject *
wrap_gather_columns(PyObject *Py_UNUSED(module), PyObject *const *args,
                    Py_ssize_t nargs)
{
    tb_context context = {0};
    PyObject *fast = NULL, *columns = NULL, *first = NULL, *key, *value;
    Py_ssize_t position = 0, count;

    if (tb_check_count("gather_columns", nargs, 2) < 0) {
        return NULL;
    }
    context.function = PyUnicode_AsUTF8(args[0]);
    fast = context.function == NULL ? NULL : PySequence_Tuple(args[1]);
    count = fast == NULL ? 0 : PyTuple_GET_SIZE(fast);
    if (count == 0) {
        goto done;
    }
    first = sample_as_dict(&context, PyTuple_GET_ITEM(fast, 0), 0);
    columns = first == NULL ? NULL : PyDict_New();
    while (columns != NULL && PyDict_Next(first, &position, &key, &value)) {
        PyObject *column = PyList_New(count);
        if (column == NULL || PyDict_SetItem(columns, key, column) < 0) {
            Py_CLEAR(columns);
        }
        Py_XDECREF(column);
    }
    for (Py_ssize_t i = 0; columns != NULL && i < count; i++) {
        PyObject *sample = sample_as_dict(&context, PyTuple_GET_ITEM(fast, i), i);
        if (sample == NULL || scatter_sample(&context, columns, first, sample, i) < 0) {
            Py_CLEAR(columns);
        }
        Py_XDECREF(sample);
    }
done:
    Py_XDECREF(first);
    Py_XDECREF(fast);
    return columns == NULL && !PyErr_Occurred() ? PyDict_New() : columns;
}

/* --- columns padded together ------------------------------------------------------ */

/* Ascending widths as the collator keeps them: an int64 array, borrowed. */
static int
read_boundaries(const tb_context *context, PyObject *given, tb_pad_options *options)
{
    PyArrayObject *array = (PyArrayObject *)given;

    if (given == Py_None) {
        return 0;
    }
    if (!PyArray_Check(given) || PyArray_NDIM(array) != 1 ||
        PyArray_TYPE(array) != NPY_INT64 || !PyArray_ISCARRAY_RO(array) ||
        PyArray_SIZE(array) == 0) {
        return tb_raise_at(context, PyExc_TypeError, -1, -1,
                           "boundaries: expected a contiguous int64 array");
    }
    options->boundaries = (const int64_t *)PyArray_DATA(array);
    options->boundary_count = PyArray_SIZE(array);
    return 0;
}

/* (key, rows, is_flat, padding_value, dtype, width, max_length, multiple,
 *  same_lengths_as[, boundaries]) */
static int
read_job(tb_state *state, const char *function, PyObject *spec, PyObject *padding_side,
         PyObject *truncation_side, tb_job *job)
{
    PyObject *key, *rows, *dtype, *width, *max_length, *multiple, *boundaries = Py_None;
    tb_context context = {.function = function};
    tb_dtype asked = {TB_I64, 8, NULL};
    PyObject *sequences = NULL;
    int answer = -1;

    if (!PyArg_ParseTuple(spec, "OOpOOOOOn|O", &key, &rows, &job->is_flat,
                          &job->padding_value, &dtype, &width, &max_length, &multiple,
                          &job->same_lengths_as, &boundaries)) {
        return -1;
    }
    context.key = key == Py_None ? NULL : key;
    context.one_row = job->is_flat;
    if (tb_read_pad_options(&context, width, max_length, padding_side, truncation_side,
                            multiple, &job->options) < 0 ||
        read_boundaries(&context, boundaries, &job->options) < 0) {
        return -1;
    }
    sequences = job->is_flat ? PyTuple_Pack(1, rows) : Py_NewRef(rows);
    int has_dtype =
        sequences == NULL ? -1 : tb_dtype_from_object(state, &context, dtype, &asked);
    if (has_dtype >= 0 &&
        tb_survey_rows(state, &context, sequences, &job->column) == 0) {
        answer = tb_settle_dtype(state, &job->column, &job->options,
                                 has_dtype ? &asked : NULL);
    }
    Py_XDECREF((PyObject *)asked.descr);
    Py_XDECREF(sequences);
    return answer;
}

static int
check_same_lengths(const tb_job *jobs, const tb_job *job)
{
    const tb_column *a = &job->column, *b;

    if (job->same_lengths_as < 0 || a->ndim > 0) {
        return 0;
    }
    b = &jobs[job->same_lengths_as].column;
    for (ptrdiff_t i = 0; i < a->count && i < b->count; i++) {
        if (a->lengths[i] != b->lengths[i]) {
            return tb_raise_at(&a->context, PyExc_ValueError, i, -1,
                               "has length %zd, but key %R has %zd there",
                               (Py_ssize_t)a->lengths[i], b->context.key,
                               (Py_ssize_t)b->lengths[i]);
        }
    }
    return 0;
}

/* pad_columns(function, specs, padding_side, truncation_side, main, extras, allocate,
 * as_tensors, flat) -> [(array, offset, is_bfloat16), ...]
 *
 * `main` is the index of the column that the extras are of: a tuple of "mask" and what
 * else job.h names. They come behind the columns. allocate(bytes) -> uint8 array, or
 * None: an array each. `flat`: rows one after another, without padding, [1, total]. */
static PyObject *
wrap_pad_columns(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_state *state = tb_state_of(module);
    PyObject *answer = NULL;
    Py_ssize_t main, count, total;
    int as_tensors, flat;
    const char *function;

    if (tb_check_count("pad_columns", nargs, 9) < 0 ||
        tb_read_flag(&(tb_context){.function = "pad_columns"}, "as_tensors", args[7],
                     &as_tensors) < 0 ||
        tb_read_flag(&(tb_context){.function = "pad_columns"}, "flat", args[8], &flat) <
            0) {
        return NULL;
    }
    function = PyUnicode_AsUTF8(args[0]);
    main = PyLong_AsSsize_t(args[4]);
    count = PyList_Size(args[1]);
    total = count + PyTuple_Size(args[5]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    tb_job *jobs = PyMem_Calloc((size_t)total + 1, sizeof *jobs);
    if (jobs == NULL) {
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        jobs[i].options.flat = flat;
        if (read_job(state, function, PyList_GET_ITEM(args[1], i), args[2], args[3],
                     &jobs[i]) < 0) {
            goto done;
        }
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (check_same_lengths(jobs, &jobs[i]) < 0) {
            goto done;
        }
    }
    for (Py_ssize_t i = count; i < total; i++) {
        jobs[i].source = main;
        if (tb_job_kind_named(PyTuple_GET_ITEM(args[5], i - count), &jobs[i].kind) <
            0) {
            goto done;
        }
    }
    if (tb_run_jobs(state, jobs, total, args[6], as_tensors) == 0) {
        answer = tb_answer_jobs(jobs, total);
    }
done:
    for (Py_ssize_t i = 0; i < total; i++) {
        tb_clear_job(&jobs[i]);
    }
    PyMem_Free(jobs);
    return answer;
}

PyMethodDef tb_collate_methods[] = {
    {"gather_columns", (PyCFunction)(void (*)(void))wrap_gather_columns, METH_FASTCALL,
     NULL},
    {"pad_columns", (PyCFunction)(void (*)(void))wrap_pad_columns, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
