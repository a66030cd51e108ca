/* bucket_boundaries(): the best boundaries for lengths, and how much they waste. */
#include "py/base/tb_numpy.h"
#include "py/base/gil.h"
#include "py/input/lengths.h"
#include "core/plan/buckets.h"

static const tb_context boundaries_context = {.function = "bucket_boundaries"};
static const tb_context lengths_context = {.function = "bucket_boundaries",
                                           .argument = "lengths"};

static void
raise_counting(tb_status status, const tb_error *error, Py_ssize_t rows,
               Py_ssize_t multiple)
{
    if (status == TB_ERR_MEMORY) {
        PyErr_NoMemory();
    }
    else if (status == TB_ERR_NEGATIVE) {
        (void)tb_raise_length(&lengths_context, status, error, 0);
    }
    else if (multiple == 1) {
        tb_raise_at(&boundaries_context, PyExc_OverflowError, error->row, -1,
                    "%zd rows, all of length %lld, the longest, are more tokens than "
                    "int64 can count",
                    rows, (long long)error->value);
    }
    else {
        tb_raise_at(&boundaries_context, PyExc_OverflowError, error->row, -1,
                    "%zd rows, all of length %lld, the longest, rounded up to a "
                    "multiple of %zd, are more tokens than int64 can count",
                    rows, (long long)error->value, multiple);
    }
}

/* (boundaries, waste), int64 arrays of one shape; waste is None if not asked for. */
static PyObject *
choose_boundaries(const tb_widths *widths, Py_ssize_t k, int return_waste)
{
    npy_intp count = k < widths->count ? k : widths->count;
    PyArrayObject *boundaries =
        (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_INT64);
    PyObject *waste =
        return_waste ? PyArray_SimpleNew(1, &count, NPY_INT64) : Py_NewRef(Py_None);
    PyObject *answer = NULL;

    if (boundaries != NULL && waste != NULL) {
        int64_t *chosen = (int64_t *)PyArray_DATA(boundaries);
        int64_t *padding =
            return_waste ? (int64_t *)PyArray_DATA((PyArrayObject *)waste) : NULL;
        PyThreadState *thread = PyEval_SaveThread();
        tb_status status =
            tb_choose_boundaries(widths, k, chosen, padding, tb_poll_signals);
        PyEval_RestoreThread(thread);
        if (status == TB_OK) {
            answer = PyTuple_Pack(2, (PyObject *)boundaries, waste);
        }
        else if (status != TB_ERR_INTERRUPTED) {
            PyErr_NoMemory();
        }
    }
    Py_XDECREF((PyObject *)boundaries);
    Py_XDECREF(waste);
    return answer;
}

/* bucket_boundaries(lengths, k, pad_to_multiple_of, return_waste)
 * -> (boundaries, waste or None) */
static PyObject *
wrap_bucket_boundaries(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_widths widths = {0};
    tb_error error = {-1, -1, 0};
    tb_status status;
    PyThreadState *thread;
    PyArrayObject *lengths = NULL;
    PyObject *answer = NULL;
    Py_ssize_t k, multiple, rows;
    int return_waste;

    if (tb_check_count("bucket_boundaries", nargs, 4) < 0 ||
        tb_read_size(&boundaries_context, "k", args[1], 1, TB_REQUIRED, &k) < 0 ||
        tb_read_size(&boundaries_context, "pad_to_multiple_of", args[2], 1, 1,
                     &multiple) < 0 ||
        tb_read_flag(&boundaries_context, "return_waste", args[3], &return_waste) < 0) {
        return NULL;
    }
    lengths = tb_read_lengths(tb_state_of(module), &lengths_context, args[0]);
    if (lengths == NULL) {
        return NULL;
    }
    rows = PyArray_SIZE(lengths);
    if (rows == 0) {
        tb_raise_at(&boundaries_context, PyExc_ValueError, -1, -1,
                    "found no rows in lengths; expected at least one");
        goto done;
    }
    const int64_t *data = (const int64_t *)PyArray_DATA(lengths);
    thread = PyEval_SaveThread();
    status = tb_count_widths(data, rows, multiple, &widths, &error);
    PyEval_RestoreThread(thread);
    if (status != TB_OK) {
        raise_counting(status, &error, rows, multiple);
        goto done;
    }
    answer = choose_boundaries(&widths, k, return_waste);
done:
    tb_free_widths(&widths);
    Py_DECREF((PyObject *)lengths);
    return answer;
}

PyMethodDef tb_bucket_methods[] = {
    {"bucket_boundaries", (PyCFunction)(void (*)(void))wrap_bucket_boundaries,
     METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
