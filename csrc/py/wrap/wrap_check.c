/* check_batch(): the columns of a batch as views, and what the core finds in them. */
#include "py/base/tb_numpy.h"
#include "py/base/gil.h"
#include "py/input/settings.h"
#include "py/input/tensor.h"
#include "core/check/check.h"

#include <string.h>

/* The batch's columns, each with what keeps its memory. */
typedef struct {
    tb_check check;
    PyObject **owners;
    int64_t *numbers; /* of columns that are one int */
    tb_finding findings[TB_MOST_FINDINGS];
    npy_intp bytes;
} checked_batch;

static void
take_view(tb_check_column *column, const tb_view *view)
{
    column->type = view->dtype.type;
    column->data = view->data;
    column->ndim = view->ndim < TB_CHECK_DIMS ? view->ndim : TB_CHECK_DIMS;
    for (int d = 0; d < view->ndim; d++) {
        if (d < TB_CHECK_DIMS) {
            column->shape[d] = view->shape[d];
        }
        else {
            column->shape[TB_CHECK_DIMS - 1] *= view->shape[d];
        }
    }
}

/* A column that is a tensor on the CPU, an array or an int: 1; 0 for another, which
 * Python turns into an array first; -1 with an exception. */
static int
view_column(tb_state *state, const tb_context *context, PyObject *value,
            checked_batch *batch, int i)
{
    tb_check_column *column = &batch->check.columns[i];
    tb_view view;

    view.owner = NULL;
    view.dtype.descr = NULL;
    if (PyLong_CheckExact(value)) {
        int overflow;
        batch->numbers[i] = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow != 0) {
            batch->numbers[i] = overflow > 0 ? INT64_MAX : INT64_MIN;
        }
        column->type = TB_I64;
        column->data = &batch->numbers[i];
        column->ndim = 0;
        return 1;
    }
    int answer = tb_is_tensor(state, value);
    if (answer < 0) {
        return -1;
    }
    if (answer) {
        if (!tb_view_plain_tensor(state, value, &view)) {
            return 0;
        }
    }
    else if (PyArray_Check(value)) {
        int kind = PyArray_TYPE((PyArrayObject *)value);
        if (PyTypeNum_ISFLEXIBLE(kind) || PyTypeNum_ISOBJECT(kind) ||
            PyTypeNum_ISDATETIME(kind) || PyTypeNum_ISCOMPLEX(kind)) {
            return 0; /* rows of their own, or nothing to look at */
        }
        if (tb_view_array(state, context, -1, (PyArrayObject *)value, &view) < 0) {
            return -1;
        }
    }
    else {
        return 0;
    }
    take_view(column, &view);
    batch->owners[i] = view.owner;
    Py_XDECREF((PyObject *)view.dtype.descr);
    return 1;
}

/* Views all columns. 1; 0, with the index of the first that Python must convert; -1. */
static int
view_columns(tb_state *state, tb_context *context, PyObject *keys, const char *roles,
             const char *partners, PyObject *values, checked_batch *batch, int *odd)
{
    int none = 0;

    for (int i = 0; i < batch->check.count; i++) {
        tb_check_column *column = &batch->check.columns[i];
        PyObject *value = PyList_GET_ITEM(values, i);
        context->key = PyTuple_GET_ITEM(keys, i);
        column->role = (tb_role)roles[i];
        column->partner = (signed char)partners[i];
        column->same_as = -1;
        for (int k = 0; k < i; k++) {
            if (PyList_GET_ITEM(values, k) == value && roles[k] == roles[i]) {
                column->same_as = k;
                break;
            }
        }
        if (value == Py_None) { /* a column that is not looked at */
            column->role = TB_ROLE_OTHER;
            column->data = &none;
            column->type = TB_NUMPY_ONLY;
            continue;
        }
        int answer = view_column(state, context, value, batch, i);
        if (answer <= 0) {
            *odd = i;
            return answer;
        }
        batch->bytes += column->ndim > 0 ? (npy_intp)column->shape[0] : 1;
        for (int d = 1; d < column->ndim; d++) {
            batch->bytes += column->shape[d] * 8;
        }
    }
    return 1;
}

static PyObject *
list_findings(const tb_check *check)
{
    ptrdiff_t count = check->found < TB_MOST_FINDINGS ? check->found : TB_MOST_FINDINGS;
    PyObject *list = PyList_New(count);

    for (ptrdiff_t i = 0; list != NULL && i < count; i++) {
        const tb_finding *f = &check->findings[i];
        PyObject *item = Py_BuildValue("(iiinnLL)", (int)f->kind, f->column, f->other,
                                       (Py_ssize_t)f->row, (Py_ssize_t)f->place,
                                       (long long)f->found, (long long)f->expected);
        if (item == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, item);
    }
    return list;
}

/* int64 [segments, 2]: begin and end of each, flat. */
static PyObject *
array_of_spans(const tb_check *check)
{
    npy_intp dims[2] = {check->spans == NULL ? 0 : check->span_count, 2};
    PyArrayObject *array = (PyArrayObject *)PyArray_SimpleNew(2, dims, NPY_INT64);

    for (npy_intp k = 0; array != NULL && k < dims[0]; k++) {
        int64_t *pair = (int64_t *)PyArray_DATA(array) + 2 * k;
        pair[0] = check->spans[k].begin;
        pair[1] = check->spans[k].end;
    }
    return (PyObject *)array;
}

/* None if nothing was found and nobody asked; else (findings, how many, (rows, width),
 * segments). */
static PyObject *
answer_with(const tb_check *check, int wants_segments)
{
    if (check->found == 0 && !wants_segments) {
        Py_RETURN_NONE;
    }
    PyObject *findings = list_findings(check);
    PyObject *spans = findings == NULL ? NULL : array_of_spans(check);
    PyObject *answer = spans == NULL
                           ? NULL
                           : Py_BuildValue("(On(nn)O)", findings, check->found,
                                           check->rows, check->width, spans);

    Py_XDECREF(findings);
    Py_XDECREF(spans);
    return answer;
}

static PyObject *
run_check(checked_batch *batch, int wants_segments)
{
    tb_check *check = &batch->check;
    PyThreadState *thread = tb_release_gil(batch->bytes);
    tb_status status = tb_check_columns(check);
    tb_restore_gil(thread);

    PyObject *answer =
        status == TB_OK ? answer_with(check, wants_segments) : PyErr_NoMemory();
    tb_end_check(check);
    return answer;
}

/* The three settings; None is -1. */
static int
read_settings(const tb_context *context, PyObject *const *args, tb_check_settings *out)
{
    return tb_read_int(context, "max_position", args[0], 1, INT64_MAX, -1,
                       &out->max_position) < 0 ||
                   tb_read_int(context, "vocab_size", args[1], 1, INT64_MAX, -1,
                               &out->vocab_size) < 0 ||
                   tb_read_int(context, "ignore_index", args[2], INT64_MIN, INT64_MAX,
                               TB_REQUIRED, &out->ignore_index) < 0
               ? -1
               : 0;
}

/* check_batch(function, keys, roles, partners, lent_from, values, max_position,
 * vocab_size, ignore_index, wants_segments) -> None, the index of a column that is not an array, or
 * what was found */
static PyObject *
wrap_check_batch(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    checked_batch *batch = NULL;
    PyObject *answer = NULL;
    int odd = 0, wants_segments;
    int64_t lent_from;

    if (tb_check_count("check_batch", nargs, 10) < 0 ||
        tb_read_function(args[0], &context) < 0) {
        return NULL;
    }
    if (!PyTuple_Check(args[1]) || !PyBytes_Check(args[2]) || !PyBytes_Check(args[3]) ||
        !PyList_Check(args[5]) || PyTuple_GET_SIZE(args[1]) > 127 ||
        PyTuple_GET_SIZE(args[1]) != PyBytes_GET_SIZE(args[2]) ||
        PyTuple_GET_SIZE(args[1]) != PyBytes_GET_SIZE(args[3]) ||
        PyTuple_GET_SIZE(args[1]) != PyList_GET_SIZE(args[5])) {
        PyErr_SetString(PyExc_SystemError, "check_batch(): columns do not match");
        return NULL;
    }
    size_t count = (size_t)PyTuple_GET_SIZE(args[1]);
    batch = (checked_batch *)PyMem_Malloc(sizeof *batch);
    if (batch == NULL) {
        return PyErr_NoMemory();
    }
    tb_check *check = &batch->check;
    memset(batch, 0, offsetof(checked_batch, findings));
    check->findings = batch->findings;
    check->columns = (tb_check_column *)PyMem_Calloc(count + 1, sizeof *check->columns);
    batch->owners = (PyObject **)PyMem_Calloc(count + 1, sizeof *batch->owners);
    batch->numbers = (int64_t *)PyMem_Calloc(count + 1, sizeof *batch->numbers);
    if (check->columns == NULL || batch->owners == NULL || batch->numbers == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    if (tb_read_int(&context, "lent_from", args[4], 0, 127, TB_REQUIRED, &lent_from) <
            0 ||
        read_settings(&context, args + 6, &check->settings) < 0 ||
        tb_read_flag(&context, "wants_segments", args[9], &wants_segments) < 0) {
        goto done;
    }
    check->count = (int)count;
    check->lent_from = (int)lent_from;
    int viewed =
        view_columns(tb_state_of(module), &context, args[1], PyBytes_AS_STRING(args[2]),
                     PyBytes_AS_STRING(args[3]), args[5], batch, &odd);
    if (viewed == 0) {
        answer = PyLong_FromLong(odd);
    }
    else if (viewed > 0) {
        answer = run_check(batch, wants_segments);
    }
done:
    for (size_t i = 0; batch->owners != NULL && i < count; i++) {
        Py_XDECREF(batch->owners[i]);
    }
    PyMem_Free(batch->owners);
    PyMem_Free(batch->numbers);
    PyMem_Free(check->columns);
    PyMem_Free(batch);
    return answer;
}

PyMethodDef tb_check_methods[] = {
    {"check_batch", (PyCFunction)(void (*)(void))wrap_check_batch, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
