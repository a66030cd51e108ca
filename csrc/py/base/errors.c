#include "py/base/errors.h"

#include <stdarg.h>

int
tb_raise_at(const tb_context *context, PyObject *exception, Py_ssize_t row,
            Py_ssize_t column, const char *format, ...)
{
    PyObject *message = NULL, *where = NULL;
    va_list args;

    if (context->is_flat) {
        row = column;
        column = -1;
    }
    if (context->rows != NULL && row >= 0) {
        row = context->rows[row];
    }
    va_start(args, format);
    message = PyUnicode_FromFormatV(format, args);
    va_end(args);
    if (message == NULL) {
        return -1;
    }
    where = context->key == NULL
                ? PyUnicode_FromFormat("%s(): ", context->function)
                : PyUnicode_FromFormat("%s(): key %R%s", context->function,
                                       context->key, row >= 0 ? ", " : ": ");
    if (where != NULL && row >= 0) {
        PyObject *longer =
            column >= 0
                ? PyUnicode_FromFormat("%Urow %zd, column %zd: ", where, row, column)
                : PyUnicode_FromFormat("%Urow %zd: ", where, row);
        Py_SETREF(where, longer);
    }
    if (where != NULL) {
        PyErr_Format(exception, "%U%U", where, message);
    }
    Py_XDECREF(where);
    Py_DECREF(message);
    return -1;
}

PyObject *
tb_describe(PyObject *object)
{
    const char *type = Py_TYPE(object)->tp_name;
    PyObject *text = PyUnicode_FromFormat("%.100R (%s)", object, type);

    if (text == NULL && !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear();
        text = PyUnicode_FromFormat("a %s that cannot be printed", type);
    }
    return text;
}

PyObject *
tb_status_exception(tb_status status)
{
    switch (status) {
        case TB_ERR_RANGE:
            return PyExc_OverflowError;
        case TB_ERR_MEMORY:
            return PyExc_MemoryError;
        case TB_OK:
            return PyExc_SystemError;
        case TB_ERR_INEXACT:
        case TB_ERR_OVERFLOW:
        case TB_ERR_NEGATIVE:
        case TB_ERR_TOO_LONG:
        case TB_ERR_SIZE:
        case TB_ERR_REPEATED:
        case TB_ERR_ARROW:
            break;
    }
    return PyExc_ValueError;
}
