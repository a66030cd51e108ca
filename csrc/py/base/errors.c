#include "py/base/errors.h"

#include <stdarg.h>

/* Characters of a value that a message repeats. */
enum { LONGEST_SHOWN = 100 };

int
tb_raise_at(const tb_context *context, PyObject *exception, Py_ssize_t row,
            Py_ssize_t column, const char *format, ...)
{
    PyObject *message = NULL, *where = NULL;
    va_list args;

    if (context->one_row) {
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
    const char *after = row >= 0 ? ", " : ": ";
    if (context->key != NULL) {
        PyObject *key = tb_show(context->key);
        if (key != NULL) {
            where =
                PyUnicode_FromFormat("%s(): key %U%s", context->function, key, after);
            Py_DECREF(key);
        }
    }
    else if (context->argument != NULL) {
        where = PyUnicode_FromFormat("%s(): %s%s", context->function, context->argument,
                                     after);
    }
    else {
        where = PyUnicode_FromFormat("%s(): ", context->function);
    }
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

void
tb_set_cause(PyObject *cause)
{
    PyObject *exception = cause == NULL ? NULL : tb_save_exception();

    if (exception != NULL) {
        PyException_SetCause(exception, Py_NewRef(cause));
        tb_restore_exception(exception);
    }
}

/* repr() of a number of more digits than sys.get_int_max_str_digits() raises. */
static PyObject *
show_unprintable(PyObject *object)
{
    if (PyLong_Check(object)) {
        PyObject *bits = PyObject_CallMethod(object, "bit_length", NULL);
        PyObject *text =
            bits == NULL ? NULL : PyUnicode_FromFormat("an integer of %S bits", bits);
        Py_XDECREF(bits);
        return text;
    }
    return PyUnicode_FromFormat("an object of type %s that cannot be printed",
                                Py_TYPE(object)->tp_name);
}

PyObject *
tb_show(PyObject *object)
{
    PyObject *text = PyObject_Repr(object);

    if (text == NULL && !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear();
        return show_unprintable(object);
    }
    if (text != NULL && PyUnicode_GET_LENGTH(text) > LONGEST_SHOWN) {
        PyObject *cut = PyUnicode_Substring(text, 0, LONGEST_SHOWN);
        Py_SETREF(text, cut == NULL ? NULL : PyUnicode_FromFormat("%U...", cut));
        Py_XDECREF(cut);
    }
    return text;
}

PyObject *
tb_describe(PyObject *object)
{
    PyObject *shown = tb_show(object), *text = NULL;

    if (shown != NULL) {
        text = PyUnicode_FromFormat("%U (%s)", shown, Py_TYPE(object)->tp_name);
        Py_DECREF(shown);
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
        case TB_ERR_INTERRUPTED: /* the poll has raised */
        case TB_ERR_ARROW:
            break;
    }
    return PyExc_ValueError;
}
