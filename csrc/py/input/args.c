#include "py/input/args.h"

int
tb_check_count(const char *function, Py_ssize_t given, Py_ssize_t expected)
{
    if (given != expected) {
        PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments by position, %zd given",
                     function, expected, given);
        return -1;
    }
    return 0;
}

int
tb_read_size(const tb_context *context, const char *name, PyObject *value,
             Py_ssize_t least, Py_ssize_t missing, Py_ssize_t *out)
{
    if (value == Py_None) {
        *out = missing;
        return 0;
    }
    int is_array = PyArray_Check(value); /* has an __index__, whatever its elements */
    if (PyBool_Check(value) || !PyIndex_Check(value) ||
        (is_array && (PyArray_NDIM((PyArrayObject *)value) > 0 ||
                      !PyArray_ISINTEGER((PyArrayObject *)value)))) {
        return tb_raise_at(context, PyExc_TypeError, -1, -1,
                           "%s=%R; expected an integer", name, value);
    }
    *out = PyNumber_AsSsize_t(value, PyExc_OverflowError);
    if (*out == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            tb_raise_at(context, PyExc_OverflowError, -1, -1,
                        "%s=%R; expected at most %zd", name, value, PTRDIFF_MAX);
        }
        return -1;
    }
    if (*out < least) {
        return tb_raise_at(context, PyExc_ValueError, -1, -1,
                           "%s=%R; expected an integer of at least %zd", name, value,
                           least);
    }
    return 0;
}

int
tb_read_side(tb_state *state, const tb_context *context, const char *name,
             PyObject *value, int *is_left)
{
    int is_right = value == state->str_right;

    *is_left = value == state->str_left;
    if (!is_right && !*is_left && PyUnicode_Check(value)) {
        is_right = PyUnicode_CompareWithASCIIString(value, "right") == 0;
        *is_left = PyUnicode_CompareWithASCIIString(value, "left") == 0;
    }
    if (is_right || *is_left) {
        return 0;
    }
    return tb_raise_at(context,
                       PyUnicode_Check(value) ? PyExc_ValueError : PyExc_TypeError, -1,
                       -1, "%s=%R; expected 'right' or 'left'", name, value);
}

int
tb_read_flag(PyObject *value, int *out)
{
    *out = PyObject_IsTrue(value);
    return *out < 0 ? -1 : 0;
}

int
tb_read_pad_options(tb_state *state, const tb_context *context, PyObject *width,
                    PyObject *max_length, PyObject *padding_side,
                    PyObject *truncation_side, PyObject *multiple,
                    tb_pad_options *options)
{
    return tb_read_size(context, "max_length", max_length, 0, -1,
                        &options->max_length) < 0 ||
                   tb_read_size(context, "width", width, 0, -1, &options->width) < 0 ||
                   tb_read_side(state, context, "padding_side", padding_side,
                                &options->pad_left) < 0 ||
                   tb_read_side(state, context, "truncation_side", truncation_side,
                                &options->cut_left) < 0 ||
                   tb_read_size(context, "pad_to_multiple_of", multiple, 1, 1,
                                &options->multiple) < 0
               ? -1
               : 0;
}

/* Lengths are one row of integers, so they are read as one. */
PyArrayObject *
tb_read_lengths(tb_state *state, const tb_context *context, PyObject *lengths)
{
    tb_column column;
    tb_layout layout;
    tb_pad_options options = {.width = -1, .max_length = -1, .multiple = 1};
    tb_dtype int64 = {TB_I64, 8, NULL};
    PyArrayObject *array = NULL;
    PyObject *one = PyTuple_Pack(1, lengths);
    tb_context nameless = *context;

    if (one == NULL) {
        return NULL;
    }
    nameless.is_flat = 1;
    if (tb_survey_rows(state, &nameless, one, &column) == 0 &&
        tb_settle_dtype(state, &column, &options, &int64) == 0 &&
        tb_lay_out(&column, &options, &layout) == 0) {
        npy_intp count = layout.width;
        if (column.ndim > 0) {
            tb_raise_at(context, PyExc_TypeError, -1, -1,
                        "lengths has %d dimensions, expected one", column.ndim + 1);
        }
        else {
            array = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_INT64);
        }
        if (array != NULL && tb_fill_rows(state, &column, &layout,
                                          PyArray_DATA(array)) != TB_READ_DONE) {
            Py_CLEAR(array);
        }
    }
    tb_clear_column(&column);
    Py_DECREF(one);
    return array;
}

int
tb_raise_length(const tb_context *context, tb_status status, const tb_error *error,
                Py_ssize_t limit)
{
    PyObject *exception = tb_status_exception(status);

    switch (status) {
        case TB_ERR_NEGATIVE:
            return tb_raise_at(context, exception, error->row, -1,
                               "length %lld is negative", (long long)error->value);
        case TB_ERR_TOO_LONG:
            return tb_raise_at(context, exception, error->row, -1,
                               "length %lld is more than width=%zd",
                               (long long)error->value, limit);
        default:
            return tb_raise_at(context, exception, error->row, -1,
                               "the lengths add up to more than can be addressed");
    }
}
