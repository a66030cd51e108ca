/* Step 5 of a plan: the order of its batches. */
#ifndef TB_ORDER_H
#define TB_ORDER_H

#include "core/base/macros.h"
#include "core/base/random.h"
#include "core/base/status.h"
#include "core/plan/batch.h"

/* Fills plan->order, for batches that are cut, the first `full` of them full; those that
 * are not come last, in the same way. */
TB_MUST_CHECK tb_status tb_order_batches(tb_batch_plan *plan, ptrdiff_t full,
                                         const tb_batch_settings *settings,
                                         tb_random *random);

#endif
