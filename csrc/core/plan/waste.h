/*
 * What plans cost, from lengths alone and without their rows: for many plans of the same
 * lengths, where which row is where does not matter.
 *
 * Every plan of a seed begins with the same order of rows. So lengths are put in that
 * order once. A plan of them has items without indices: bare lengths, which are sorted
 * by counting. Its batches have the lengths of the batches of tb_plan_batches.
 */
#ifndef TB_WASTE_H
#define TB_WASTE_H

#include "core/base/macros.h"
#include "core/base/random.h"
#include "core/base/status.h"
#include "core/plan/batch.h"

/* Puts lengths in the order in which a plan with this seed and epoch takes its rows, and
 * leaves `random` as the plan would have it then. */
void tb_shuffle_lengths(int64_t *lengths, ptrdiff_t n, uint64_t seed, uint64_t epoch,
                        tb_random *random);

/* Cuts n lengths, in the order of tb_shuffle_lengths, into the batches of a plan.
 * `items`, room for n words, becomes the lengths in the order of cutting, those of a
 * batch together; plan->items points to it. With `random`, plan->order is that of the
 * batches; else there is none. Drops no overlong rows. The caller frees plan->starts and
 * plan->order, also after an error, which is that of tb_summarize_lengths. */
TB_MUST_CHECK tb_status tb_plan_lengths(const int64_t *lengths, ptrdiff_t n,
                                        const tb_batch_settings *settings,
                                        const tb_random *random, uint64_t *items,
                                        tb_batch_plan *plan, tb_error *error);

/* Cuts lengths, as they come, where the next row would break a cap. offsets: room for n
 * + 1. Returns how many batches. */
ptrdiff_t tb_cut_in_order(const int64_t *lengths, ptrdiff_t n,
                          const tb_batch_settings *settings, int64_t *offsets);

/* For each batch, of the lengths from begins[k] up to ends[k]: its width, that of its
 * longest row once padded (without padding: the tokens of all), and the tokens of its
 * rows. TB_ERR_SIZE where a sum or a width is beyond int64; error: the batch. */
TB_MUST_CHECK tb_status tb_measure_shapes(const int64_t *lengths, const int64_t *begins,
                                          const int64_t *ends, ptrdiff_t batches,
                                          const tb_batch_settings *settings,
                                          int64_t *widths, int64_t *tokens,
                                          tb_error *error);

#endif
