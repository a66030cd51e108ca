#include "py/base/tb_numpy.h"
#include "py/input/limits.h"
#include "py/input/lengths.h"
#include "py/input/settings.h"

/* An array of int64, one for each row, as all the others. */
static const int64_t *
read_costs(const tb_context *context, PyObject *object, tb_plan_limits *limits)
{
    ptrdiff_t rows = 0;
    const int64_t *costs = tb_read_length_array(context->function, object, &rows);

    if (costs != NULL && limits->rows >= 0 && limits->rows != rows) {
        PyErr_Format(PyExc_TypeError, "%s(): costs of %zd and of %zd rows",
                     context->function, limits->rows, rows);
        return NULL;
    }
    limits->rows = rows;
    return costs;
}

static int
read_limit(const tb_context *context, PyObject *given, tb_plan_limits *limits)
{
    tb_limit *limit = &limits->all[limits->count];

    if (!PyTuple_Check(given) || PyTuple_GET_SIZE(given) != 5) {
        PyErr_Format(PyExc_TypeError,
                     "%s(): expected limits of (name, costs, others, cap, padded)",
                     context->function);
        return -1;
    }
    limits->names[limits->count] = PyTuple_GET_ITEM(given, 0);
    limit->costs = limit->others = NULL;
    if (PyTuple_GET_ITEM(given, 1) !=
        Py_None) { /* of a stream they come with the rows */
        limit->costs = read_costs(context, PyTuple_GET_ITEM(given, 1), limits);
        if (limit->costs == NULL) {
            return -1;
        }
    }
    if (PyTuple_GET_ITEM(given, 2) != Py_None) {
        limit->others = read_costs(context, PyTuple_GET_ITEM(given, 2), limits);
        if (limit->others == NULL) {
            return -1;
        }
    }
    limits->count++;
    return tb_read_int(context, "cap", PyTuple_GET_ITEM(given, 3), 0, INT64_MAX - 1,
                       TB_REQUIRED, &limit->cap) < 0
               ? -1
               : tb_read_flag(context, "padded", PyTuple_GET_ITEM(given, 4),
                              &limit->is_padded);
}

int
tb_read_plan_limits(const tb_context *context, PyObject *settings,
                    tb_plan_limits *limits)
{
    PyObject *given = PyDict_GetItemString(settings, "limits");
    PyObject *keys = PyDict_GetItemString(settings, "keys");
    PyObject *most = PyDict_GetItemString(settings, "most_packs");

    limits->count = 0;
    limits->keys = NULL;
    limits->rows = -1;
    limits->most_packs = 0;
    if (most != NULL && tb_read_int(context, "most_packs", most, 0, INT64_MAX,
                                    TB_REQUIRED, &limits->most_packs) < 0) {
        return -1;
    }
    if (given != NULL && given != Py_None) {
        /* One more is the cap on tokens. */
        if (!PyTuple_Check(given) || PyTuple_GET_SIZE(given) >= TB_MOST_LIMITS) {
            PyErr_Format(PyExc_ValueError,
                         "%s(): expected a tuple of at most %d limits",
                         context->function, TB_MOST_LIMITS - 1);
            return -1;
        }
        for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(given); k++) {
            if (read_limit(context, PyTuple_GET_ITEM(given, k), limits) < 0) {
                return -1;
            }
        }
    }
    if (keys != NULL && keys != Py_None) {
        limits->keys = read_costs(context, keys, limits);
    }
    return keys != NULL && keys != Py_None && limits->keys == NULL ? -1 : 0;
}

int
tb_check_limit_rows(const tb_context *context, const tb_plan_limits *limits,
                    ptrdiff_t rows)
{
    if (limits->rows >= 0 && limits->rows != rows) {
        PyErr_Format(PyExc_TypeError, "%s(): limits of %zd rows for %zd lengths",
                     context->function, limits->rows, rows);
        return -1;
    }
    return 0;
}

void
tb_raise_broken_cost(const tb_context *context, const tb_plan_limits *limits,
                     const tb_error *error)
{
    PyObject *name = tb_show(limits->names[error->column]);

    if (name != NULL) {
        tb_raise_at(context, PyExc_ValueError, error->row, -1,
                    "cost %lld is more than limits[%U]=%lld; pass a larger cap, or "
                    "overlong='drop' ('truncate' shortens rows, and this cost would "
                    "stay)",
                    (long long)error->value, name,
                    (long long)limits->all[error->column].cap);
    }
    Py_XDECREF(name);
}

void
tb_raise_broken_limit(const tb_context *context, const tb_plan_limits *limits,
                      const tb_error *error)
{
    const tb_limit *limit = &limits->all[error->column];
    tb_error own = *error;

    own.value = limit->costs[error->row];
    if (limit->others == NULL) {
        tb_raise_broken_cost(context, limits, &own);
        return;
    }
    tb_raise_at(context, PyExc_ValueError, error->row, -1,
                "lengths %lld and %lld are together more than max_tokens=%lld; pass "
                "max_length=(source, target), a larger max_tokens, or overlong='drop'",
                (long long)own.value, (long long)limit->others[error->row],
                (long long)limit->cap);
}
