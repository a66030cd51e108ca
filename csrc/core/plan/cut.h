/* Steps 2 to 4 of a plan: windows of rows are sorted and cut into batches, or packed.
 */
#ifndef TB_CUT_H
#define TB_CUT_H

#include "core/base/macros.h"
#include "core/base/status.h"
#include "core/plan/batch.h"
#include "core/plan/survey.h"

/* Cuts plan->items, which are numbered and in the order of step 1: sorts them, and
 * fills plan->starts and batch_count. The first `full` of the batches are full. */
TB_MUST_CHECK tb_status tb_cut_batches(tb_batch_plan *plan,
                                       const tb_batch_settings *settings,
                                       const tb_length_summary *summary,
                                       ptrdiff_t *full);

#endif
