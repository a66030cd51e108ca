/* number_groups(), plan_groups(), fingerprint() and assign_buckets(): groups of rows. */
#include "py/base/tb_numpy.h"
#include "py/base/state.h"
#include "py/input/plan_settings.h"
#include "py/output/plan_arrays.h"
#include "core/base/memory.h"
#include "core/plan/batching.h"
#include "core/plan/groups.h"
#include "core/plan/rectangles.h"
#include "core/plan/survey.h"

#include <stdlib.h>

/* A number, a string, or a tuple of these: what is equal to itself, and will be. */
static int
is_label(PyObject *label)
{
    if (PyUnicode_Check(label) || PyBytes_Check(label) || PyLong_Check(label) ||
        PyArray_IsScalar(label, Integer)) {
        return 1;
    }
    if (!PyTuple_Check(label)) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(label); i++) {
        if (!is_label(PyTuple_GET_ITEM(label, i)) ||
            PyTuple_Check(PyTuple_GET_ITEM(label, i))) {
            return 0;
        }
    }
    return 1;
}

/* The label of a row, new; a list counts as a tuple. */
static PyObject *
read_label(const tb_context *context, PyObject *given, Py_ssize_t row)
{
    PyObject *label = PyList_Check(given) ? PyList_AsTuple(given) : Py_NewRef(given);

    if (label != NULL && !is_label(label)) {
        Py_DECREF(label);
        label = NULL;
        if (PyFloat_Check(given)) {
            tb_raise_at(
                context, PyExc_TypeError, row, -1,
                "found the label %R, a float; expected an int, a str, or a tuple "
                "of these",
                given);
        }
        else {
            tb_raise_at(context, PyExc_TypeError, row, -1,
                        "found a label of type %.100s; expected an int, a str, or a "
                        "tuple of these",
                        Py_TYPE(given)->tp_name);
        }
    }
    return label;
}

/* The number of a label, which is added if it is new; -1 with an exception. */
static int64_t
number_label(PyObject *numbers, PyObject *label, int *is_new)
{
    PyObject *found = PyDict_GetItemWithError(numbers, label);
    int64_t number = PyDict_GET_SIZE(numbers);

    *is_new = found == NULL;
    if (found != NULL) {
        return (int64_t)PyLong_AsLongLong(found);
    }
    PyObject *added = PyErr_Occurred() ? NULL : PyLong_FromLongLong(number);
    if (added == NULL || PyDict_SetItem(numbers, label, added) < 0) {
        number = -1;
    }
    Py_XDECREF(added);
    return number;
}

/* Numbers the labels of a tuple; *firsts gets the first row of each. */
static int
number_objects(const tb_context *context, PyObject *labels, int64_t *groups,
               int64_t **firsts, ptrdiff_t *count)
{
    PyObject *numbers = PyDict_New();
    ptrdiff_t room = 0;
    int answer = numbers == NULL ? -1 : 0;

    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(labels) && answer == 0; i++) {
        PyObject *label = read_label(context, PyTuple_GET_ITEM(labels, i), i);
        int is_new = 0;
        groups[i] = label == NULL ? -1 : number_label(numbers, label, &is_new);
        Py_XDECREF(label);
        answer = groups[i] < 0 ? -1 : 0;
        if (answer == 0 && is_new && *count == room) {
            room = room == 0 ? 64 : 2 * room;
            if (TB_RESIZE(*firsts, room) != TB_OK) {
                PyErr_NoMemory();
                answer = -1;
                break;
            }
        }
        if (answer == 0 && is_new) {
            (*firsts)[(*count)++] = i;
        }
    }
    Py_XDECREF(numbers);
    return answer;
}

static int
number_ints(const tb_context *context, PyObject *labels, int64_t *groups,
            int64_t **firsts, ptrdiff_t *count)
{
    ptrdiff_t n = 0;
    const int64_t *data = tb_read_length_array(context->function, labels, &n);

    if (data == NULL) {
        return -1;
    }
    PyThreadState *thread = PyEval_SaveThread();
    tb_status status = tb_number_groups(data, n, groups, firsts, count);
    PyEval_RestoreThread(thread);
    if (status != TB_OK) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* number_groups(function, labels) -> the number of each row's group, in the order in
 * which labels come first, and the first row of each group; labels: an int64 array, or a
 * tuple of int, str, or tuples or lists of these */
static PyObject *
wrap_number_groups(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    PyObject *result = NULL, *firsts = NULL;
    int64_t *found = NULL;
    ptrdiff_t count = 0;

    if (tb_check_count("number_groups", nargs, 2) < 0 ||
        tb_read_function(args[0], &context) < 0) {
        return NULL;
    }
    context.argument = "groups";
    npy_intp rows = PyObject_Size(args[1]);
    PyObject *groups = rows < 0 ? NULL : PyArray_SimpleNew(1, &rows, NPY_INT64);
    if (groups == NULL) {
        return NULL;
    }
    int64_t *numbers = (int64_t *)PyArray_DATA((PyArrayObject *)groups);
    int answer = PyTuple_Check(args[1])
                     ? number_objects(&context, args[1], numbers, &found, &count)
                     : number_ints(&context, args[1], numbers, &found, &count);
    if (answer == 0) {
        npy_intp size = count;
        firsts = PyArray_SimpleNew(1, &size, NPY_INT64);
    }
    if (firsts != NULL) {
        int64_t *out = (int64_t *)PyArray_DATA((PyArrayObject *)firsts);
        for (ptrdiff_t k = 0; k < count; k++) {
            out[k] = found[k];
        }
        result = PyTuple_Pack(2, groups, firsts);
    }
    Py_XDECREF(firsts);
    Py_DECREF(groups);
    free(found);
    return result;
}

/* Reads what number_groups() made, and the quotas, a number for each group, or None. */
static int
read_groups(const tb_context *context, PyObject *const *args, ptrdiff_t n,
            tb_group_settings *groups)
{
    ptrdiff_t rows = 0, quotas = 0;
    Py_ssize_t count = 0;

    groups->groups = tb_read_length_array(context->function, args[0], &rows);
    if (groups->groups == NULL ||
        tb_read_size(context, "count", args[1], 0, TB_REQUIRED, &count) < 0 ||
        tb_read_int(context, "window_batches", args[3], 0, INT64_MAX, TB_REQUIRED,
                    &groups->window_batches) < 0) {
        return -1;
    }
    groups->count = count;
    if (args[2] != Py_None) {
        groups->quotas = tb_read_length_array(context->function, args[2], &quotas);
        if (groups->quotas == NULL) {
            return -1;
        }
    }
    if (rows != n || (groups->quotas != NULL && quotas != count)) {
        tb_raise_at(context, PyExc_ValueError, -1, -1,
                    "found %zd groups of %zd rows and %zd quotas of %zd groups",
                    (Py_ssize_t)rows, (Py_ssize_t)n, (Py_ssize_t)quotas, count);
        return -1;
    }
    return 0;
}

/* plan_groups(function, lengths, settings, epoch, groups, count, quotas,
 * window_batches) -> indices [rows], offsets [batches + 1] */
static PyObject *
wrap_plan_groups(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_plan_settings settings;
    tb_group_settings groups = {0};
    tb_batch_plan plan = {0};
    tb_error error = {-1, -1, 0};
    PyObject *result = NULL;
    ptrdiff_t n = 0;

    if (tb_check_count("plan_groups", nargs, 8) < 0) {
        return NULL;
    }
    const int64_t *data = tb_read_plan_arguments(args, &context, &settings, &n);
    if (data == NULL ||
        tb_read_uint64(&context, "epoch", args[3], &settings.core.epoch) < 0 ||
        read_groups(&context, args + 4, n, &groups) < 0) {
        return NULL;
    }
    PyThreadState *thread = PyEval_SaveThread();
    tb_status status = tb_plan_groups(data, n, &settings.core, &groups, &plan, &error);
    PyEval_RestoreThread(thread);
    if (status == TB_ERR_RANGE) {
        tb_raise_at(&context, PyExc_ValueError, error.row, -1,
                    "group %lld; expected 0 to %zd", (long long)error.value,
                    (Py_ssize_t)groups.count - 1);
    }
    else if (status != TB_OK) {
        tb_raise_plan_lengths(&context, status, &settings, &error);
    }
    else {
        result = tb_arrays_of_plan(&plan);
    }
    tb_free_batches(&plan);
    return result;
}

/* fingerprint(function, numbers) -> an int that tells int64 arrays apart */
static PyObject *
wrap_fingerprint(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    ptrdiff_t n = 0;

    if (tb_check_count("fingerprint", nargs, 2) < 0 ||
        tb_read_function(args[0], &context) < 0) {
        return NULL;
    }
    const int64_t *data = tb_read_length_array(context.function, args[1], &n);
    if (data == NULL) {
        return NULL;
    }
    PyThreadState *thread = PyEval_SaveThread();
    uint64_t found = tb_fingerprint_lengths(data, n);
    PyEval_RestoreThread(thread);
    return PyLong_FromUnsignedLongLong(found);
}

/* assign_buckets(function, first, second, bounds) -> for each row, the first of the
 * rectangles (two numbers each, in one int64 array) that holds it; -1: none */
static PyObject *
wrap_assign_buckets(PyObject *Py_UNUSED(module), PyObject *const *args,
                    Py_ssize_t nargs)
{
    tb_context context = {0};
    ptrdiff_t n = 0, other = 0, count = 0;

    if (tb_check_count("assign_buckets", nargs, 4) < 0 ||
        tb_read_function(args[0], &context) < 0) {
        return NULL;
    }
    const int64_t *first = tb_read_length_array(context.function, args[1], &n);
    const int64_t *second =
        first == NULL ? NULL : tb_read_length_array(context.function, args[2], &other);
    const int64_t *bounds =
        second == NULL ? NULL : tb_read_length_array(context.function, args[3], &count);
    if (bounds == NULL) {
        return NULL;
    }
    if (n != other || count % 2 != 0) {
        tb_raise_at(&context, PyExc_ValueError, -1, -1,
                    "found %zd and %zd lengths, and %zd bounds", (Py_ssize_t)n,
                    (Py_ssize_t)other, (Py_ssize_t)count);
        return NULL;
    }
    npy_intp rows = n;
    PyObject *buckets = PyArray_SimpleNew(1, &rows, NPY_INT64);
    if (buckets != NULL) {
        PyThreadState *thread = PyEval_SaveThread();
        tb_assign_rectangles(first, second, n, bounds, count / 2,
                             (int64_t *)PyArray_DATA((PyArrayObject *)buckets));
        PyEval_RestoreThread(thread);
    }
    return buckets;
}

PyMethodDef tb_group_methods[] = {
    {"number_groups", (PyCFunction)(void (*)(void))wrap_number_groups, METH_FASTCALL,
     NULL},
    {"plan_groups", (PyCFunction)(void (*)(void))wrap_plan_groups, METH_FASTCALL, NULL},
    {"fingerprint", (PyCFunction)(void (*)(void))wrap_fingerprint, METH_FASTCALL, NULL},
    {"assign_buckets", (PyCFunction)(void (*)(void))wrap_assign_buckets, METH_FASTCALL,
     NULL},
    {NULL, NULL, 0, NULL},
};
