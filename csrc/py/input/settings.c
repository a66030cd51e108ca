#include "py/input/settings.h"

#include "py/input/array.h"

#include <string.h>

const char *const tb_sides[] = {"right", "left", NULL};
const char *const tb_overlong_choices[] = {"error", "truncate", "split", "drop", NULL};

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
tb_read_function(PyObject *name, tb_context *context)
{
    context->function = PyUnicode_AsUTF8(name);
    return context->function == NULL ? -1 : 0;
}

/* "name=value; expected ..." */
static int
refuse(const tb_context *context, PyObject *exception, const char *name,
       PyObject *value, const char *expected)
{
    PyObject *found = tb_show(value);
    tb_context own = *context;

    own.argument = NULL; /* the setting is named instead */
    if (found != NULL) {
        tb_raise_at(&own, exception, -1, -1, "%s=%U; expected %s", name, found,
                    expected);
        Py_DECREF(found);
    }
    return -1;
}

static int
refuse_above(const tb_context *context, const char *name, PyObject *value,
             unsigned long long most)
{
    char expected[40];

    PyOS_snprintf(expected, sizeof expected, "at most %llu", most);
    return refuse(context, PyExc_OverflowError, name, value, expected);
}

static int
refuse_below(const tb_context *context, const char *name, PyObject *value,
             int64_t least)
{
    char expected[60];

    PyOS_snprintf(expected, sizeof expected, "an integer of at least %lld",
                  (long long)least);
    return refuse(context, PyExc_ValueError, name, value, expected);
}

/* Whether `value`, which is not a Python int, is a bool of NumPy or torch. */
static int
is_boxed_bool(PyObject *value)
{
    PyObject *dtype, *text;
    int answer = 0;

    if (PyArray_Check(value) || PyArray_CheckScalar(value)) {
        return PyArray_IsScalar(value, Bool) ||
               (PyArray_Check(value) && PyArray_ISBOOL((PyArrayObject *)value));
    }
    int found = tb_find_attribute(value, "dtype", &dtype);
    if (found <= 0) {
        return found;
    }
    text = PyObject_Str(dtype);
    Py_DECREF(dtype);
    if (text == NULL) {
        return -1;
    }
    answer = PyUnicode_CompareWithASCIIString(text, "torch.bool") == 0 ||
             PyUnicode_CompareWithASCIIString(text, "bool") == 0;
    Py_DECREF(text);
    return answer;
}

/* Whether `value` is a tensor, or its like, of one or more dimensions: with a single
 * element it has an __index__, too. */
static int
has_dimensions(PyObject *value)
{
    PyObject *ndim;

    if (PyArray_Check(value) || PyArray_CheckScalar(value)) {
        return 0;
    }
    int found = tb_find_attribute(value, "ndim", &ndim);
    if (found <= 0) {
        return found;
    }
    int answer = PyObject_IsTrue(ndim);
    Py_DECREF(ndim);
    return answer;
}

/* Whether the exception that is set is of a tensor that has no value to read, such as
 * one that vmap() or torch.export traces. */
static int
is_valueless_tensor(PyObject *value)
{
    PyObject *ndim = NULL, *exception;

    if (!PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        return 0;
    }
    exception = tb_save_exception();
    int found = tb_find_attribute(value, "ndim", &ndim);
    Py_XDECREF(ndim);
    PyErr_Clear();
    tb_restore_exception(exception);
    return found > 0;
}

/* The Python int that `value` is, a new reference; NULL, without an exception, for what
 * is no integer. */
static PyObject *
as_python_int(PyObject *value)
{
    if (PyLong_CheckExact(value)) {
        return Py_NewRef(value);
    }
    if (PyBool_Check(value) || !PyIndex_Check(value) || is_boxed_bool(value) != 0 ||
        has_dimensions(value) != 0) {
        return NULL;
    }
    /* Arrays have an __index__, whatever they hold, and masked ones under their mask. */
    if (PyArray_Check(value) && (PyArray_NDIM((PyArrayObject *)value) > 0 ||
                                 !PyArray_ISINTEGER((PyArrayObject *)value) ||
                                 tb_is_masked((PyArrayObject *)value) != 0)) {
        return NULL;
    }
    PyObject *number = PyNumber_Index(value);
    if (number == NULL &&
        (PyErr_ExceptionMatches(PyExc_TypeError) || is_valueless_tensor(value))) {
        PyErr_Clear(); /* tensors have one too */
    }
    return number;
}

static PyObject *
read_python_int(const tb_context *context, const char *name, PyObject *value)
{
    PyObject *number = as_python_int(value);

    if (number == NULL && !PyErr_Occurred()) {
        refuse(context, PyExc_TypeError, name, value, "an integer");
    }
    return number;
}

int
tb_read_int(const tb_context *context, const char *name, PyObject *value, int64_t least,
            int64_t most, int64_t missing, int64_t *out)
{
    int overflow;

    if (value == Py_None && missing != TB_REQUIRED) {
        *out = missing;
        return 0;
    }
    PyObject *number = read_python_int(context, name, value);
    if (number == NULL) {
        return -1;
    }
    *out = PyLong_AsLongLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    if (overflow > 0 || (overflow == 0 && *out > most)) {
        return refuse_above(context, name, value, (unsigned long long)most);
    }
    if (overflow < 0 || *out < least) {
        return refuse_below(context, name, value, least);
    }
    return 0;
}

int
tb_read_size(const tb_context *context, const char *name, PyObject *value,
             Py_ssize_t least, int64_t missing, Py_ssize_t *out)
{
    int64_t number;

    if (tb_read_int(context, name, value, least, PTRDIFF_MAX, missing, &number) < 0) {
        return -1;
    }
    *out = (Py_ssize_t)number;
    return 0;
}

int
tb_read_index(const tb_context *context, const char *name, PyObject *value,
              Py_ssize_t count, Py_ssize_t *out)
{
    PyObject *number = read_python_int(context, name, value);
    char expected[80];
    int overflow;

    if (number == NULL) {
        return -1;
    }
    long long index = PyLong_AsLongLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    if (overflow == 0 && index >= -count && index < count) {
        *out = (Py_ssize_t)(index < 0 ? index + count : index);
        return 0;
    }
    PyOS_snprintf(expected, sizeof expected, "an index from %lld to %lld",
                  -(long long)count, (long long)count - 1);
    return refuse(
        context, PyExc_IndexError, name, value,
        count == 0 ? "no index, because there is nothing to choose from" : expected);
}

int
tb_read_uint64(const tb_context *context, const char *name, PyObject *value,
               uint64_t *out)
{
    PyObject *number = read_python_int(context, name, value);
    int overflow;

    if (number == NULL) {
        return -1;
    }
    long long small = PyLong_AsLongLongAndOverflow(number, &overflow);
    *out = (uint64_t)small;
    if (overflow > 0) {
        *out = PyLong_AsUnsignedLongLong(number);
        if (PyErr_Occurred()) {
            PyErr_Clear();
            Py_DECREF(number);
            return refuse_above(context, name, value, UINT64_MAX);
        }
    }
    Py_DECREF(number);
    if (overflow < 0 || (overflow == 0 && small < 0)) {
        return refuse_below(context, name, value, 0);
    }
    return 0;
}

int
tb_read_flag(const tb_context *context, const char *name, PyObject *value, int *out)
{
    if (PyBool_Check(value)) {
        *out = value == Py_True;
        return 0;
    }
    if (PyArray_IsScalar(value, Bool)) {
        *out = PyObject_IsTrue(value);
        return *out < 0 ? -1 : 0;
    }
    return refuse(context, PyExc_TypeError, name, value, "a bool");
}

int
tb_read_real(const tb_context *context, const char *name, PyObject *value, double least,
             double most, double *out)
{
    int is_number = PyFloat_Check(value) || PyArray_IsScalar(value, Floating);
    char expected[100];

    if (is_number) {
        *out = PyFloat_AsDouble(value);
    }
    else {
        PyObject *number = as_python_int(value);
        is_number = number != NULL;
        *out = is_number ? PyLong_AsDouble(number) : 0.0;
        Py_XDECREF(number);
    }
    if (PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear(); /* an int beyond all floats */
        return refuse(context, PyExc_OverflowError, name, value,
                      "a number that a float can hold");
    }
    if (!is_number) {
        return refuse(context, PyExc_TypeError, name, value, "a number");
    }
    if (*out >= least && *out <= most) {
        return 0;
    }
    PyOS_snprintf(expected, sizeof expected, "a number from %.17g to %.17g", least,
                  most);
    return refuse(context, PyExc_ValueError, name, value, expected);
}

/* "'a' or 'b'", "'a', 'b' or 'c'" */
static void
list_choices(const char *const choices[], char *text, size_t size)
{
    text[0] = '\0';
    for (int i = 0; choices[i] != NULL; i++) {
        size_t used = strlen(text);
        const char *between = i == 0 ? "" : choices[i + 1] == NULL ? " or " : ", ";
        PyOS_snprintf(text + used, size - used, "%s'%s'", between, choices[i]);
    }
}

int
tb_read_choice(const tb_context *context, const char *name, PyObject *value,
               const char *const choices[], int *out)
{
    char expected[200];

    for (int i = 0; PyUnicode_Check(value) && choices[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(value, choices[i]) == 0) {
            *out = i;
            return 0;
        }
    }
    list_choices(choices, expected, sizeof expected);
    return refuse(context, PyUnicode_Check(value) ? PyExc_ValueError : PyExc_TypeError,
                  name, value, expected);
}

/* --- tables ----------------------------------------------------------------------- */

static int
read_setting(const tb_context *context, const tb_setting *setting, PyObject *value,
             char *field)
{
    int64_t most = setting->most == 0 ? INT64_MAX : setting->most;

    switch (setting->kind) {
        case TB_SETTING_INT:
            return tb_read_int(context, setting->name, value, setting->least, most,
                               setting->missing, (int64_t *)(void *)field);
        case TB_SETTING_UINT64:
            return tb_read_uint64(context, setting->name, value,
                                  (uint64_t *)(void *)field);
        case TB_SETTING_FLAG:
            return tb_read_flag(context, setting->name, value, (int *)(void *)field);
        case TB_SETTING_CHOICE:
            return tb_read_choice(context, setting->name, value, setting->choices,
                                  (int *)(void *)field);
    }
    return -1;
}

int
tb_read_settings(const tb_context *context, const tb_setting *table, size_t count,
                 PyObject *mapping, void *out)
{
    for (size_t i = 0; i < count; i++) {
        PyObject *value = PyMapping_GetItemString(mapping, table[i].name);
        if (value == NULL) {
            return -1;
        }
        int answer =
            read_setting(context, &table[i], value, (char *)out + table[i].offset);
        Py_DECREF(value);
        if (answer < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
setting_as_object(const tb_setting *setting, const char *field)
{
    int64_t number;

    switch (setting->kind) {
        case TB_SETTING_INT:
            number = *(const int64_t *)(const void *)field;
            return number == setting->missing && setting->missing != TB_REQUIRED
                       ? Py_NewRef(Py_None)
                       : PyLong_FromLongLong(number);
        case TB_SETTING_UINT64:
            return PyLong_FromUnsignedLongLong(*(const uint64_t *)(const void *)field);
        case TB_SETTING_FLAG:
            return PyBool_FromLong(*(const int *)(const void *)field);
        case TB_SETTING_CHOICE:
            return PyUnicode_FromString(
                setting->choices[*(const int *)(const void *)field]);
    }
    return NULL;
}

PyObject *
tb_dict_of_settings(const tb_setting *table, size_t count, const void *from)
{
    PyObject *dict = PyDict_New();

    for (size_t i = 0; dict != NULL && i < count; i++) {
        PyObject *value =
            setting_as_object(&table[i], (const char *)from + table[i].offset);
        if (value == NULL || PyDict_SetItemString(dict, table[i].name, value) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(value);
    }
    return dict;
}
