/* What a collator needs: samples turned into columns, and columns padded together. */
#include "tb_numpy.h"
#include "args.h"
#include "mask.h"

#include <string.h>

static const tb_context collator = {"PadCollator", NULL, NULL, 0};

/* A cache line: where a column begins in a block that all share. */
enum { ALIGNMENT = 64 };

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
refuse_keys(PyObject *first, PyObject *sample, Py_ssize_t row)
{
    PyObject *missing = missing_key(first, sample), *extra = NULL;

    if (missing == NULL && !PyErr_Occurred()) {
        extra = missing_key(sample, first);
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    return missing != NULL ? tb_raise_at(&collator, PyExc_ValueError, row, -1,
                                         "has no key %R, which row 0 has", missing)
                           : tb_raise_at(&collator, PyExc_ValueError, row, -1,
                                         "has the key %R, which row 0 lacks", extra);
}

/* A sample as a dict, a new reference: itself, or a copy of another kind of mapping. */
static PyObject *
sample_as_dict(PyObject *sample, Py_ssize_t row)
{
    if (PyDict_Check(sample)) {
        return Py_NewRef(sample);
    }
    if (!PyObject_HasAttrString(sample, "keys")) {
        tb_raise_at(&collator, PyExc_TypeError, row, -1,
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
scatter_sample(PyObject *columns, PyObject *first, PyObject *sample, Py_ssize_t row)
{
    PyObject *key, *column;
    Py_ssize_t position = 0;

    if (PyDict_GET_SIZE(sample) != PyDict_GET_SIZE(columns)) {
        return refuse_keys(first, sample, row);
    }
    while (PyDict_Next(columns, &position, &key, &column)) {
        PyObject *value = PyDict_GetItemWithError(sample, key);
        if (value == NULL) {
            return PyErr_Occurred() ? -1 : refuse_keys(first, sample, row);
        }
        PyList_SET_ITEM(column, row, Py_NewRef(value));
    }
    return 0;
}

/* gather_columns(samples: list of mappings) -> {key: list of values}, keys in the order
 * of the first sample. Every sample has the same keys, or it is an error. */
static PyObject *
wrap_gather_columns(PyObject *Py_UNUSED(module), PyObject *samples)
{
    PyObject *fast = PySequence_Tuple(samples), *columns = NULL, *first = NULL;
    PyObject *key, *value;
    Py_ssize_t position = 0, count = fast == NULL ? 0 : PyTuple_GET_SIZE(fast);

    if (fast == NULL || count == 0) {
        goto done;
    }
    first = sample_as_dict(PyTuple_GET_ITEM(fast, 0), 0);
    columns = first == NULL ? NULL : PyDict_New();
    while (columns != NULL && PyDict_Next(first, &position, &key, &value)) {
        PyObject *column = PyList_New(count);
        if (column == NULL || PyDict_SetItem(columns, key, column) < 0) {
            Py_CLEAR(columns);
        }
        Py_XDECREF(column);
    }
    for (Py_ssize_t i = 0; columns != NULL && i < count; i++) {
        PyObject *sample = sample_as_dict(PyTuple_GET_ITEM(fast, i), i);
        if (sample == NULL || scatter_sample(columns, first, sample, i) < 0) {
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

/* What a job makes: a padded or stacked column, or from the lengths of its source the
 * attention mask [batch, width] or those lengths themselves, as cut, [batch]; int64. */
typedef enum { COLUMN, MASK, LENGTHS } job_kind;

/* One array on its way. */
typedef struct {
    tb_column column;
    tb_pad_options options;
    tb_layout layout;
    PyObject *padding_value; /* borrowed */
    int is_flat;             /* a number a row: the output is [batch] */
    job_kind kind;
    Py_ssize_t source;          /* of a mask or lengths: the column they are of */
    Py_ssize_t same_lengths_as; /* another column, or -1 */
    ptrdiff_t offset;           /* in the shared block */
    PyArrayObject *out;
} tb_job;

/* (key, rows, is_flat, padding_value, dtype, width, max_length, multiple,
 *  same_lengths_as) */
static int
read_job(tb_state *state, PyObject *spec, PyObject *padding_side,
         PyObject *truncation_side, tb_job *job)
{
    PyObject *key, *rows, *dtype, *width, *max_length, *multiple;
    tb_context context = collator;
    tb_dtype asked = {TB_I64, 8, NULL};
    PyObject *sequences = NULL;
    int answer = -1;

    if (!PyArg_ParseTuple(spec, "OOpOOOOOn", &key, &rows, &job->is_flat,
                          &job->padding_value, &dtype, &width, &max_length, &multiple,
                          &job->same_lengths_as)) {
        return -1;
    }
    context.key = key == Py_None ? NULL : key;
    context.is_flat = job->is_flat;
    if (tb_read_pad_options(state, &context, width, max_length, padding_side,
                            truncation_side, multiple, &job->options) < 0) {
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

/* The mask goes where the rows of its source go: 1 there, 0 elsewhere. */
static void
lay_out_mask(const tb_job *source, tb_job *mask)
{
    mask->layout = source->layout;
    mask->layout.type = TB_I64;
    mask->layout.item_size = 8;
    mask->layout.trailing = 1;
    memset(mask->layout.fill, 0, sizeof mask->layout.fill);
}

static int
lay_out_job(tb_state *state, tb_job *jobs, tb_job *job)
{
    if (job->kind != COLUMN) {
        lay_out_mask(&jobs[job->source], job);
        return 0;
    }
    if (tb_lay_out(&job->column, &job->options, &job->layout) < 0) {
        return -1;
    }
    return tb_needs_fill(&job->column, &job->layout)
               ? tb_read_fill(state, &job->column.context, job->padding_value,
                              &job->column.dtype, job->layout.fill)
               : 0;
}

/* NumPy has no bfloat16 to hand to torch, so its bits travel as int16. */
static PyArray_Descr *
carrier_descr(tb_state *state, const tb_job *job, int as_tensors)
{
    if (job->kind != COLUMN) {
        return PyArray_DescrFromType(NPY_INT64);
    }
    if (as_tensors && job->column.dtype.type == TB_BF16) {
        return PyArray_DescrFromType(NPY_INT16);
    }
    return tb_dtype_descr(state, &job->column.dtype);
}

static int
job_shape(const tb_job *jobs, const tb_job *job, npy_intp *dims)
{
    if (job->kind != COLUMN) {
        dims[0] = jobs[job->source].column.count;
        dims[1] = job->layout.width;
        return job->kind == MASK ? 2 : 1;
    }
    int ndim = tb_output_shape(&job->column, &job->layout, dims);
    if (job->is_flat) {
        dims[0] = dims[1];
        ndim = 1;
    }
    return ndim;
}

/* Offsets in one block, each column on a cache line of its own; the block's size. */
static ptrdiff_t
assign_offsets(tb_job *jobs, Py_ssize_t count)
{
    npy_intp dims[NPY_MAXDIMS];
    ptrdiff_t end = 0;

    for (Py_ssize_t i = 0; i < count; i++) {
        int ndim = job_shape(jobs, &jobs[i], dims);
        ptrdiff_t bytes = jobs[i].layout.item_size;
        for (int d = 0; d < ndim; d++) {
            bytes *= dims[d];
        }
        jobs[i].offset = end;
        end += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    return end;
}

/* New arrays, or with `allocate` views of the one block that allocate(bytes) answers.
 */
static int
allocate_jobs(tb_state *state, tb_job *jobs, Py_ssize_t count, PyObject *allocate,
              int as_tensors)
{
    PyObject *block = NULL;
    npy_intp dims[NPY_MAXDIMS];
    int answer = -1;

    if (allocate != Py_None) {
        ptrdiff_t bytes = assign_offsets(jobs, count);
        block = PyObject_CallFunction(allocate, "n", bytes);
        if (block == NULL) {
            return -1;
        }
        if (!PyArray_Check(block) || !PyArray_ISCARRAY((PyArrayObject *)block) ||
            PyArray_NBYTES((PyArrayObject *)block) < bytes) {
            PyErr_SetString(PyExc_TypeError,
                            "allocate() must answer a large enough array");
            goto done;
        }
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyArray_Descr *descr = carrier_descr(state, &jobs[i], as_tensors);
        int ndim = job_shape(jobs, &jobs[i], dims);
        if (descr == NULL) {
            goto done;
        }
        if (block == NULL) {
            jobs[i].out =
                (PyArrayObject *)PyArray_SimpleNewFromDescr(ndim, dims, descr);
        }
        else {
            jobs[i].out = (PyArrayObject *)PyArray_NewFromDescr(
                &PyArray_Type, descr, ndim, dims, NULL,
                PyArray_BYTES((PyArrayObject *)block) + jobs[i].offset,
                NPY_ARRAY_CARRAY, NULL);
        }
        if (jobs[i].out == NULL ||
            (block != NULL &&
             PyArray_SetBaseObject(jobs[i].out, Py_NewRef(block)) < 0)) {
            goto done;
        }
    }
    answer = 0;
done:
    Py_XDECREF(block);
    return answer;
}

static tb_read
fill_job(tb_state *state, const tb_job *jobs, tb_job *job)
{
    static const int64_t one = 1;
    const tb_column *source = &jobs[job->source].column;
    int64_t *out = (int64_t *)PyArray_DATA(job->out);
    unsigned char real[sizeof one];

    switch (job->kind) {
        case COLUMN:
            return tb_fill_rows(state, &job->column, &job->layout, out);
        case MASK:
            memcpy(real, &one, sizeof one);
            tb_mask_rows(source->lengths, source->count, &job->layout, real, out);
            break;
        case LENGTHS:
            for (ptrdiff_t i = 0; i < source->count; i++) {
                out[i] = tb_locate_row(&job->layout, source->lengths[i]).count;
            }
            break;
    }
    return TB_READ_DONE;
}

/* Lays out, allocates and fills all; again, where a list turned out to hold floats. */
static int
run_jobs(tb_state *state, tb_job *jobs, Py_ssize_t count, PyObject *allocate,
         int as_tensors)
{
    tb_read read;

    do {
        read = TB_READ_DONE;
        for (Py_ssize_t i = 0; i < count; i++) {
            Py_CLEAR(jobs[i].out);
            if (lay_out_job(state, jobs, &jobs[i]) < 0) {
                return -1;
            }
        }
        if (allocate_jobs(state, jobs, count, allocate, as_tensors) < 0) {
            return -1;
        }
        for (Py_ssize_t i = 0; i < count && read == TB_READ_DONE; i++) {
            read = fill_job(state, jobs, &jobs[i]);
        }
    } while (read == TB_READ_WIDEN);
    return read == TB_READ_DONE ? 0 : -1;
}

/* [(array, offset, is_bfloat16), ...] */
static PyObject *
answer_jobs(const tb_job *jobs, Py_ssize_t count)
{
    PyObject *answer = PyList_New(count);

    for (Py_ssize_t i = 0; answer != NULL && i < count; i++) {
        int is_bfloat16 =
            jobs[i].kind == COLUMN && jobs[i].column.dtype.type == TB_BF16;
        PyObject *entry =
            Py_BuildValue("(OnO)", jobs[i].out, (Py_ssize_t)jobs[i].offset,
                          is_bfloat16 ? Py_True : Py_False);
        if (entry == NULL) {
            Py_CLEAR(answer);
            break;
        }
        PyList_SET_ITEM(answer, i, entry);
    }
    return answer;
}

/* pad_columns(specs, padding_side, truncation_side, main, mask, lengths, allocate,
 *             as_tensors) -> [(array, offset, is_bfloat16), ...]
 *
 * `main` is the index of the column that the mask and the lengths are of; with `mask`
 * and `lengths` they come behind the columns. allocate(bytes) -> uint8 array, or None:
 * an array each. */
static PyObject *
wrap_pad_columns(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_state *state = tb_state_of(module);
    PyObject *answer = NULL;
    Py_ssize_t main, count, total;
    int mask, lengths, as_tensors;

    if (tb_check_count("pad_columns", nargs, 8) < 0 ||
        tb_read_flag(args[4], &mask) < 0 || tb_read_flag(args[5], &lengths) < 0 ||
        tb_read_flag(args[7], &as_tensors) < 0) {
        return NULL;
    }
    main = PyLong_AsSsize_t(args[3]);
    count = PyList_Size(args[0]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    total = count + mask + lengths;
    tb_job *jobs = PyMem_Calloc((size_t)total + 1, sizeof *jobs);
    if (jobs == NULL) {
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (read_job(state, PyList_GET_ITEM(args[0], i), args[1], args[2], &jobs[i]) <
            0) {
            goto done;
        }
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (check_same_lengths(jobs, &jobs[i]) < 0) {
            goto done;
        }
    }
    for (Py_ssize_t i = count; i < total; i++) {
        jobs[i].kind = mask && i == count ? MASK : LENGTHS;
        jobs[i].source = main;
    }
    if (run_jobs(state, jobs, total, args[6], as_tensors) == 0) {
        answer = answer_jobs(jobs, total);
    }
done:
    for (Py_ssize_t i = 0; i < total; i++) {
        tb_clear_column(&jobs[i].column);
        Py_XDECREF((PyObject *)jobs[i].out);
    }
    PyMem_Free(jobs);
    return answer;
}

PyMethodDef tb_collate_methods[] = {
    {"gather_columns", wrap_gather_columns, METH_O, NULL},
    {"pad_columns", (PyCFunction)(void (*)(void))wrap_pad_columns, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
