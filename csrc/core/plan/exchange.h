/*
 * Evens out parts: the part that costs most gives a row to one of the cheapest, or
 * exchanges rows with it, while that lowers what it costs.
 */
#ifndef TB_EXCHANGE_H
#define TB_EXCHANGE_H

#include "core/plan/difference.h"

/* Changes part_of, as tb_difference_rows fills it. No part becomes more expensive than
 * the most expensive was, none becomes empty; with equal_counts parts keep numbers of
 * rows that differ by one at most. TB_ERR_MEMORY, and TB_ERR_INTERRUPTED unless `poll` is
 * NULL. */
TB_MUST_CHECK tb_status tb_even_parts(const tb_priced_row *rows, ptrdiff_t n,
                                      ptrdiff_t k, int equal_counts, tb_poll poll,
                                      ptrdiff_t *part_of);

#endif
