/* The limits of a plan, beside the cap on tokens. */
#ifndef TB_INPUT_LIMITS_H
#define TB_INPUT_LIMITS_H

#include "py/base/errors.h"
#include "core/plan/batch.h"

/* Limits, and what messages call them. The Python objects are those of the settings,
 * which keep them alive. */
typedef struct {
    tb_limit all[TB_MOST_LIMITS];
    PyObject *names[TB_MOST_LIMITS];
    ptrdiff_t count;
    const int64_t *keys; /* what rows are sorted by instead of lengths; or NULL */
    int64_t most_packs;  /* 0: any number */
    ptrdiff_t rows;      /* -1 where there are neither limits nor keys */
} tb_plan_limits;

/* Reads settings["limits"], a tuple of (name, costs, others or None, cap, padded), with
 * int64 arrays that this package made, settings["keys"] and settings["most_packs"]. Any
 * may be missing. Costs of None come later, with the rows of a stream. */
int tb_read_plan_limits(const tb_context *context, PyObject *settings,
                        tb_plan_limits *limits);

/* TypeError if they are not of so many rows. */
int tb_check_limit_rows(const tb_context *context, const tb_plan_limits *limits,
                        ptrdiff_t rows);

/* Raises for a row whose cost error->value alone breaks limit number error->column. */
void tb_raise_broken_cost(const tb_context *context, const tb_plan_limits *limits,
                          const tb_error *error);

/* The same; the cost is the one that the limit has of the row. */
void tb_raise_broken_limit(const tb_context *context, const tb_plan_limits *limits,
                           const tb_error *error);

#endif
