#include "py/input/ragged.h"

#include <string.h>

/* A Ragged's four attributes, held. Rows lie in a virtual line of all chunks'
 * positions, of which chunk k has `bounds[k]` to `bounds[k + 1]`; no row lies in two
 * chunks. */
typedef struct {
    PyObject *chunks; /* tuple of C-contiguous arrays, one dtype, one trailing shape */
    PyArrayObject *bounds, *starts, *lengths;
} ragged_parts;

static void
clear_parts(ragged_parts *parts)
{
    Py_CLEAR(parts->chunks);
    Py_CLEAR(parts->bounds);
    Py_CLEAR(parts->starts);
    Py_CLEAR(parts->lengths);
}

static PyArrayObject *
int64_attribute(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);

    if (value != NULL &&
        (!PyArray_Check(value) || PyArray_TYPE((PyArrayObject *)value) != NPY_INT64 ||
         PyArray_NDIM((PyArrayObject *)value) != 1 ||
         !PyArray_ISCARRAY_RO((PyArrayObject *)value))) {
        PyErr_SetString(PyExc_RuntimeError, "Ragged: its places were tampered with");
        Py_CLEAR(value);
    }
    return (PyArrayObject *)value;
}

static int
get_parts(tb_state *state, PyObject *object, ragged_parts *parts)
{
    memset(parts, 0, sizeof *parts);
    parts->chunks = PyObject_GetAttr(object, state->str_chunks);
    parts->bounds = int64_attribute(object, state->str_bounds);
    parts->starts = int64_attribute(object, state->str_starts);
    parts->lengths = int64_attribute(object, state->str_lengths);
    if (parts->chunks == NULL || parts->bounds == NULL || parts->starts == NULL ||
        parts->lengths == NULL) {
        return -1;
    }
    if (!PyTuple_Check(parts->chunks) || PyTuple_GET_SIZE(parts->chunks) == 0 ||
        PyArray_DIM(parts->bounds, 0) != PyTuple_GET_SIZE(parts->chunks) + 1 ||
        PyArray_DIM(parts->starts, 0) != PyArray_DIM(parts->lengths, 0)) {
        PyErr_SetString(PyExc_RuntimeError, "Ragged: its chunks were tampered with");
        return -1;
    }
    return 0;
}

/* The chunk that position `start` lies in: a binary search without a branch that random
 * rows would make the processor guess. */
static ptrdiff_t
find_chunk(const int64_t *bounds, ptrdiff_t chunks, int64_t start)
{
    ptrdiff_t low = 0;

    while (chunks > 1) {
        ptrdiff_t half = chunks / 2;
        low += bounds[low + half] <= start ? half : 0;
        chunks -= half;
    }
    return low;
}

/* A chunk of the type and shape that the first one has, and of the length that the
 * bounds say; it may have been resized since. */
static const char *
chunk_data(const ragged_parts *parts, const tb_view *first, ptrdiff_t k)
{
    PyArrayObject *chunk = (PyArrayObject *)PyTuple_GET_ITEM(parts->chunks, k);
    const int64_t *bounds = (const int64_t *)PyArray_DATA(parts->bounds);

    if (!PyArray_Check(chunk) || !PyArray_ISCARRAY_RO(chunk) ||
        PyArray_NDIM(chunk) != first->ndim ||
        PyArray_ITEMSIZE(chunk) != first->dtype.item_size ||
        PyArray_DIM(chunk, 0) != bounds[k + 1] - bounds[k] ||
        !PyArray_CompareLists(PyArray_DIMS(chunk) + 1, first->shape + 1,
                              first->ndim - 1)) {
        return NULL;
    }
    return PyArray_BYTES(chunk);
}

static int
place_rows(tb_column *column, const ragged_parts *parts, const tb_view *first)
{
    const int64_t *bounds = (const int64_t *)PyArray_DATA(parts->bounds);
    const int64_t *starts = (const int64_t *)PyArray_DATA(parts->starts);
    const int64_t *lengths = (const int64_t *)PyArray_DATA(parts->lengths);
    ptrdiff_t chunks = PyTuple_GET_SIZE(parts->chunks), k = 0;
    ptrdiff_t position = first->dtype.item_size;
    const char *data = chunk_data(parts, first, 0);

    for (int d = 1; d < first->ndim; d++) {
        position *= first->shape[d];
    }
    memset(column->types, (int)first->dtype.type, (size_t)column->count);
    for (ptrdiff_t i = 0; i < column->count; i++) {
        int64_t start = starts[i], length = lengths[i];
        column->lengths[i] = length;
        column->data[i] = NULL;
        if (length == 0) {
            continue;
        }
        if (start < bounds[k] || start >= bounds[k + 1]) {
            k = find_chunk(bounds, chunks, start);
            data = chunk_data(parts, first, k);
        }
        if (data == NULL || start < bounds[k] || length < 0 ||
            length > bounds[k + 1] - start) {
            return tb_raise_at(&column->context, PyExc_RuntimeError, i, -1,
                               "lies outside the values of its Ragged: they were "
                               "resized");
        }
        column->data[i] = data + (start - bounds[k]) * position;
        if (column->array_row < 0) {
            column->array_row = i;
        }
    }
    column->array_row =
        column->array_row < 0 && column->count > 0 ? 0 : column->array_row;
    return 0;
}

int
tb_survey_ragged(tb_state *state, PyObject *object, tb_column *column)
{
    ragged_parts parts;
    tb_view first;
    int answer = -1;

    if (state->ragged == NULL || !PyObject_TypeCheck(object, state->ragged)) {
        return 0;
    }
    if (get_parts(state, object, &parts) < 0) {
        goto done;
    }
    PyObject *chunk = PyTuple_GET_ITEM(parts.chunks, 0);
    if (!PyArray_Check(chunk)) {
        PyErr_SetString(PyExc_RuntimeError, "Ragged: its chunks were tampered with");
        goto done;
    }
    if (tb_view_array(state, &column->context, -1, (PyArrayObject *)chunk, &first) <
        0) {
        goto done;
    }
    Py_XDECREF(first.owner); /* a chunk is C-contiguous: chunk_data() looks again */
    column->other = first.dtype.descr;
    if (first.ndim < 1 || first.ndim > TB_MAX_TRAILING + 1) {
        PyErr_Format(PyExc_ValueError, "Ragged: its rows have %d dimensions",
                     first.ndim);
        goto done;
    }
    column->whole = first.dtype;
    column->ndim = first.ndim - 1;
    memcpy(column->trailing, first.shape + 1,
           (size_t)column->ndim * sizeof *column->trailing);
    if (tb_allocate_rows(column, PyArray_DIM(parts.starts, 0)) < 0 ||
        place_rows(column, &parts, &first) < 0 ||
        tb_note_owner(column, parts.chunks) < 0) {
        goto done;
    }
    answer = 1;
done:
    clear_parts(&parts);
    return answer;
}
