/* Plans of epochs: which rows share a batch, and in which order batches come. batch.h
 * says how. */
#ifndef TB_BATCHING_H
#define TB_BATCHING_H

#include "core/base/macros.h"
#include "core/base/status.h"
#include "core/plan/batch.h"

/* Plans one epoch. The plan is the caller's to free, also after an error, which is that
 * of tb_summarize_lengths. */
TB_MUST_CHECK tb_status tb_plan_batches(const int64_t *lengths, ptrdiff_t n,
                                        const tb_batch_settings *settings,
                                        tb_batch_plan *plan, tb_error *error);

/* The epoch in its order: row_count indices, and where in them each batch starts,
 * batch_count + 1 offsets. */
void tb_write_batches(const tb_batch_plan *plan, int64_t *indices, int64_t *offsets);

void tb_free_batches(tb_batch_plan *plan);

#endif
