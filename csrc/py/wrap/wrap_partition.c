/* partition() and read_counts(): parts of about equal cost, and the numbers of rows. */
#include "py/base/tb_numpy.h"
#include "py/base/gil.h"
#include "py/input/lengths.h"
#include "py/input/settings.h"
#include "core/base/memory.h"
#include "core/plan/partition.h"

static const tb_context partition_context = {.function = "partition"};
static const tb_context costs_context = {.function = "partition", .argument = "costs"};

/* What is read of the costs: integers, and how many bits of them are a fraction. */
typedef struct {
    PyArrayObject *given; /* borrowed: int64 or float64 [rows] */
    int64_t *scaled;      /* owned, or NULL */
    const int64_t *costs;
    npy_intp n;
    int shift;
    ptrdiff_t rounded;
} priced;

static PyObject *
show_cost(const priced *rows, ptrdiff_t row)
{
    PyObject *cost = PyArray_GETITEM(rows->given, PyArray_GETPTR1(rows->given, row));
    PyObject *text = cost == NULL ? NULL : tb_show(cost);

    Py_XDECREF(cost);
    return text;
}

static void
raise_cost(const priced *rows, tb_status status, const tb_error *error, PyObject *cap)
{
    PyObject *cost = show_cost(rows, error->row);

    if (cost == NULL) {
        return;
    }
    switch (status) {
        case TB_ERR_NEGATIVE:
            tb_raise_at(&costs_context, PyExc_ValueError, error->row, -1,
                        "cost %U is negative", cost);
            break;
        case TB_ERR_INEXACT:
            tb_raise_at(&costs_context, PyExc_ValueError, error->row, -1,
                        "found %U; expected a number", cost);
            break;
        case TB_ERR_TOO_LONG:
            tb_raise_at(&costs_context, PyExc_ValueError, error->row, -1,
                        "cost %U is more than cap=%S; pass a larger cap, or leave out "
                        "the row",
                        cost, cap);
            break;
        default:
            tb_raise_at(&costs_context, PyExc_OverflowError, error->row, -1,
                        "with cost %U the sum is more than %s can hold", cost,
                        rows->scaled == NULL ? "int64" : "float64");
            break;
    }
    Py_DECREF(cost);
}

static void
raise_count(const priced *rows, const tb_partition_settings *settings,
            const tb_partition *made, PyObject *cap)
{
    const char *equal = settings->equal_counts ? " with equal_counts=True" : "";

    if (settings->k > rows->n) {
        tb_raise_at(
            &partition_context, PyExc_ValueError, -1, -1,
            "found %zd rows for k=%zd parts; expected at least one row for each "
            "part: pass k=%zd or less",
            (Py_ssize_t)rows->n, (Py_ssize_t)settings->k, (Py_ssize_t)rows->n);
    }
    else if (settings->k > 0) {
        tb_raise_at(&partition_context, PyExc_ValueError, -1, -1,
                    "found no k=%zd parts of at most cap=%S%s; pass k=%zd, for which "
                    "they were found, k=None, or a larger cap",
                    (Py_ssize_t)settings->k, cap, equal, (Py_ssize_t)made->least);
    }
    else {
        tb_raise_at(&partition_context, PyExc_ValueError, -1, -1,
                    "found no parts of at most cap=%S for %zd rows in a multiple of "
                    "multiple_of=%zd%s; pass a smaller multiple_of, or a larger cap",
                    cap, (Py_ssize_t)rows->n, (Py_ssize_t)settings->multiple, equal);
    }
}

/* Reads the costs, and the cap in their units. */
static int
read_costs(PyObject *object, PyObject *cap, priced *rows, int64_t *most)
{
    tb_error error = {-1, -1, 0};

    if (!PyArray_Check(object) || PyArray_NDIM((PyArrayObject *)object) != 1 ||
        !PyArray_ISCARRAY_RO((PyArrayObject *)object)) {
        PyErr_SetString(PyExc_TypeError, "partition(): expected costs as one array");
        return -1;
    }
    rows->given = (PyArrayObject *)object;
    rows->n = PyArray_SIZE(rows->given);
    if (rows->n == 0) {
        return tb_raise_at(&partition_context, PyExc_ValueError, -1, -1,
                           "found no rows in costs; expected at least one");
    }
    if (PyArray_TYPE(rows->given) == NPY_INT64) {
        rows->costs = (const int64_t *)PyArray_DATA(rows->given);
        return tb_read_int(&partition_context, "cap", cap, 0, INT64_MAX, INT64_MAX,
                           most);
    }
    if (PyArray_TYPE(rows->given) != NPY_FLOAT64) {
        PyErr_SetString(PyExc_TypeError, "partition(): expected int64 or float64");
        return -1;
    }
    rows->scaled = (int64_t *)tb_allocate_array(rows->n, sizeof *rows->scaled);
    if (rows->scaled == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    rows->costs = rows->scaled;
    tb_status status =
        tb_scale_costs((const double *)PyArray_DATA(rows->given), rows->n, rows->scaled,
                       &rows->shift, &rows->rounded, &error);
    if (status != TB_OK) {
        raise_cost(rows, status, &error, cap);
        return -1;
    }
    double limit = 0.0;
    *most = INT64_MAX;
    if (cap != Py_None) {
        if (tb_read_real(&partition_context, "cap", cap, 0.0, 1.7e308, &limit) < 0) {
            return -1;
        }
        *most = tb_scale_cap(limit, rows->shift, rows->n);
    }
    return 0;
}

/* (indices, offsets, bound, shift, rounded) */
static PyObject *
list_parts(const priced *rows, const tb_partition *made, const int64_t *part_of)
{
    npy_intp n = rows->n, edges = made->k + 1;
    PyArrayObject *indices = (PyArrayObject *)PyArray_SimpleNew(1, &n, NPY_INT64);
    PyArrayObject *offsets = (PyArrayObject *)PyArray_SimpleNew(1, &edges, NPY_INT64);
    PyArrayObject *totals = NULL;
    PyObject *answer = NULL;

    edges--;
    totals = (PyArrayObject *)PyArray_ZEROS(1, &edges, NPY_INT64, 0);
    if (indices != NULL && offsets != NULL && totals != NULL) {
        int64_t *sums = (int64_t *)PyArray_DATA(totals);
        tb_list_parts(part_of, n, made->k, (int64_t *)PyArray_DATA(indices),
                      (int64_t *)PyArray_DATA(offsets));
        for (npy_intp i = 0; i < n; i++) {
            sums[part_of[i]] += rows->costs[i];
        }
        answer =
            Py_BuildValue("OOOLin", indices, offsets, totals, (long long)made->bound,
                          rows->shift, (Py_ssize_t)rows->rounded);
    }
    Py_XDECREF(indices);
    Py_XDECREF(offsets);
    Py_XDECREF(totals);
    return answer;
}

/* partition(costs, k or None, cap or None, equal_counts, multiple_of) -> indices [rows],
 * offsets [parts + 1], costs of parts, the bound; of these two `shift` bits are a
 * fraction, and `rounded` costs were rounded up to it */
static PyObject *
wrap_partition(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_partition_settings settings = {.poll = tb_poll_signals};
    tb_partition made = {0};
    priced rows = {0};
    tb_error error = {-1, -1, 0};
    int64_t *part_of = NULL;
    PyObject *answer = NULL;

    if (tb_check_count("partition", nargs, 5) < 0 ||
        tb_read_size(&partition_context, "k", args[1], 1, 0, &settings.k) < 0 ||
        tb_read_flag(&partition_context, "equal_counts", args[3],
                     &settings.equal_counts) < 0 ||
        tb_read_size(&partition_context, "multiple_of", args[4], 1, 1,
                     &settings.multiple) < 0) {
        return NULL;
    }
    if (settings.k == 0 && args[2] == Py_None) {
        tb_raise_at(&partition_context, PyExc_ValueError, -1, -1,
                    "found neither k nor cap; expected the number of parts, k=, the "
                    "most that a part may cost, cap=, or both");
        return NULL;
    }
    if (settings.k % settings.multiple != 0) {
        tb_raise_at(
            &partition_context, PyExc_ValueError, -1, -1,
            "k=%zd is no multiple of multiple_of=%zd; pass k=None with cap=, or "
            "no multiple_of",
            settings.k, settings.multiple);
        return NULL;
    }
    if (read_costs(args[0], args[2], &rows, &settings.cap) < 0) {
        goto done;
    }
    part_of = (int64_t *)tb_allocate_array(rows.n, sizeof *part_of);
    if (part_of == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    PyThreadState *thread = PyEval_SaveThread();
    tb_status status =
        tb_partition_rows(rows.costs, rows.n, &settings, part_of, &made, &error);
    PyEval_RestoreThread(thread);
    if (status == TB_OK) {
        answer = list_parts(&rows, &made, part_of);
    }
    else if (status == TB_ERR_MEMORY) {
        PyErr_NoMemory();
    }
    else if (status == TB_ERR_INTERRUPTED) {
        answer = NULL; /* the poll has raised */
    }
    else if (status == TB_ERR_RANGE) {
        raise_count(&rows, &settings, &made, args[2]);
    }
    else {
        raise_cost(&rows, status, &error, args[2]);
    }
done:
    free(part_of);
    free(rows.scaled);
    return answer;
}

/* read_counts(function, name, counts) -> int64 [n], new: integers of any sign */
static PyObject *
wrap_read_counts(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_int_rows counts = {NULL, NULL, 0};
    PyObject *answer = NULL;

    if (tb_check_count("read_counts", nargs, 3) < 0 ||
        tb_read_function(args[0], &context) < 0) {
        return NULL;
    }
    context.argument = PyUnicode_AsUTF8(args[1]);
    if (context.argument == NULL ||
        tb_read_int_rows(tb_state_of(module), &context, args[2], 1, &counts) < 0) {
        goto done;
    }
    if (!counts.is_single) {
        tb_raise_at(&context, PyExc_TypeError, -1, -1,
                    "found rows of numbers, expected one number for each row");
        goto done;
    }
    answer = Py_NewRef((PyObject *)counts.values);
done:
    tb_clear_int_rows(&counts);
    return answer;
}

PyMethodDef tb_partition_methods[] = {
    {"read_counts", (PyCFunction)(void (*)(void))wrap_read_counts, METH_FASTCALL, NULL},
    {"partition", (PyCFunction)(void (*)(void))wrap_partition, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
