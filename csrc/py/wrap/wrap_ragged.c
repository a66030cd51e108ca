/* For tightbatch.Ragged: copies rows into one buffer, and reads numbers and indices. */
#include "py/base/tb_numpy.h"
#include "py/input/lengths.h"
#include "py/input/ragged.h"
#include "py/input/settings.h"
#include "py/input/tensor.h"
#include "py/output/fill.h"
#include "py/output/layout.h"
#include "py/output/settle.h"

/* Copies surveyed rows, one after another: ndarray [total, *trailing], or NULL. */
static PyArrayObject *
flatten_column(tb_state *state, tb_column *column, const tb_pad_options *options)
{
    npy_intp dims[NPY_MAXDIMS];
    PyArrayObject *values = NULL;
    tb_layout layout;
    tb_read read = TB_READ_ERROR;

    do {
        Py_CLEAR(values);
        if (tb_lay_out(column, options, &layout) < 0) {
            return NULL;
        }
        int ndim = tb_output_shape(column, &layout, dims);
        PyArray_Descr *descr = tb_dtype_descr(state, &column->dtype);
        if (descr != NULL) {
            values =
                (PyArrayObject *)PyArray_SimpleNewFromDescr(ndim - 1, dims + 1, descr);
        }
        if (values == NULL) {
            return NULL;
        }
        read = tb_fill_rows(state, column, &layout, PyArray_DATA(values));
    } while (read == TB_READ_WIDEN);
    if (read == TB_READ_ERROR) {
        Py_CLEAR(values);
    }
    return values;
}

/* Where rows of these lengths start, if they lie one after another. */
static PyArrayObject *
new_starts(PyArrayObject *lengths)
{
    npy_intp count = PyArray_DIM(lengths, 0);
    PyArrayObject *starts = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_INT64);
    int64_t next = 0;

    for (npy_intp i = 0; starts != NULL && i < count; i++) {
        ((int64_t *)PyArray_DATA(starts))[i] = next;
        next += ((const int64_t *)PyArray_DATA(lengths))[i];
    }
    return starts;
}

/* The rows of a column whose values were copied, as an object of the class. Takes over
 * `values`, which may be NULL. */
static PyObject *
wrap_rows(tb_state *state, PyObject *type, const tb_column *column,
          PyArrayObject *values)
{
    tb_ragged buffers = {NULL, NULL, NULL, NULL};

    if (values == NULL) {
        return NULL;
    }
    buffers.chunks = PyTuple_Pack(1, values);
    Py_DECREF(values);
    buffers.lengths = buffers.chunks == NULL ? NULL : tb_new_lengths(column);
    buffers.starts = buffers.lengths == NULL ? NULL : new_starts(buffers.lengths);
    if (buffers.starts == NULL) {
        tb_clear_ragged(&buffers);
        return NULL;
    }
    return tb_new_ragged(state, type, &buffers);
}

/* Copies `sequences`, one row after another: an object of the class, or, if the class
 * is None, the values as an array. */
static PyObject *
flatten(tb_state *state, const tb_context *context, PyObject *type, PyObject *sequences,
        PyObject *dtype)
{
    static const tb_pad_options flat = {
        .width = -1, .max_length = -1, .multiple = 1, .flat = 1};
    tb_dtype asked = {TB_I64, 8, NULL};
    PyArrayObject *values = NULL;
    PyObject *answer = NULL;
    tb_column column;

    memset(&column, 0, sizeof column);
    int has_dtype = tb_dtype_from_object(state, context, dtype, &asked);
    if (has_dtype >= 0 && tb_survey_rows(state, context, sequences, &column) == 0 &&
        tb_settle_dtype(state, &column, &flat, has_dtype ? &asked : NULL) == 0) {
        values = flatten_column(state, &column, &flat);
        answer = type == Py_None ? (PyObject *)values
                                 : wrap_rows(state, type, &column, values);
    }
    Py_XDECREF((PyObject *)asked.descr);
    tb_clear_column(&column);
    return answer;
}

/* flatten(function, class, key, sequences, dtype) -> class */
static PyObject *
wrap_flatten(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};

    if (tb_check_count("flatten", nargs, 5) < 0) {
        return NULL;
    }
    context.key = args[2] == Py_None ? NULL : args[2];
    return tb_read_function(args[0], &context) < 0
               ? NULL
               : flatten(tb_state_of(module), &context, args[1], args[3], args[4]);
}

/* as_numbers(function, key, numbers) -> ndarray [n], of one list of numbers */
static PyObject *
wrap_as_numbers(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {.one_row = 1};

    if (tb_check_count("as_numbers", nargs, 3) < 0 ||
        tb_read_function(args[0], &context) < 0) {
        return NULL;
    }
    context.key = args[1];
    PyObject *one = PyTuple_Pack(1, args[2]);
    PyObject *answer =
        one == NULL ? NULL
                    : flatten(tb_state_of(module), &context, Py_None, one, Py_None);
    Py_XDECREF(one);
    return answer;
}

/* read_offsets(function, name, offsets) -> int64 [n], new */
static PyObject *
wrap_read_offsets(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};

    if (tb_check_count("read_offsets", nargs, 3) < 0 ||
        tb_read_function(args[0], &context) < 0) {
        return NULL;
    }
    context.argument = PyUnicode_AsUTF8(args[1]);
    return context.argument == NULL
               ? NULL
               : (PyObject *)tb_read_lengths(tb_state_of(module), &context, args[2]);
}

/* A tensor's memory as an array; bfloat16 has the type of ml_dtypes. */
static PyObject *
array_of_tensor(tb_state *state, const tb_context *context, PyObject *tensor)
{
    tb_dtype dtype = {TB_BF16, 2, NULL};
    int is_bfloat16 = 0;
    PyArrayObject *array = tb_tensor_array(context, -1, "found", tensor, &is_bfloat16);

    if (array != NULL && is_bfloat16) {
        PyArray_Descr *descr = tb_dtype_descr(state, &dtype);
        Py_SETREF(array, descr == NULL
                             ? NULL
                             : (PyArrayObject *)PyArray_View(array, descr, NULL));
    }
    return (PyObject *)array;
}

/* as_array(function, key, source) -> ndarray: an array itself, the memory of a CPU
 * tensor or a buffer, or what NumPy makes of any other object. */
static PyObject *
wrap_as_array(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_state *state = tb_state_of(module);
    tb_context context = {0};

    if (tb_check_count("as_array", nargs, 3) < 0 ||
        tb_read_function(args[0], &context) < 0) {
        return NULL;
    }
    context.key = args[1] == Py_None ? NULL : args[1];
    int is_tensor = tb_is_tensor(state, args[2]);
    if (is_tensor != 0) {
        is_tensor =
            is_tensor < 0 ? -1 : tb_refuse_grad(state, &context, -1, -1, args[2]);
        return is_tensor < 0 ? NULL : array_of_tensor(state, &context, args[2]);
    }
    PyObject *source = PyBytes_Check(args[2]) || PyByteArray_Check(args[2])
                           ? PyMemoryView_FromObject(args[2])
                           : Py_NewRef(args[2]);
    PyArrayObject *array =
        source == NULL ? NULL : (PyArrayObject *)PyArray_FROM_O(source);
    Py_XDECREF(source);
    int masked = array == NULL ? -1 : tb_is_masked(array);
    if (masked > 0) {
        tb_raise_at(&context, PyExc_TypeError, -1, -1, TB_MASKED);
    }
    if (masked != 0) {
        Py_CLEAR(array);
    }
    return (PyObject *)array;
}

/* as_indices(function, indices, count) -> int64 [n]: each from 0 to count - 1; negative
 * ones, down to -count, count from the end. */
static PyObject *
wrap_as_indices(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {.argument = "indices"};
    PyArrayObject *indices;
    Py_ssize_t count;

    if (tb_check_count("as_indices", nargs, 3) < 0) {
        return NULL;
    }
    if (tb_read_function(args[0], &context) < 0) {
        return NULL;
    }
    count = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    indices = tb_read_lengths(tb_state_of(module), &context, args[1]);
    if (indices == NULL) {
        return NULL;
    }
    int64_t *index = (int64_t *)PyArray_DATA(indices);
    for (npy_intp i = 0; i < PyArray_DIM(indices, 0); i++) {
        if (index[i] < -count || index[i] >= count) {
            PyErr_Format(
                PyExc_IndexError,
                "%s(): indices: index %lld (at position %zd) is outside %zd rows",
                context.function, (long long)index[i], (Py_ssize_t)i, count);
            Py_DECREF(indices);
            return NULL;
        }
        index[i] += index[i] < 0 ? count : 0;
    }
    return (PyObject *)indices;
}

PyMethodDef tb_ragged_methods[] = {
    {"flatten", (PyCFunction)(void (*)(void))wrap_flatten, METH_FASTCALL, NULL},
    {"as_numbers", (PyCFunction)(void (*)(void))wrap_as_numbers, METH_FASTCALL, NULL},
    {"as_array", (PyCFunction)(void (*)(void))wrap_as_array, METH_FASTCALL, NULL},
    {"read_offsets", (PyCFunction)(void (*)(void))wrap_read_offsets, METH_FASTCALL,
     NULL},
    {"as_indices", (PyCFunction)(void (*)(void))wrap_as_indices, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
