/*
 * Steps 2 to 4 of a plan under several limits.
 *
 * With padding, each window is sorted and cut into batches from its first row on. A batch
 * takes the rows that follow, leaves those that break one of its limits for the batches
 * to come, and ends when it has left as many as it has taken. Without padding, rows go
 * through a pool (limit_pool.h); or, without one, windows are packed by first fit, rows
 * with the largest cost of the scarcest limit first.
 */
#ifndef TB_LIMIT_CUT_H
#define TB_LIMIT_CUT_H

#include "core/base/macros.h"
#include "core/base/status.h"
#include "core/plan/batch.h"

/* As tb_cut_batches. */
TB_MUST_CHECK tb_status tb_cut_limited(tb_batch_plan *plan,
                                       const tb_batch_settings *settings,
                                       ptrdiff_t *full);

#endif
