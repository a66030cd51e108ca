#include "py/base/tb_numpy.h"
#include "py/input/plan_settings.h"
#include "core/plan/cost.h"

#include <string.h>

#define FIELD(name) offsetof(tb_plan_settings, core.name)
#define CAP(name, field) \
    {name, TB_SETTING_INT, FIELD(field), 1, INT64_MAX - 1, INT64_MAX, NULL}
#define FLAG(name, field) {name, TB_SETTING_FLAG, FIELD(field), 0, 0, 0, NULL}

/* clang-format off */
static const tb_setting plan_table[] = {
    CAP("batch_size", batch_size),
    CAP("max_tokens", max_tokens),
    CAP("max_length", max_length),
    {"pad_to_multiple_of", TB_SETTING_INT, FIELD(multiple), 1, INT64_MAX - 1, 1, NULL},
    {"batch_size_multiple", TB_SETTING_INT, FIELD(rows_multiple), 1, INT64_MAX - 1, 1,
     NULL},
    {"quadratic_length", TB_SETTING_INT, FIELD(quadratic), 1, INT64_MAX - 1, 0, NULL},
    {"shuffle_window", TB_SETTING_INT, FIELD(window), 1, 0, INT64_MAX, NULL},
    {"pool_size", TB_SETTING_INT, FIELD(pool), 1, 0, 0, NULL},
    {"balance", TB_SETTING_INT, FIELD(balance), 1, 0, 0, NULL},
    {"ranks", TB_SETTING_INT, FIELD(ranks), 1, 0, TB_REQUIRED, NULL},
    FLAG("padding_free", padding_free),
    FLAG("shuffle", shuffle),
    FLAG("longest_first", longest_first),
    FLAG("drop_last", drop_last),
    {"overlong", TB_SETTING_CHOICE, offsetof(tb_plan_settings, overlong), 0, 0, 0,
     tb_overlong_choices},
    {"seed", TB_SETTING_UINT64, FIELD(seed), 0, 0, 0, NULL},
};
/* clang-format on */

enum { PLAN_SETTINGS = sizeof plan_table / sizeof *plan_table };

int
tb_read_plan_settings(const tb_context *context, PyObject *given,
                      tb_plan_settings *settings)
{
    memset(settings, 0, sizeof *settings);
    if (tb_read_settings(context, plan_table, PLAN_SETTINGS, given, settings) < 0) {
        return -1;
    }
    PyObject *boundaries = PyDict_GetItemString(given, "boundaries");
    if (boundaries != NULL && boundaries != Py_None) {
        settings->core.boundaries = tb_read_length_array(
            context->function, boundaries, &settings->core.boundary_count);
        if (settings->core.boundaries == NULL) {
            return -1;
        }
    }
    settings->core.drop_overlong = settings->overlong == TB_OVERLONG_DROP;
    settings->core.drop_broken = settings->core.drop_overlong;
    if (tb_read_plan_limits(context, given, &settings->limits) < 0) {
        return -1;
    }
    settings->core.limits = settings->limits.all;
    settings->core.limit_count = settings->limits.count;
    settings->core.keys = settings->limits.keys;
    settings->core.most_packs = settings->limits.most_packs;
    return 0;
}

const int64_t *
tb_read_plan_arguments(PyObject *const *args, tb_context *context,
                       tb_plan_settings *settings, ptrdiff_t *count)
{
    if (tb_read_function(args[0], context) < 0 ||
        tb_read_plan_settings(context, args[2], settings) < 0) {
        return NULL;
    }
    const int64_t *lengths = tb_read_length_array(context->function, args[1], count);
    return lengths == NULL ||
                   tb_check_limit_rows(context, &settings->limits, *count) < 0
               ? NULL
               : lengths;
}

PyObject *
tb_dict_of_plan_settings(const tb_plan_settings *settings)
{
    return tb_dict_of_settings(plan_table, PLAN_SETTINGS, settings);
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

void
tb_raise_plan_lengths(const tb_context *context, tb_status status,
                      const tb_plan_settings *given, const tb_error *error)
{
    const tb_batch_settings *settings = &given->core;
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
    if (status == TB_ERR_TOO_LONG && error->column >= 0) {
        tb_raise_broken_limit(context, &given->limits, error);
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
