/* What tightbatch.Ragged leaves to C: rows put together in one buffer, and indices. */
#include "py/base/tb_numpy.h"
#include "py/input/lengths.h"

static PyObject *
wrap_register_ragged(PyObject *module, PyObject *type)
{
    tb_state *state = tb_state_of(module);

    if (!PyType_Check(type)) {
        PyErr_SetString(PyExc_TypeError, "register_ragged() takes a class");
        return NULL;
    }
    Py_XSETREF(state->ragged, (PyTypeObject *)Py_NewRef(type));
    Py_RETURN_NONE;
}

/* Rows already surveyed, one after another: ndarray [total, *trailing], or NULL. */
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

/* flatten(function, sequences, dtype) -> (values [total, *trailing], lengths [batch])
 */
static PyObject *
wrap_flatten(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    static const tb_pad_options flat = {
        .width = -1, .max_length = -1, .multiple = 1, .flat = 1};
    tb_state *state = tb_state_of(module);
    tb_context context = {0};
    tb_dtype asked = {TB_I64, 8, NULL};
    PyArrayObject *values = NULL, *lengths = NULL;
    PyObject *answer = NULL;
    tb_column column;

    memset(&column, 0, sizeof column);
    if (tb_check_count("flatten", nargs, 5) < 0 ||
        tb_read_flag(&context, "is_flat", args[4], &context.one_row) < 0) {
        return NULL;
    }
    context.function = PyUnicode_AsUTF8(args[0]);
    context.key = args[1] == Py_None ? NULL : args[1];
    int has_dtype = context.function == NULL
                        ? -1
                        : tb_dtype_from_object(state, &context, args[3], &asked);
    if (has_dtype >= 0 && tb_survey_rows(state, &context, args[2], &column) == 0 &&
        tb_settle_dtype(state, &column, &flat, has_dtype ? &asked : NULL) == 0) {
        values = flatten_column(state, &column, &flat);
    }
    if (values != NULL) {
        lengths = tb_new_lengths(&column);
    }
    if (lengths != NULL) {
        answer = PyTuple_Pack(2, values, lengths);
    }
    Py_XDECREF((PyObject *)values);
    Py_XDECREF((PyObject *)lengths);
    Py_XDECREF((PyObject *)asked.descr);
    tb_clear_column(&column);
    return answer;
}

/* as_indices(function, indices, count) -> int64 [n]: each from 0 to count - 1; those
 * given from -count on count from the end. */
static PyObject *
wrap_as_indices(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {.argument = "indices"};
    PyArrayObject *indices;
    Py_ssize_t count;

    if (tb_check_count("as_indices", nargs, 3) < 0) {
        return NULL;
    }
    context.function = PyUnicode_AsUTF8(args[0]);
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
            PyErr_Format(PyExc_IndexError,
                         "%s(): index %lld (at place %zd) is outside %zd rows",
                         context.function, (long long)index[i], (Py_ssize_t)i, count);
            Py_DECREF(indices);
            return NULL;
        }
        index[i] += index[i] < 0 ? count : 0;
    }
    return (PyObject *)indices;
}

PyMethodDef tb_ragged_methods[] = {
    {"register_ragged", wrap_register_ragged, METH_O, NULL},
    {"flatten", (PyCFunction)(void (*)(void))wrap_flatten, METH_FASTCALL, NULL},
    {"as_indices", (PyCFunction)(void (*)(void))wrap_as_indices, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
