/* shuffle_lengths(), plan_lengths(), cut_in_order() and measure_shapes(), for analyze().
 */
#include "py/base/tb_numpy.h"
#include "py/base/state.h"
#include "py/input/plan_settings.h"
#include "core/base/memory.h"
#include "core/base/size.h"
#include "core/plan/batching.h"
#include "core/plan/waste.h"

#include <string.h>

static PyArrayObject *
new_integers(npy_intp count)
{
    return (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_INT64);
}

static int64_t *
integers_of(PyArrayObject *array)
{
    return (int64_t *)PyArray_DATA(array);
}

/* shuffle_lengths(function, lengths, seed, epoch) -> the lengths in the order in which a
 * plan takes its rows, int64 [rows]; the state of its random numbers then, bytes */
static PyObject *
wrap_shuffle_lengths(PyObject *Py_UNUSED(module), PyObject *const *args,
                     Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_random random;
    uint64_t seed, epoch;
    ptrdiff_t n = 0;

    if (tb_check_count("shuffle_lengths", nargs, 4) < 0 ||
        tb_read_function(args[0], &context) < 0 ||
        tb_read_uint64(&context, "seed", args[2], &seed) < 0 ||
        tb_read_uint64(&context, "epoch", args[3], &epoch) < 0) {
        return NULL;
    }
    const int64_t *data = tb_read_length_array(context.function, args[1], &n);
    PyArrayObject *shuffled = data == NULL ? NULL : new_integers(n);
    if (shuffled == NULL) {
        return NULL;
    }
    int64_t *lengths = integers_of(shuffled);
    PyThreadState *thread = PyEval_SaveThread();
    memcpy(lengths, data, (size_t)n * sizeof *lengths);
    tb_shuffle_lengths(lengths, n, seed, epoch, &random);
    PyEval_RestoreThread(thread);
    return Py_BuildValue("Ny#", shuffled, (const char *)&random,
                         (Py_ssize_t)sizeof random);
}

/* None, or what shuffle_lengths() gave. */
static int
read_random(const tb_context *context, PyObject *object, tb_random *random)
{
    if (object == Py_None) {
        return 0;
    }
    if (!PyBytes_Check(object) || PyBytes_GET_SIZE(object) != sizeof *random) {
        PyErr_Format(PyExc_TypeError, "%s(): expected the bytes of shuffle_lengths()",
                     context->function);
        return -1;
    }
    memcpy(random, PyBytes_AS_STRING(object), sizeof *random);
    return 1;
}

/* Where batch k of the plan begins and ends among its items. */
static void
write_edges(const tb_batch_plan *plan, int64_t *begins, int64_t *ends)
{
    for (ptrdiff_t k = 0; k < plan->batch_count; k++) {
        ptrdiff_t batch = plan->order == NULL ? k : (ptrdiff_t)plan->order[k];
        begins[k] = plan->starts[batch];
        ends[k] = plan->starts[batch + 1];
    }
}

/* plan_lengths(function, shuffled, settings, random) -> the lengths in the order of
 * cutting, int64 [rows], and where in them each batch begins and ends, int64 [batches];
 * in the order of the plan, or without `random` in that of cutting */
static PyObject *
wrap_plan_lengths(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_plan_settings settings;
    tb_batch_plan plan = {0};
    tb_random random;
    tb_error error = {-1, -1, 0};
    PyObject *answer = NULL;
    PyArrayObject *lengths = NULL, *begins = NULL, *ends = NULL;
    ptrdiff_t n = 0;

    if (tb_check_count("plan_lengths", nargs, 4) < 0) {
        return NULL;
    }
    const int64_t *data = tb_read_plan_arguments(args, &context, &settings, &n);
    int is_ordered = data == NULL ? -1 : read_random(&context, args[3], &random);
    lengths = is_ordered < 0 ? NULL : new_integers(n);
    if (lengths == NULL) {
        return NULL;
    }
    uint64_t *items = (uint64_t *)PyArray_DATA(lengths);
    PyThreadState *thread = PyEval_SaveThread();
    tb_status status = tb_plan_lengths(
        data, n, &settings.core, is_ordered ? &random : NULL, items, &plan, &error);
    PyEval_RestoreThread(thread);
    if (status != TB_OK) {
        tb_raise_plan_lengths(&context, status, &settings, &error);
        goto done;
    }
    begins = new_integers(plan.batch_count);
    ends = new_integers(plan.batch_count);
    if (begins != NULL && ends != NULL) {
        write_edges(&plan, integers_of(begins), integers_of(ends));
        answer = PyTuple_Pack(3, lengths, begins, ends);
    }
done:
    plan.items = NULL; /* those of the array */
    tb_free_batches(&plan);
    Py_DECREF(lengths);
    Py_XDECREF(begins);
    Py_XDECREF(ends);
    return answer;
}

/* cut_in_order(function, lengths, settings) -> offsets of batches that are cut where the
 * next row would break a cap, int64 [batches + 1] */
static PyObject *
wrap_cut_in_order(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_plan_settings settings;
    ptrdiff_t n = 0, batches;

    if (tb_check_count("cut_in_order", nargs, 3) < 0) {
        return NULL;
    }
    const int64_t *data = tb_read_plan_arguments(args, &context, &settings, &n);
    int64_t *offsets =
        data == NULL ? NULL : (int64_t *)tb_allocate_array(n + 1, sizeof *offsets);
    if (offsets == NULL) {
        return data == NULL ? NULL : PyErr_NoMemory();
    }
    PyThreadState *thread = PyEval_SaveThread();
    batches = tb_cut_in_order(data, n, &settings.core, offsets);
    PyEval_RestoreThread(thread);
    PyArrayObject *answer = new_integers(batches + 1);
    if (answer != NULL) {
        memcpy(PyArray_DATA(answer), offsets, ((size_t)batches + 1) * sizeof *offsets);
    }
    free(offsets);
    return (PyObject *)answer;
}

/* Begins and ends that lie among n lengths. */
static int
check_edges(const tb_context *context, const int64_t *begins, const int64_t *ends,
            ptrdiff_t batches, ptrdiff_t n)
{
    for (ptrdiff_t k = 0; k < batches; k++) {
        if (begins[k] < 0 || ends[k] < begins[k] || ends[k] > n) {
            PyErr_Format(PyExc_ValueError, "%s(): batch %zd lies outside the lengths",
                         context->function, k);
            return -1;
        }
    }
    return 0;
}

/* measure_shapes(function, lengths, settings, begins, ends) -> the width of each batch,
 * and the tokens of its rows, int64 [batches] */
static PyObject *
wrap_measure_shapes(PyObject *Py_UNUSED(module), PyObject *const *args,
                    Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_plan_settings settings;
    tb_error error = {-1, -1, 0};
    PyObject *answer = NULL;
    ptrdiff_t n = 0, batches = 0, count = 0;

    if (tb_check_count("measure_shapes", nargs, 5) < 0) {
        return NULL;
    }
    const int64_t *data = tb_read_plan_arguments(args, &context, &settings, &n);
    const int64_t *begins =
        data == NULL ? NULL : tb_read_length_array(context.function, args[3], &batches);
    const int64_t *ends =
        begins == NULL ? NULL : tb_read_length_array(context.function, args[4], &count);
    if (ends == NULL ||
        check_edges(&context, begins, ends, tb_min(batches, count), n)) {
        return NULL;
    }
    batches = tb_min(batches, count);
    PyArrayObject *widths = new_integers(batches), *tokens = new_integers(batches);
    if (widths != NULL && tokens != NULL) {
        PyThreadState *thread = PyEval_SaveThread();
        tb_status status =
            tb_measure_shapes(data, begins, ends, batches, &settings.core,
                              integers_of(widths), integers_of(tokens), &error);
        PyEval_RestoreThread(thread);
        if (status == TB_OK) {
            answer = PyTuple_Pack(2, widths, tokens);
        }
        else {
            PyErr_Format(tb_status_exception(status),
                         "%s(): batch %zd: its longest row, of length %lld, has no "
                         "width, or all its rows are more tokens than int64 can count",
                         context.function, error.row, (long long)error.value);
        }
    }
    Py_XDECREF(widths);
    Py_XDECREF(tokens);
    return answer;
}

PyMethodDef tb_waste_methods[] = {
    {"shuffle_lengths", (PyCFunction)(void (*)(void))wrap_shuffle_lengths,
     METH_FASTCALL, NULL},
    {"plan_lengths", (PyCFunction)(void (*)(void))wrap_plan_lengths, METH_FASTCALL,
     NULL},
    {"cut_in_order", (PyCFunction)(void (*)(void))wrap_cut_in_order, METH_FASTCALL,
     NULL},
    {"measure_shapes", (PyCFunction)(void (*)(void))wrap_measure_shapes, METH_FASTCALL,
     NULL},
    {NULL, NULL, 0, NULL},
};
