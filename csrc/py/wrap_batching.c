/* plan_batches() and survey_batches(), for LengthBatchSampler. */
#include "tb_numpy.h"
#include "errors.h"
#include "state.h"
#include "batching.h"

static const tb_context sampler_context = {"LengthBatchSampler", NULL, NULL, 0};

/* Settings as they were given: INT64_MAX stands for a cap that was not. */
static int
check_settings(const tb_batch_settings *settings)
{
    if (settings->batch_size < 1 || settings->max_tokens < 1 ||
        settings->max_length < 1 || settings->multiple < 1 || settings->window < 1) {
        return tb_raise_at(&sampler_context, PyExc_ValueError, -1, -1,
                           "caps, multiple and window must be at least 1");
    }
    return 0;
}

static const int64_t *
read_length_array(PyObject *object, ptrdiff_t *count)
{
    PyArrayObject *array = (PyArrayObject *)object;

    if (!PyArray_Check(object) || PyArray_NDIM(array) != 1 ||
        PyArray_TYPE(array) != NPY_INT64 || !PyArray_ISCARRAY_RO(array)) {
        tb_raise_at(&sampler_context, PyExc_TypeError, -1, -1,
                    "lengths: expected a contiguous int64 array [rows]");
        return NULL;
    }
    *count = PyArray_SIZE(array);
    return (const int64_t *)PyArray_DATA(array);
}

/* What would help: a max_length whose padded width is within max_tokens, if there is.
 */
static void
raise_row_too_long(const tb_batch_settings *settings, const tb_error *error)
{
    PyObject *exception = tb_status_exception(TB_ERR_TOO_LONG);
    long long length = (long long)error->value;
    long long cap = (long long)settings->max_tokens;
    long long allowed = cap - cap % (long long)settings->multiple;

    if (settings->max_length < error->value) {
        length = (long long)settings->max_length;
    }
    if (settings->multiple == 1) {
        tb_raise_at(&sampler_context, exception, error->row, -1,
                    "length %lld is more than max_tokens=%lld; "
                    "pass max_length=%lld or a larger max_tokens",
                    length, cap, allowed);
    }
    else if (allowed > 0) {
        tb_raise_at(&sampler_context, exception, error->row, -1,
                    "length %lld, padded to a multiple of %lld, is more than "
                    "max_tokens=%lld; pass max_length=%lld or a larger max_tokens",
                    length, (long long)settings->multiple, cap, allowed);
    }
    else {
        tb_raise_at(&sampler_context, exception, error->row, -1,
                    "length %lld, padded to a multiple of %lld, is more than "
                    "max_tokens=%lld; pass a larger max_tokens",
                    length, (long long)settings->multiple, cap);
    }
}

static void
raise_lengths(tb_status status, const tb_batch_settings *settings,
              const tb_error *error)
{
    PyObject *exception = tb_status_exception(status);

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

/* plan_batches(lengths, batch_size, max_tokens, max_length, multiple, window, shuffle,
 *              drop_last, seed, epoch) -> indices [rows], offsets [batches + 1] */
static PyObject *
wrap_plan_batches(PyObject *Py_UNUSED(module), PyObject *args)
{
    long long batch_size, max_tokens, max_length, multiple, window;
    unsigned long long seed, epoch;
    tb_batch_settings settings;
    tb_batch_plan plan = {0};
    tb_error error = {-1, -1, 0};
    tb_status status;
    PyThreadState *thread;
    const int64_t *data;
    PyObject *lengths, *result = NULL;
    PyArrayObject *indices = NULL, *offsets = NULL;
    ptrdiff_t n = 0;

    if (!PyArg_ParseTuple(args, "OLLLLLppKK:plan_batches", &lengths, &batch_size,
                          &max_tokens, &max_length, &multiple, &window,
                          &settings.shuffle, &settings.drop_last, &seed, &epoch)) {
        return NULL;
    }
    settings.batch_size = batch_size;
    settings.max_tokens = max_tokens;
    settings.max_length = max_length;
    settings.multiple = multiple;
    settings.window = window;
    settings.seed = seed;
    settings.epoch = epoch;
    data = read_length_array(lengths, &n);
    if (data == NULL || check_settings(&settings) < 0) {
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

/* survey_batches(lengths, max_tokens, max_length, multiple) -> total of the clipped
 * lengths; raises what plan_batches would. */
static PyObject *
wrap_survey_batches(PyObject *Py_UNUSED(module), PyObject *args)
{
    long long max_tokens, max_length, multiple;
    tb_batch_settings settings = {.batch_size = 1, .window = 1};
    tb_length_summary summary;
    tb_error error = {-1, -1, 0};
    tb_status status;
    PyThreadState *thread;
    const int64_t *data;
    PyObject *lengths;
    ptrdiff_t n = 0;

    if (!PyArg_ParseTuple(args, "OLLL:survey_batches", &lengths, &max_tokens,
                          &max_length, &multiple)) {
        return NULL;
    }
    settings.max_tokens = max_tokens;
    settings.max_length = max_length;
    settings.multiple = multiple;
    data = read_length_array(lengths, &n);
    if (data == NULL || check_settings(&settings) < 0) {
        return NULL;
    }
    thread = PyEval_SaveThread();
    status = tb_summarize_lengths(data, n, &settings, &summary, &error);
    PyEval_RestoreThread(thread);
    if (status != TB_OK) {
        raise_lengths(status, &settings, &error);
        return NULL;
    }
    return PyLong_FromLongLong(summary.total);
}

PyMethodDef tb_batching_methods[] = {
    {"plan_batches", wrap_plan_batches, METH_VARARGS, NULL},
    {"survey_batches", wrap_survey_batches, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
