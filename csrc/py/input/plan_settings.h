/* The settings of a plan of batches, and the lengths that it is made of. */
#ifndef TB_PLAN_SETTINGS_H
#define TB_PLAN_SETTINGS_H

#include "py/input/lengths.h"
#include "py/input/limits.h"
#include "py/input/settings.h"
#include "core/plan/batch.h"

/* The core's settings, and those that the core does not need. */
typedef struct {
    tb_batch_settings core;
    int overlong;
    tb_plan_limits limits; /* core.limits points here */
} tb_plan_settings;

/* Reads the settings from a dict. `boundaries` is None or an int64 array from
 * read_boundaries(); the dict keeps it alive. */
int tb_read_plan_settings(const tb_context *context, PyObject *given,
                          tb_plan_settings *settings);

/* As int, bool, str or None. */
PyObject *tb_dict_of_plan_settings(const tb_plan_settings *settings);

/* Reads (function, lengths, settings, ...), the arguments of all functions that plan.
 */
const int64_t *tb_read_plan_arguments(PyObject *const *args, tb_context *context,
                                      tb_plan_settings *settings, ptrdiff_t *count);

/* Raises what tb_summarize_lengths found. */
void tb_raise_plan_lengths(const tb_context *context, tb_status status,
                           const tb_plan_settings *settings, const tb_error *error);

#endif
