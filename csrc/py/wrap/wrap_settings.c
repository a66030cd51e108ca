/* The readers of settings, for settings that only Python code uses. */
#include "py/base/tb_numpy.h"
#include "py/input/lengths.h"

enum { MOST_CHOICES = 15 };

/* The function's name and the setting's: args[0] and args[1]. */
static const char *
read_names(PyObject *const *args, Py_ssize_t nargs, Py_ssize_t expected,
           tb_context *context)
{
    if (tb_check_count("read", nargs, expected) < 0 ||
        tb_read_function(args[0], context) < 0) {
        return NULL;
    }
    return PyUnicode_AsUTF8(args[1]);
}

/* read_int(function, name, value, least, most) -> int; most is up to 2**64 - 1 */
static PyObject *
wrap_read_int(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    const char *name = read_names(args, nargs, 5, &context);
    int64_t number;
    int overflow;

    if (name == NULL) {
        return NULL;
    }
    int64_t least = PyLong_AsLongLong(args[3]);
    int64_t most = PyLong_AsLongLongAndOverflow(args[4], &overflow);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (overflow > 0) {
        uint64_t large;
        return tb_read_uint64(&context, name, args[2], &large) < 0
                   ? NULL
                   : PyLong_FromUnsignedLongLong(large);
    }
    return tb_read_int(&context, name, args[2], least, most, TB_REQUIRED, &number) < 0
               ? NULL
               : PyLong_FromLongLong(number);
}

/* read_index(function, name, value, count) -> int from 0 to count - 1 */
static PyObject *
wrap_read_index(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    const char *name = read_names(args, nargs, 4, &context);
    Py_ssize_t index;

    if (name == NULL) {
        return NULL;
    }
    Py_ssize_t count = PyLong_AsSsize_t(args[3]);
    return PyErr_Occurred() || tb_read_index(&context, name, args[2], count, &index) < 0
               ? NULL
               : PyLong_FromSsize_t(index);
}

/* read_flag(function, name, value) -> bool */
static PyObject *
wrap_read_flag(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    const char *name = read_names(args, nargs, 3, &context);
    int flag;

    return name == NULL || tb_read_flag(&context, name, args[2], &flag) < 0
               ? NULL
               : PyBool_FromLong(flag);
}

/* read_real(function, name, value, least, most) -> float */
static PyObject *
wrap_read_real(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    const char *name = read_names(args, nargs, 5, &context);
    double number;

    if (name == NULL) {
        return NULL;
    }
    double least = PyFloat_AsDouble(args[3]), most = PyFloat_AsDouble(args[4]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    return tb_read_real(&context, name, args[2], least, most, &number) < 0
               ? NULL
               : PyFloat_FromDouble(number);
}

/* read_choice(function, name, value, choices: tuple of str) -> str */
static PyObject *
wrap_read_choice(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    const char *name = read_names(args, nargs, 4, &context);
    const char *choices[MOST_CHOICES + 1] = {NULL};
    int place;

    if (name == NULL) {
        return NULL;
    }
    Py_ssize_t count = PyTuple_Size(args[3]);
    if (count < 0 || count > MOST_CHOICES) {
        PyErr_SetString(PyExc_SystemError, "read_choice(): too many choices");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        choices[i] = PyUnicode_AsUTF8(PyTuple_GET_ITEM(args[3], i));
        if (choices[i] == NULL) {
            return NULL;
        }
    }
    return tb_read_choice(&context, name, args[2], choices, &place) < 0
               ? NULL
               : Py_NewRef(PyTuple_GET_ITEM(args[3], place));
}

/* read_lengths(function, name, lengths) -> int64 [rows], none negative */
static PyObject *
wrap_read_lengths(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    ptrdiff_t total;

    context.argument = read_names(args, nargs, 3, &context);
    if (context.argument == NULL) {
        return NULL;
    }
    PyArrayObject *lengths = tb_read_lengths(tb_state_of(module), &context, args[2]);
    if (lengths != NULL && tb_check_row_lengths(&context, lengths, -1, &total) < 0) {
        Py_CLEAR(lengths);
    }
    return (PyObject *)lengths;
}

/* read_boundaries(function, key or None, boundaries) -> int64 [n], ascending */
static PyObject *
wrap_read_boundaries(PyObject *Py_UNUSED(module), PyObject *const *args,
                     Py_ssize_t nargs)
{
    tb_context context = {0};

    if (tb_check_count("read_boundaries", nargs, 3) < 0 ||
        tb_read_function(args[0], &context) < 0) {
        return NULL;
    }
    context.key = args[1] == Py_None ? NULL : args[1];
    return (PyObject *)tb_read_boundaries(&context, args[2]);
}

/* show(value) -> str: the value as messages show it */
static PyObject *
wrap_show(PyObject *Py_UNUSED(module), PyObject *value)
{
    return tb_show(value);
}

/* describe(value) -> str: the same with its type */
static PyObject *
wrap_describe(PyObject *Py_UNUSED(module), PyObject *value)
{
    return tb_describe(value);
}

PyMethodDef tb_setting_methods[] = {
    {"show", wrap_show, METH_O, NULL},
    {"describe", wrap_describe, METH_O, NULL},
    {"read_int", (PyCFunction)(void (*)(void))wrap_read_int, METH_FASTCALL, NULL},
    {"read_index", (PyCFunction)(void (*)(void))wrap_read_index, METH_FASTCALL, NULL},
    {"read_flag", (PyCFunction)(void (*)(void))wrap_read_flag, METH_FASTCALL, NULL},
    {"read_real", (PyCFunction)(void (*)(void))wrap_read_real, METH_FASTCALL, NULL},
    {"read_choice", (PyCFunction)(void (*)(void))wrap_read_choice, METH_FASTCALL, NULL},
    {"read_lengths", (PyCFunction)(void (*)(void))wrap_read_lengths, METH_FASTCALL,
     NULL},
    {"read_boundaries", (PyCFunction)(void (*)(void))wrap_read_boundaries,
     METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
