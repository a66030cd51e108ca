#include "py/output/out.h"

#include "py/input/ragged.h"

static int
refuse_out(const tb_context *context, const char *reason)
{
    return tb_raise_at(context, PyExc_ValueError, -1, -1, "out= %s", reason);
}

PyArrayObject *
tb_read_out(tb_state *state, const tb_context *context, PyObject *out, int *is_bfloat16)
{
    *is_bfloat16 = 0;
    if (PyArray_Check(out)) {
        int masked = tb_is_masked((PyArrayObject *)out);
        if (masked > 0) {
            tb_raise_at(context, PyExc_TypeError, -1, -1,
                        "out= is a masked array, expected one without a mask");
        }
        return masked == 0 ? (PyArrayObject *)Py_NewRef(out) : NULL;
    }
    int is_tensor = tb_is_tensor(state, out);
    if (is_tensor > 0) {
        return tb_tensor_array(context, -1, "out= is", out, is_bfloat16);
    }
    if (is_tensor == 0) {
        tb_raise_at(context, PyExc_TypeError, -1, -1,
                    "out= has type %s, expected a NumPy array or a CPU tensor",
                    Py_TYPE(out)->tp_name);
    }
    return NULL;
}

static int
check_type(tb_state *state, const tb_context *context, PyArrayObject *out,
           int is_bfloat16, const tb_dtype *expected)
{
    tb_dtype dtype;

    int refused = tb_dtype_from_descr(state, PyArray_DESCR(out), &dtype);
    if (refused < 0) {
        return -1;
    }
    if (is_bfloat16) {
        dtype = (tb_dtype){TB_BF16, 2, NULL};
    }
    int same = refused == 0 && tb_dtype_equal(&dtype, expected);
    Py_XDECREF(refused == 0 ? dtype.descr : NULL);
    return same ? 0
                : tb_raise_at(context, PyExc_ValueError, -1, -1,
                              "out= has dtype %S, expected %s",
                              (PyObject *)PyArray_DESCR(out), tb_dtype_name(expected));
}

static int
check_shape(const tb_context *context, PyArrayObject *out, int ndim,
            const npy_intp *dims)
{
    if (PyArray_NDIM(out) == ndim &&
        PyArray_CompareLists(PyArray_DIMS(out), dims, ndim)) {
        return 0;
    }
    PyObject *expected = PyArray_IntTupleFromIntp(ndim, dims);
    PyObject *found = PyArray_IntTupleFromIntp(PyArray_NDIM(out), PyArray_DIMS(out));
    if (expected != NULL && found != NULL) {
        tb_raise_at(context, PyExc_ValueError, -1, -1, "out= has shape %S, expected %S",
                    found, expected);
    }
    Py_XDECREF(expected);
    Py_XDECREF(found);
    return -1;
}

int
tb_check_out(tb_state *state, const tb_context *context, PyArrayObject *out,
             int is_bfloat16, const tb_dtype *dtype, int ndim, const npy_intp *dims)
{
    if (check_type(state, context, out, is_bfloat16, dtype) < 0 ||
        check_shape(context, out, ndim, dims) < 0) {
        return -1;
    }
    if (!PyArray_ISWRITEABLE(out)) {
        return refuse_out(context,
                          "is read-only, expected an array that can be written");
    }
    if (!PyArray_ISCARRAY(out)) {
        return refuse_out(context,
                          "is not C-contiguous, aligned and in native byte order");
    }
    return 0;
}

int
tb_verify_out(const void *memory)
{
    const tb_out *out = (const tb_out *)memory;
    PyArrayObject *array = (PyArrayObject *)out->given;
    int is_bfloat16;

    array = PyArray_Check(out->given) ? (PyArrayObject *)Py_NewRef(out->given)
                                      : tb_tensor_array(out->context, -1, "out= is",
                                                        out->given, &is_bfloat16);
    if (array == NULL) {
        return -1;
    }
    int is_moved =
        PyArray_DATA(array) != out->data || PyArray_NBYTES(array) != out->bytes;
    Py_DECREF(array);
    return is_moved ? tb_raise_at(out->context, PyExc_RuntimeError, -1, -1,
                                  "out= changed size during conversion")
                    : 0;
}

/* --- shared memory ------------------------------------------------------------------ */

/* The bytes from the first element of an array to the last. */
static int
overlaps(PyArrayObject *array, const char *begin, const char *end)
{
    const char *low = PyArray_BYTES(array), *high = low + PyArray_ITEMSIZE(array);

    for (int d = 0; d < PyArray_NDIM(array); d++) {
        npy_intp size = PyArray_DIM(array, d), step = PyArray_STRIDE(array, d);
        if (size == 0) {
            return 0;
        }
        if (step > 0) {
            high += (size - 1) * step;
        }
        else {
            low += (size - 1) * step;
        }
    }
    return low < end && high > begin;
}

/* The array over the memory of a row as it was given; NULL without an exception if it
 * has no memory that can be written, as lists. */
static PyArrayObject *
row_array(tb_state *state, const tb_context *context, Py_ssize_t row, PyObject *object)
{
    PyObject *source = NULL;
    int is_bfloat16;

    if (PyArray_Check(object)) {
        return (PyArrayObject *)Py_NewRef(object);
    }
    if (PyList_Check(object) || PyTuple_Check(object)) {
        return NULL;
    }
    int is_tensor = tb_is_tensor(state, object);
    if (is_tensor != 0) {
        return is_tensor < 0
                   ? NULL
                   : tb_tensor_array(context, row, "found", object, &is_bfloat16);
    }
    if (PyObject_CheckBuffer(object)) {
        source = PyMemoryView_FromObject(object);
    }
    else if (tb_find_attribute(object, "__array_interface__", &source) > 0) {
        Py_SETREF(source, Py_NewRef(object));
    }
    PyArrayObject *array =
        source == NULL ? NULL : (PyArrayObject *)PyArray_FROM_O(source);
    Py_XDECREF(source);
    return array;
}

/* 1 if a row, or a chunk of a Ragged, shares memory with out=; 0, or -1. */
static int
shares(tb_state *state, const tb_context *context, Py_ssize_t row, PyObject *object,
       PyArrayObject *out)
{
    const char *begin = PyArray_BYTES(out), *end = begin + PyArray_NBYTES(out);
    int answer = 0;

    if (tb_is_ragged(state, object)) {
        const tb_ragged *buffers = tb_open_ragged(object);
        Py_ssize_t count = buffers == NULL ? 0 : PyTuple_GET_SIZE(buffers->chunks);
        for (Py_ssize_t k = 0; answer == 0 && k < count; k++) {
            PyObject *chunk = PyTuple_GET_ITEM(buffers->chunks, k);
            answer = overlaps((PyArrayObject *)chunk, begin, end);
        }
        return buffers == NULL ? -1 : answer;
    }
    PyArrayObject *array = row_array(state, context, row, object);
    if (array != NULL) {
        answer = overlaps(array, begin, end);
        Py_DECREF(array);
    }
    return PyErr_Occurred() ? -1 : answer;
}

Py_ssize_t
tb_find_sharing(tb_state *state, const tb_context *context, PyObject *rows,
                PyArrayObject *out)
{
    if (!PyTuple_Check(rows)) {
        int shared = shares(state, context, -1, rows, out);
        return shared < 0 ? -2 : shared - 1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(rows); i++) {
        int shared = shares(state, context, i, PyTuple_GET_ITEM(rows, i), out);
        if (shared != 0) {
            return shared < 0 ? -2 : i;
        }
    }
    return -1;
}
