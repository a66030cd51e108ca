/* plan_batches(), measure_plan(), survey_lengths(), row_costs() and share_rows(), for
 * LengthBatchSampler and pack(). */
#include "py/base/tb_numpy.h"
#include "py/base/state.h"
#include "py/input/settings.h"
#include "core/base/memory.h"
#include "core/plan/balance.h"
#include "core/plan/batching.h"
#include "core/plan/cost.h"
#include "core/plan/fairness.h"
#include "core/plan/survey.h"

#include <string.h>

/* An int64 array that this package made; users never pass one. */
static const int64_t *
read_length_array(const char *function, PyObject *object, ptrdiff_t *count)
{
    PyArrayObject *array = (PyArrayObject *)object;

    if (!PyArray_Check(object) || PyArray_NDIM(array) != 1 ||
        PyArray_TYPE(array) != NPY_INT64 || !PyArray_ISCARRAY_RO(array)) {
        PyErr_Format(PyExc_TypeError,
                     "%s(): expected a contiguous int64 array of one dimension",
                     function);
        return NULL;
    }
    *count = PyArray_SIZE(array);
    return (const int64_t *)PyArray_DATA(array);
}

/* --- settings --------------------------------------------------------------------- */

/* The core's settings, and those that the core does not need. */
typedef struct {
    tb_batch_settings core;
    int overlong;
} plan_settings;

#define FIELD(name) offsetof(plan_settings, core.name)
#define CAP(name, field) \
    {name, TB_SETTING_INT, FIELD(field), 1, INT64_MAX - 1, INT64_MAX, NULL}
#define FLAG(name, field) {name, TB_SETTING_FLAG, FIELD(field), 0, 0, 0, NULL}

/* clang-format off */
static const tb_setting plan_table[] = {
    CAP("batch_size", batch_size),
    CAP("max_tokens", max_tokens),
    CAP("max_length", max_length),
    {"pad_to_multiple_of", TB_SETTING_INT, FIELD(multiple), 1, INT64_MAX - 1, 1, NULL},
    {"quadratic_length", TB_SETTING_INT, FIELD(quadratic), 1, INT64_MAX - 1, 0, NULL},
    {"shuffle_window", TB_SETTING_INT, FIELD(window), 1, 0, INT64_MAX, NULL},
    {"pool_size", TB_SETTING_INT, FIELD(pool), 1, 0, 0, NULL},
    {"balance", TB_SETTING_INT, FIELD(balance), 1, 0, 0, NULL},
    {"ranks", TB_SETTING_INT, FIELD(ranks), 1, 0, TB_REQUIRED, NULL},
    FLAG("padding_free", padding_free),
    FLAG("shuffle", shuffle),
    FLAG("longest_first", longest_first),
    FLAG("drop_last", drop_last),
    {"overlong", TB_SETTING_CHOICE, offsetof(plan_settings, overlong), 0, 0, 0,
     tb_overlong_choices},
    {"seed", TB_SETTING_UINT64, FIELD(seed), 0, 0, 0, NULL},
};
/* clang-format on */

enum { PLAN_SETTINGS = sizeof plan_table / sizeof *plan_table };

/* Reads the settings from a dict. `boundaries` is None or an int64 array from
 * read_boundaries(); the dict keeps it alive. */
static int
read_plan_settings(const tb_context *context, PyObject *given, plan_settings *settings)
{
    memset(settings, 0, sizeof *settings);
    if (tb_read_settings(context, plan_table, PLAN_SETTINGS, given, settings) < 0) {
        return -1;
    }
    PyObject *boundaries = PyDict_GetItemString(given, "boundaries");
    if (boundaries != NULL && boundaries != Py_None) {
        settings->core.boundaries = read_length_array(context->function, boundaries,
                                                      &settings->core.boundary_count);
        if (settings->core.boundaries == NULL) {
            return -1;
        }
    }
    settings->core.drop_overlong = settings->overlong == TB_OVERLONG_DROP;
    return 0;
}

/* read_plan_settings(function, settings) -> the same settings, checked, as int, bool,
 * str or None */
static PyObject *
wrap_read_plan_settings(PyObject *Py_UNUSED(module), PyObject *const *args,
                        Py_ssize_t nargs)
{
    tb_context context = {0};
    plan_settings settings;

    if (tb_check_count("read_plan_settings", nargs, 2) < 0 ||
        tb_read_function(args[0], &context) < 0 ||
        read_plan_settings(&context, args[1], &settings) < 0) {
        return NULL;
    }
    return tb_dict_of_settings(plan_table, PLAN_SETTINGS, &settings);
}

/* Reads (function, lengths, settings, ...), the arguments of all functions that plan.
 */
static const int64_t *
read_plan_arguments(PyObject *const *args, tb_context *context, plan_settings *settings,
                    ptrdiff_t *count)
{
    if (tb_read_function(args[0], context) < 0 ||
        read_plan_settings(context, args[2], settings) < 0) {
        return NULL;
    }
    return read_length_array(context->function, args[1], count);
}

/* Raises, and says what would help: a max_length that fits max_tokens, if there is one.
 */
static void
raise_row_too_long(const tb_context *context, const tb_batch_settings *settings,
                   const tb_error *error)
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
    tb_raise_at(context, exception, error->row, -1,
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
raise_lengths(const tb_context *context, tb_status status,
              const tb_batch_settings *settings, const tb_error *error)
{
    PyObject *exception = tb_status_exception(status);
    int64_t length =
        error->value < settings->max_length ? error->value : settings->max_length;

    if (status != TB_ERR_MEMORY && is_past_boundaries(settings, length)) {
        long long last = (long long)settings->boundaries[settings->boundary_count - 1];
        tb_raise_at(context, PyExc_ValueError, error->row, -1,
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
            tb_raise_at(context, exception, error->row, -1, "length %lld is negative",
                        (long long)error->value);
            break;
        case TB_ERR_TOO_LONG:
            raise_row_too_long(context, settings, error);
            break;
        default:
            tb_raise_at(context, exception, error->row, -1,
                        "length %lld is too long to plan for; pass max_length=",
                        (long long)error->value);
            break;
    }
}

/* plan_batches(function, lengths, settings, epoch)
 * -> indices [rows], offsets [batches + 1] */
static PyObject *
wrap_plan_batches(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    plan_settings settings;
    tb_batch_plan plan = {0};
    tb_error error = {-1, -1, 0};
    PyObject *result = NULL;
    PyArrayObject *indices = NULL, *offsets = NULL;
    ptrdiff_t n = 0;

    if (tb_check_count("plan_batches", nargs, 4) < 0) {
        return NULL;
    }
    const int64_t *data = read_plan_arguments(args, &context, &settings, &n);
    if (data == NULL ||
        tb_read_uint64(&context, "epoch", args[3], &settings.core.epoch) < 0) {
        return NULL;
    }
    PyThreadState *thread = PyEval_SaveThread();
    tb_status status = tb_plan_batches(data, n, &settings.core, &plan, &error);
    PyEval_RestoreThread(thread);
    if (status != TB_OK) {
        raise_lengths(&context, status, &settings.core, &error);
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
    plan_settings settings;
    tb_spread own, steps, chance;
    ptrdiff_t n = 0, rows = 0, edges = 0;
    Py_ssize_t ranks = 1;

    if (tb_check_count("measure_plan", nargs, 6) < 0) {
        return NULL;
    }
    const int64_t *data = read_plan_arguments(args, &context, &settings, &n);
    const int64_t *indices =
        data == NULL ? NULL : read_length_array(context.function, args[3], &rows);
    const int64_t *offsets =
        indices == NULL ? NULL : read_length_array(context.function, args[4], &edges);
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

/* survey_lengths(function, lengths, settings) -> rows that are not left out, the total
 * of their lengths after cutting, the longest that max_tokens and the boundaries allow,
 * fingerprint of the lengths. Raises what plan_batches would raise, except for rows
 * that settings["overlong"] cuts or drops. */
static PyObject *
wrap_survey_lengths(PyObject *Py_UNUSED(module), PyObject *const *args,
                    Py_ssize_t nargs)
{
    tb_context context = {0};
    plan_settings settings;
    tb_length_summary summary;
    tb_error error = {-1, -1, 0};
    ptrdiff_t n = 0;

    if (tb_check_count("survey_lengths", nargs, 3) < 0) {
        return NULL;
    }
    const int64_t *data = read_plan_arguments(args, &context, &settings, &n);
    if (data == NULL) {
        return NULL;
    }
    settings.core.drop_overlong = settings.overlong != TB_OVERLONG_ERROR;
    PyThreadState *thread = PyEval_SaveThread();
    tb_status status = tb_summarize_lengths(data, n, &settings.core, &summary, &error);
    uint64_t fingerprint = tb_fingerprint_lengths(data, n);
    PyEval_RestoreThread(thread);
    if (status != TB_OK) {
        raise_lengths(&context, status, &settings.core, &error);
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
    plan_settings settings;
    ptrdiff_t n = 0;

    if (tb_check_count("row_costs", nargs, 3) < 0) {
        return NULL;
    }
    const int64_t *data = read_plan_arguments(args, &context, &settings, &n);
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
    const int64_t *costs = read_length_array("share_rows", args[0], &n);
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
