/* Masks and positions from lengths, [rows, width]. */
#ifndef TB_MASK_H
#define TB_MASK_H

#include "core/layout/pad.h"

/* `real` where a row has a token, layout->fill elsewhere. layout->trailing is 1. */
void tb_mask_rows(const ptrdiff_t *lengths, ptrdiff_t count, const tb_layout *layout,
                  const unsigned char *real, void *out);

/* 0, 1, 2, ... over each row's tokens, 0 at padding. */
void tb_position_rows(const ptrdiff_t *lengths, ptrdiff_t count,
                      const tb_layout *layout, int64_t *out);

/* The longest length, 0 where there are none, and the sum of all. A negative length is
 * TB_ERR_NEGATIVE, one above `limit` TB_ERR_TOO_LONG, too large a sum TB_ERR_SIZE. */
TB_MUST_CHECK tb_status tb_check_lengths(const ptrdiff_t *lengths, ptrdiff_t count,
                                         ptrdiff_t limit, ptrdiff_t *longest,
                                         ptrdiff_t *total, tb_error *error);

#endif
