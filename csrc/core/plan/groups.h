/*
 * Plans of epochs in which every batch has rows of one group.
 *
 * Rows are sorted by group, by counting. The rows of each group are planned as if there
 * were no others (batch.h). Then the full batches of all groups are put in one order, and
 * after them, in an order of their own, the batches that are not full: one of each group
 * at most.
 *
 * With quotas an epoch has so many rows of each group, whatever rows it has. They are
 * taken from an endless sequence: a shuffle of the group, then another one, and so on.
 * Epoch e takes those from e * quota up to (e + 1) * quota. So every row of a group has
 * come as often as any other, or once more, after any number of epochs; and an epoch
 * depends on nothing but its number.
 */
#ifndef TB_GROUPS_H
#define TB_GROUPS_H

#include "core/base/macros.h"
#include "core/base/status.h"
#include "core/plan/batch.h"

typedef struct {
    const int64_t *groups; /* of each row, from 0 to count - 1 */
    ptrdiff_t count;
    const int64_t *quotas;  /* rows of each group in an epoch; NULL: each row once */
    int64_t window_batches; /* of a window in full batches, and at most a quarter of the
                               rows of the group; 0: settings->window rows */
} tb_group_settings;

/* Numbers groups in the order in which their labels come first. groups: room for n
 * numbers. *firsts: the first row of each group, the caller's to free, also after an
 * error. */
TB_MUST_CHECK tb_status tb_number_groups(const int64_t *labels, ptrdiff_t n,
                                         int64_t *groups, int64_t **firsts,
                                         ptrdiff_t *count);

/* Plans one epoch, as tb_plan_batches does. Quotas of groups without rows are not used.
 * A group that is no number from 0 to count - 1 is TB_ERR_RANGE; error: the row. */
TB_MUST_CHECK tb_status tb_plan_groups(const int64_t *lengths, ptrdiff_t n,
                                       const tb_batch_settings *settings,
                                       const tb_group_settings *groups,
                                       tb_batch_plan *plan, tb_error *error);

#endif
