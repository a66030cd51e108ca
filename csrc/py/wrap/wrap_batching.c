/* plan_batches(), survey_batches(), row_costs() and share_rows(), for LengthBatchSampler
 * and pack(). */
#include "py/base/tb_numpy.h"
#include "py/base/errors.h"
#include "py/base/state.h"
#include "core/plan/balance.h"
#include "core/plan/batching.h"
#include "core/plan/cost.h"
#include "core/plan/survey.h"

#include <string.h>

static const tb_context sampler_context = {"LengthBatchSampler", NULL, NULL, 0};

static const int64_t *
read_length_array(PyObject *object, ptrdiff_t *count)
{
    PyArrayObject *array = (PyArrayObject *)object;

    if (!PyArray_Check(object) || PyArray_NDIM(array) != 1 ||
        PyArray_TYPE(array) != NPY_INT64 || !PyArray_ISCARRAY_RO(array)) {
        tb_raise_at(&sampler_context, PyExc_TypeError, -1, -1,
                    "expected a contiguous int64 array of one dimension");
        return NULL;
    }
    *count = PyArray_SIZE(array);
    return (const int64_t *)PyArray_DATA(array);
}

/* (batch_size, max_tokens, max_length, multiple, quadratic, window, balance,
 *  padding_free, shuffle, longest_first, drop_last, drop_overlong, seed, boundaries),
 * where INT64_MAX stands for a cap that was not given, and None for boundaries. The
 * tuple keeps them. */
static int
read_settings(PyObject *object, tb_batch_settings *settings)
{
    long long batch_size, max_tokens, max_length, multiple, quadratic, window, balance;
    unsigned long long seed;
    PyObject *boundaries;

    if (!PyArg_ParseTuple(object, "LLLLLLLpppppKO:settings", &batch_size, &max_tokens,
                          &max_length, &multiple, &quadratic, &window, &balance,
                          &settings->padding_free, &settings->shuffle,
                          &settings->longest_first, &settings->drop_last,
                          &settings->drop_overlong, &seed, &boundaries)) {
        return -1;
    }
    settings->boundaries = NULL;
    settings->boundary_count = 0;
    if (boundaries != Py_None) {
        settings->boundaries = read_length_array(boundaries, &settings->boundary_count);
        if (settings->boundaries == NULL) {
            return -1;
        }
    }
    settings->batch_size = batch_size;
    settings->max_tokens = max_tokens;
    settings->max_length = max_length;
    settings->multiple = multiple;
    settings->quadratic = quadratic;
    settings->window = window;
    settings->balance = balance;
    settings->seed = seed;
    settings->epoch = 0;
    if (batch_size < 1 || max_tokens < 1 || max_length < 1 || multiple < 1 ||
        quadratic < 0 || window < 1 || balance < 1) {
        return tb_raise_at(&sampler_context, PyExc_ValueError, -1, -1,
                           "caps, multiple, window and balance must be at least 1");
    }
    return 0;
}

/* What would help: a max_length that is within max_tokens, if there is. */
static void
raise_row_too_long(const tb_batch_settings *settings, const tb_error *error)
{
    PyObject *exception = tb_status_exception(TB_ERR_TOO_LONG);
    long long length = (long long)error->value, cap = (long long)settings->max_tokens;
    long long allowed = (long long)tb_find_longest_allowed(settings);
    char counted[80] = "", fix[120] = "a larger max_tokens, or overlong='drop'";

    if (settings->max_length < error->value) {
        length = (long long)settings->max_length;
    }
    if (settings->multiple > 1) {
        PyOS_snprintf(counted, sizeof counted, ", padded to a multiple of %lld,",
                      (long long)settings->multiple);
    }
    if (settings->quadratic > 0) {
        PyOS_snprintf(counted + strlen(counted), sizeof counted - strlen(counted),
                      " with its quadratic part");
    }
    if (allowed > 0) {
        PyOS_snprintf(fix, sizeof fix,
                      "max_length=%lld, a larger max_tokens, or overlong='truncate' or "
                      "'drop'",
                      allowed);
    }
    tb_raise_at(&sampler_context, exception, error->row, -1,
                "length %lld%s is more than max_tokens=%lld; pass %s", length, counted,
                cap, fix);
}

static int
is_past_boundaries(const tb_batch_settings *settings, int64_t length)
{
    return settings->boundaries != NULL &&
           length > settings->boundaries[settings->boundary_count - 1];
}

static void
raise_lengths(tb_status status, const tb_batch_settings *settings,
              const tb_error *error)
{
    PyObject *exception = tb_status_exception(status);
    int64_t length =
        error->value < settings->max_length ? error->value : settings->max_length;

    if (status != TB_ERR_MEMORY && is_past_boundaries(settings, length)) {
        long long last = (long long)settings->boundaries[settings->boundary_count - 1];
        tb_raise_at(&sampler_context, PyExc_ValueError, error->row, -1,
                    "length %lld is more than the last boundary %lld; pass "
                    "max_length=%lld, a larger boundary, or overlong='truncate' or "
                    "'drop'",
                    (long long)length, last, last);
        return;
    }
    switch (status) {
        case TB_ERR_MEMORY:
            PyErr_NoMemory();
            break;
        case TB_ERR_NEGATIVE:
            tb_raise_at(&sampler_context, exception, error->row, -1,
                        "length %lld is negative", (long long)error->value);
            break;
        case TB_ERR_TOO_LONG:
            raise_row_too_long(settings, error);
            break;
        default:
            tb_raise_at(&sampler_context, exception, error->row, -1,
                        "length %lld is too long to plan for; pass max_length=",
                        (long long)error->value);
            break;
    }
}

/* plan_batches(lengths, settings, epoch) -> indices [rows], offsets [batches + 1] */
static PyObject *
wrap_plan_batches(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long epoch;
    tb_batch_settings settings;
    tb_batch_plan plan = {0};
    tb_error error = {-1, -1, 0};
    tb_status status;
    PyThreadState *thread;
    const int64_t *data;
    PyObject *lengths, *given, *result = NULL;
    PyArrayObject *indices = NULL, *offsets = NULL;
    ptrdiff_t n = 0;

    if (!PyArg_ParseTuple(args, "OO!K:plan_batches", &lengths, &PyTuple_Type, &given,
                          &epoch) ||
        read_settings(given, &settings) < 0) {
        return NULL;
    }
    settings.epoch = epoch;
    data = read_length_array(lengths, &n);
    if (data == NULL) {
        return NULL;
    }
    thread = PyEval_SaveThread();
    status = tb_plan_batches(data, n, &settings, &plan, &error);
    PyEval_RestoreThread(thread);
    if (status != TB_OK) {
        raise_lengths(status, &settings, &error);
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

/* survey_batches(lengths, settings) -> rows that are not dropped, the total of their
 * lengths once clipped, the longest that max_tokens allows, fingerprint of the lengths;
 * raises what plan_batches would. */
static PyObject *
wrap_survey_batches(PyObject *Py_UNUSED(module), PyObject *args)
{
    tb_batch_settings settings;
    tb_length_summary summary;
    tb_error error = {-1, -1, 0};
    tb_status status;
    PyThreadState *thread;
    const int64_t *data;
    PyObject *lengths, *given;
    ptrdiff_t n = 0;
    uint64_t fingerprint;

    if (!PyArg_ParseTuple(args, "OO!:survey_batches", &lengths, &PyTuple_Type,
                          &given) ||
        read_settings(given, &settings) < 0) {
        return NULL;
    }
    data = read_length_array(lengths, &n);
    if (data == NULL) {
        return NULL;
    }
    thread = PyEval_SaveThread();
    status = tb_summarize_lengths(data, n, &settings, &summary, &error);
    fingerprint = tb_fingerprint_lengths(data, n);
    PyEval_RestoreThread(thread);
    if (status != TB_OK) {
        raise_lengths(status, &settings, &error);
        return NULL;
    }
    return Py_BuildValue("nLLK", (Py_ssize_t)summary.rows, (long long)summary.total,
                         (long long)tb_find_longest_allowed(&settings),
                         (unsigned long long)fingerprint);
}

/* row_costs(lengths, settings) -> what each row costs alone, int64, never more than lets
 * their sum fit */
static PyObject *
wrap_row_costs(PyObject *Py_UNUSED(module), PyObject *args)
{
    tb_batch_settings settings;
    PyObject *lengths, *given, *costs;
    ptrdiff_t n = 0;

    if (!PyArg_ParseTuple(args, "OO!:row_costs", &lengths, &PyTuple_Type, &given) ||
        read_settings(given, &settings) < 0) {
        return NULL;
    }
    const int64_t *data = read_length_array(lengths, &n);
    if (data == NULL) {
        return NULL;
    }
    npy_intp rows = n;
    costs = PyArray_SimpleNew(1, &rows, NPY_INT64);
    if (costs != NULL) {
        tb_find_row_costs(data, n, &settings,
                          (int64_t *)PyArray_DATA((PyArrayObject *)costs));
    }
    return costs;
}

/* share_rows(costs, ranks) -> the rank of each row, int64 */
static PyObject *
wrap_share_rows(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *given;
    PyArrayObject *ranks = NULL;
    Py_ssize_t count;
    ptrdiff_t n = 0;
    tb_status status;

    if (!PyArg_ParseTuple(args, "On:share_rows", &given, &count)) {
        return NULL;
    }
    const int64_t *costs = read_length_array(given, &n);
    if (costs == NULL) {
        return NULL;
    }
    npy_intp rows = n;
    ranks = (PyArrayObject *)PyArray_SimpleNew(1, &rows, NPY_INT64);
    if (ranks == NULL) {
        return NULL;
    }
    status = tb_share_rows(costs, n, count, (int64_t *)PyArray_DATA(ranks));
    if (status != TB_OK) {
        Py_CLEAR(ranks);
        if (status == TB_ERR_MEMORY) {
            PyErr_NoMemory();
        }
        else {
            PyErr_SetString(tb_status_exception(status),
                            "share_rows(): expected costs of at least 0 with a sum "
                            "below 2**63, and at least one rank");
        }
    }
    return (PyObject *)ranks;
}

PyMethodDef tb_batching_methods[] = {
    {"plan_batches", wrap_plan_batches, METH_VARARGS, NULL},
    {"survey_batches", wrap_survey_batches, METH_VARARGS, NULL},
    {"row_costs", wrap_row_costs, METH_VARARGS, NULL},
    {"share_rows", wrap_share_rows, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
