/* plan_batches(), measure_plan(), survey_lengths(), row_costs() and share_rows(), for
 * LengthBatchSampler and pack(). */
#include "py/base/tb_numpy.h"
#include "py/base/state.h"
#include "py/input/plan_settings.h"
#include "core/base/memory.h"
#include "core/plan/balance.h"
#include "core/plan/batching.h"
#include "core/plan/cost.h"
#include "core/plan/fairness.h"
#include "core/plan/survey.h"

#include <string.h>

/* read_plan_settings(function, settings) -> the same settings, checked, as int, bool,
 * str or None */
static PyObject *
wrap_read_plan_settings(PyObject *Py_UNUSED(module), PyObject *const *args,
                        Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_plan_settings settings;

    if (tb_check_count("read_plan_settings", nargs, 2) < 0 ||
        tb_read_function(args[0], &context) < 0 ||
        tb_read_plan_settings(&context, args[1], &settings) < 0) {
        return NULL;
    }
    return tb_dict_of_plan_settings(&settings);
}

/* plan_batches(function, lengths, settings, epoch)
 * -> indices [rows], offsets [batches + 1] */
static PyObject *
wrap_plan_batches(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_plan_settings settings;
    tb_batch_plan plan = {0};
    tb_error error = {-1, -1, 0};
    PyObject *result = NULL;
    PyArrayObject *indices = NULL, *offsets = NULL;
    ptrdiff_t n = 0;

    if (tb_check_count("plan_batches", nargs, 4) < 0) {
        return NULL;
    }
    const int64_t *data = tb_read_plan_arguments(args, &context, &settings, &n);
    if (data == NULL ||
        tb_read_uint64(&context, "epoch", args[3], &settings.core.epoch) < 0) {
        return NULL;
    }
    PyThreadState *thread = PyEval_SaveThread();
    tb_status status = tb_plan_batches(data, n, &settings.core, &plan, &error);
    PyEval_RestoreThread(thread);
    if (status != TB_OK) {
        tb_raise_plan_lengths(&context, status, &settings, &error);
        goto done;
    }
    npy_intp rows = plan.row_count, edges = plan.batch_count + 1;
    indices = (PyArrayObject *)PyArray_SimpleNew(1, &rows, NPY_INT64);
    offsets = (PyArrayObject *)PyArray_SimpleNew(1, &edges, NPY_INT64);
    if (indices == NULL || offsets == NULL) {
        goto done;
    }
    thread = PyEval_SaveThread();
    tb_write_batches(&plan, (int64_t *)PyArray_DATA(indices),
                     (int64_t *)PyArray_DATA(offsets));
    PyEval_RestoreThread(thread);
    result = PyTuple_Pack(2, indices, offsets);
done:
    Py_XDECREF(indices);
    Py_XDECREF(offsets);
    tb_free_batches(&plan);
    return result;
}

enum { ROWS_AHEAD = 32 };

/* The lengths of a plan's rows, in its order, cut to `most`; NULL where memory is
 * lacking. */
static int64_t *
gather_lengths(const int64_t *lengths, const int64_t *indices, ptrdiff_t rows,
               int64_t most)
{
    int64_t *gathered = (int64_t *)tb_allocate_array(rows, sizeof *gathered);

    for (ptrdiff_t i = 0; i < rows && gathered != NULL; i++) {
        /* Rows lie anywhere: without this each would be waited for. */
        TB_PREFETCH(lengths + indices[tb_min(i + ROWS_AHEAD, rows - 1)]);
        gathered[i] = tb_min(lengths[indices[i]], most);
    }
    return gathered;
}

static PyObject *
build_spread(const tb_spread *spread)
{
    return Py_BuildValue("nddLLddd", (Py_ssize_t)spread->batches, spread->rows_mean,
                         spread->rows_std, (long long)spread->rows_min,
                         (long long)spread->rows_max, spread->length_std,
                         spread->correlation, spread->padding);
}

/* measure_plan(function, lengths, settings, indices, offsets, ranks)
 * -> the spread of the plan's batches, of its steps, and of random batches: batches,
 *    rows_mean, rows_std, rows_min, rows_max, length_std, correlation, padding */
static PyObject *
wrap_measure_plan(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_plan_settings settings;
    tb_spread own, steps, chance;
    ptrdiff_t n = 0, rows = 0, edges = 0;
    Py_ssize_t ranks = 1;

    if (tb_check_count("measure_plan", nargs, 6) < 0) {
        return NULL;
    }
    const int64_t *data = tb_read_plan_arguments(args, &context, &settings, &n);
    const int64_t *indices =
        data == NULL ? NULL : tb_read_length_array(context.function, args[3], &rows);
    const int64_t *offsets =
        indices == NULL ? NULL
                        : tb_read_length_array(context.function, args[4], &edges);
    if (offsets == NULL ||
        tb_read_size(&context, "ranks", args[5], 1, TB_REQUIRED, &ranks) < 0) {
        return NULL;
    }
    PyThreadState *thread = PyEval_SaveThread();
    int64_t *lengths = gather_lengths(data, indices, rows, settings.core.max_length);
    if (lengths != NULL) {
        tb_random random;
        tb_seed_random(&random, settings.core.seed, 0);
        tb_measure_batches(lengths, offsets, edges - 1, 1, &settings.core, &own);
        steps = own;
        if (ranks > 1) {
            tb_measure_batches(lengths, offsets, edges - 1, ranks, &settings.core,
                               &steps);
        }
        tb_measure_random(lengths, rows, &settings.core, &random, &chance);
    }
    int is_measured = lengths != NULL;
    free(lengths);
    PyEval_RestoreThread(thread);
    return !is_measured ? PyErr_NoMemory()
                        : Py_BuildValue("NNN", build_spread(&own), build_spread(&steps),
                                        build_spread(&chance));
}

/* Of the lengths, the costs and the keys. */
static uint64_t
fingerprint_rows(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings)
{
    int64_t parts[2 + 2 * TB_MOST_LIMITS] = {0};
    ptrdiff_t count = 0;

    parts[count++] = (int64_t)tb_fingerprint_lengths(lengths, n);
    for (ptrdiff_t k = 0; k < settings->limit_count; k++) {
        const tb_limit *limit = &settings->limits[k];
        parts[count++] = (int64_t)tb_fingerprint_lengths(limit->costs, n);
        if (limit->others != NULL) {
            parts[count++] = (int64_t)tb_fingerprint_lengths(limit->others, n);
        }
    }
    if (settings->keys != NULL) {
        parts[count++] = (int64_t)tb_fingerprint_lengths(settings->keys, n);
    }
    return count == 1 ? (uint64_t)parts[0] : tb_fingerprint_lengths(parts, count);
}

/* survey_lengths(function, lengths, settings) -> rows that are not left out, the total
 * of their lengths after cutting, the longest that max_tokens and the boundaries allow,
 * fingerprint of the lengths. Raises what plan_batches would raise, except for rows
 * that settings["overlong"] cuts or drops. */
static PyObject *
wrap_survey_lengths(PyObject *Py_UNUSED(module), PyObject *const *args,
                    Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_plan_settings settings;
    tb_length_summary summary;
    tb_error error = {-1, -1, 0};
    ptrdiff_t n = 0;

    if (tb_check_count("survey_lengths", nargs, 3) < 0) {
        return NULL;
    }
    const int64_t *data = tb_read_plan_arguments(args, &context, &settings, &n);
    if (data == NULL) {
        return NULL;
    }
    settings.core.drop_overlong = settings.overlong != TB_OVERLONG_ERROR;
    PyThreadState *thread = PyEval_SaveThread();
    tb_status status = tb_summarize_lengths(data, n, &settings.core, &summary, &error);
    uint64_t fingerprint = fingerprint_rows(data, n, &settings.core);
    PyEval_RestoreThread(thread);
    if (status != TB_OK) {
        tb_raise_plan_lengths(&context, status, &settings, &error);
        return NULL;
    }
    return Py_BuildValue("nLLK", (Py_ssize_t)summary.rows, (long long)summary.total,
                         (long long)tb_find_longest_allowed(&settings.core),
                         (unsigned long long)fingerprint);
}

/* row_costs(function, lengths, settings) -> what each row costs alone, int64 [rows];
 * where their sum would not fit, costs are lowered so that it does */
static PyObject *
wrap_row_costs(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_plan_settings settings;
    ptrdiff_t n = 0;

    if (tb_check_count("row_costs", nargs, 3) < 0) {
        return NULL;
    }
    const int64_t *data = tb_read_plan_arguments(args, &context, &settings, &n);
    npy_intp rows = n;
    PyArrayObject *costs =
        data == NULL ? NULL : (PyArrayObject *)PyArray_SimpleNew(1, &rows, NPY_INT64);
    if (costs != NULL) {
        tb_find_row_costs(data, n, &settings.core, (int64_t *)PyArray_DATA(costs));
    }
    return (PyObject *)costs;
}

/* share_rows(costs, ranks) -> the rank of each row, int64 */
static PyObject *
wrap_share_rows(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    static const tb_context context = {.function = "share_rows"};
    PyArrayObject *ranks = NULL;
    Py_ssize_t count;
    ptrdiff_t n = 0;

    if (tb_check_count("share_rows", nargs, 2) < 0 ||
        tb_read_size(&context, "ranks", args[1], 1, TB_REQUIRED, &count) < 0) {
        return NULL;
    }
    const int64_t *costs = tb_read_length_array("share_rows", args[0], &n);
    if (costs == NULL) {
        return NULL;
    }
    npy_intp rows = n;
    ranks = (PyArrayObject *)PyArray_SimpleNew(1, &rows, NPY_INT64);
    if (ranks == NULL) {
        return NULL;
    }
    tb_status status = tb_share_rows(costs, n, count, (int64_t *)PyArray_DATA(ranks));
    if (status != TB_OK) {
        Py_CLEAR(ranks);
        if (status == TB_ERR_MEMORY) {
            PyErr_NoMemory();
        }
        else {
            PyErr_SetString(tb_status_exception(status),
                            "share_rows(): expected costs of at least 0 with a sum "
                            "below 2**63");
        }
    }
    return (PyObject *)ranks;
}

PyMethodDef tb_batching_methods[] = {
    {"read_plan_settings", (PyCFunction)(void (*)(void))wrap_read_plan_settings,
     METH_FASTCALL, NULL},
    {"plan_batches", (PyCFunction)(void (*)(void))wrap_plan_batches, METH_FASTCALL,
     NULL},
    {"measure_plan", (PyCFunction)(void (*)(void))wrap_measure_plan, METH_FASTCALL,
     NULL},
    {"survey_lengths", (PyCFunction)(void (*)(void))wrap_survey_lengths, METH_FASTCALL,
     NULL},
    {"row_costs", (PyCFunction)(void (*)(void))wrap_row_costs, METH_FASTCALL, NULL},
    {"share_rows", (PyCFunction)(void (*)(void))wrap_share_rows, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
