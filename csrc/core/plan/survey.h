/* The lengths that batches are planned from: checked and summed up. */
#ifndef TB_SURVEY_H
#define TB_SURVEY_H

#include "core/base/macros.h"
#include "core/base/status.h"
#include "core/plan/batch.h"

/* Of lengths once clipped to max_length, without those that are dropped. */
typedef struct {
    ptrdiff_t rows;
    int64_t shortest; /* 0 where there are no rows */
    int64_t longest;
    int64_t total; /* INT64_MAX where the sum might not fit */
} tb_length_summary;

/* Rows that are longer once clipped are dropped; INT64_MAX where none are. */
int64_t tb_find_drop_limit(const tb_batch_settings *settings);

/* A negative length is TB_ERR_NEGATIVE. A row that alone costs more than max_tokens is
 * TB_ERR_TOO_LONG unless such rows are dropped. One that leaves no room in 64 bits for
 * its index, or whose cost overflows, is TB_ERR_SIZE. One that alone breaks a limit is
 * TB_ERR_TOO_LONG unless such rows are dropped. error: the row, the limit as column (or
 * -1), its length as given. */
TB_MUST_CHECK tb_status tb_summarize_lengths(const int64_t *lengths, ptrdiff_t n,
                                             const tb_batch_settings *settings,
                                             tb_length_summary *summary,
                                             tb_error *error);

/* 63 bits, for stores that know int64 alone, that tell lists of lengths apart. */
uint64_t tb_fingerprint_lengths(const int64_t *lengths, ptrdiff_t n);

#endif
