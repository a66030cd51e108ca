/* read_costs(), read_length_pairs() and pair_keys(), for plans under several limits. */
#include "py/base/tb_numpy.h"
#include "py/base/state.h"
#include "py/input/lengths.h"
#include "py/input/settings.h"
#include "core/plan/pair_keys.h"

static const char *
read_names(PyObject *const *args, Py_ssize_t nargs, tb_context *context)
{
    if (tb_check_count("read", nargs, 3) < 0 ||
        tb_read_function(args[0], context) < 0) {
        return NULL;
    }
    context->argument = PyUnicode_AsUTF8(args[1]);
    return context->argument;
}

/* read_costs(function, name, costs) -> int64 [rows], new, none negative */
static PyObject *
wrap_read_costs(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};

    if (read_names(args, nargs, &context) == NULL) {
        return NULL;
    }
    PyArrayObject *costs = tb_read_lengths(tb_state_of(module), &context, args[2]);
    for (npy_intp i = 0; costs != NULL && i < PyArray_SIZE(costs); i++) {
        int64_t cost = ((const int64_t *)PyArray_DATA(costs))[i];
        if (cost < 0) {
            tb_raise_at(&context, PyExc_ValueError, i, -1,
                        "cost %lld of %s is negative; expected 0 or more",
                        (long long)cost, context.argument);
            Py_CLEAR(costs);
        }
    }
    return (PyObject *)costs;
}

/* The rows as an array [rows, 2], new. */
static PyArrayObject *
pair_rows(const tb_context *context, const tb_int_rows *rows)
{
    npy_intp dims[2] = {PyArray_SIZE(rows->counts), 2};
    const int64_t *counts = (const int64_t *)PyArray_DATA(rows->counts);

    for (npy_intp i = 0; i < dims[0]; i++) {
        if (counts[i] != 2) {
            tb_raise_at(context, PyExc_ValueError, i, -1,
                        "found %lld numbers; expected one length for each row, or two "
                        "(source and target)",
                        (long long)counts[i]);
            return NULL;
        }
    }
    PyArray_Dims shape = {dims, 2};
    return (PyArrayObject *)PyArray_Newshape(rows->values, &shape, NPY_CORDER);
}

/* read_length_pairs(function, name, lengths) -> int64 [rows] or [rows, 2], none
 * negative */
static PyObject *
wrap_read_length_pairs(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_int_rows rows = {NULL, NULL, 0};
    PyArrayObject *lengths = NULL;
    ptrdiff_t total;

    if (read_names(args, nargs, &context) == NULL) {
        return NULL;
    }
    int holds_rows = tb_holds_rows(args[2]);
    if (holds_rows <= 0) {
        lengths = holds_rows < 0
                      ? NULL
                      : tb_read_lengths(tb_state_of(module), &context, args[2]);
        if (lengths != NULL &&
            tb_check_row_lengths(&context, lengths, -1, &total) < 0) {
            Py_CLEAR(lengths);
        }
        return (PyObject *)lengths;
    }
    if (tb_read_int_rows(tb_state_of(module), &context, args[2], 1, &rows) == 0) {
        lengths = pair_rows(&context, &rows);
        const int64_t *values = (const int64_t *)PyArray_DATA(rows.values);
        for (npy_intp i = 0; lengths != NULL && i < PyArray_SIZE(lengths); i++) {
            if (values[i] < 0) {
                tb_raise_at(&context, PyExc_ValueError, i / 2, i % 2,
                            "length %lld is negative", (long long)values[i]);
                Py_CLEAR(lengths);
            }
        }
    }
    tb_clear_int_rows(&rows);
    return (PyObject *)lengths;
}

/* pair_keys(pairs) -> int64 [rows]: what rows of two lengths are sorted by */
static PyObject *
wrap_pair_keys(PyObject *Py_UNUSED(module), PyObject *object)
{
    PyArrayObject *pairs = (PyArrayObject *)object;

    if (!PyArray_Check(object) || PyArray_NDIM(pairs) != 2 ||
        PyArray_DIM(pairs, 1) != 2 || PyArray_TYPE(pairs) != NPY_INT64 ||
        !PyArray_ISCARRAY_RO(pairs)) {
        PyErr_SetString(PyExc_TypeError,
                        "pair_keys(): expected a contiguous int64 array [rows, 2]");
        return NULL;
    }
    npy_intp count = PyArray_DIM(pairs, 0);
    PyArrayObject *keys = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_INT64);
    if (keys != NULL) {
        tb_find_pair_keys((const int64_t *)PyArray_DATA(pairs), count,
                          (int64_t *)PyArray_DATA(keys));
    }
    return (PyObject *)keys;
}

PyMethodDef tb_limit_methods[] = {
    {"read_costs", (PyCFunction)(void (*)(void))wrap_read_costs, METH_FASTCALL, NULL},
    {"read_length_pairs", (PyCFunction)(void (*)(void))wrap_read_length_pairs,
     METH_FASTCALL, NULL},
    {"pair_keys", wrap_pair_keys, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
