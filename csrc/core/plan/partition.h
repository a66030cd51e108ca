/*
 * A batch that is there, divided into parts (ranks, micro-batches) of about equal cost,
 * none of them above a cap.
 *
 *     difference   makes the parts
 *     exchange     evens them out
 *     partition    finds how many parts a cap needs, and a bound
 */
#ifndef TB_PARTITION_H
#define TB_PARTITION_H

#include "core/base/macros.h"
#include "core/base/status.h"

typedef struct {
    ptrdiff_t k;        /* parts; 0: as few as are found for the cap */
    ptrdiff_t multiple; /* where k is 0: their number is a multiple of it, at least 1 */
    int64_t cap;        /* the most that a part may cost; INT64_MAX: anything */
    int equal_counts;   /* numbers of rows differ by one at most */
    tb_poll poll;       /* NULL: none */
} tb_partition_settings;

typedef struct {
    ptrdiff_t k;     /* parts that were made */
    int64_t largest; /* what the most expensive one costs */
    int64_t bound;   /* no k parts have a most expensive one below it */
    ptrdiff_t least; /* with an error: how many parts would do; 0: no number is known */
} tb_partition;

/* Fills part_of for n >= 1 rows. Part 0 costs most; of parts that cost the same the one
 * with the first row comes first. No part is empty.
 *
 *     TB_ERR_NEGATIVE  a cost; error: the row and its cost
 *     TB_ERR_SIZE      the sum of costs up to error->row is above INT64_MAX
 *     TB_ERR_TOO_LONG  row error->row alone costs more than the cap
 *     TB_ERR_RANGE     k parts do not do for the cap, or there are fewer rows than parts;
 *                      made->least tells
 *     TB_ERR_INTERRUPTED */
TB_MUST_CHECK tb_status tb_partition_rows(const int64_t *costs, ptrdiff_t n,
                                          const tb_partition_settings *settings,
                                          int64_t *part_of, tb_partition *made,
                                          tb_error *error);

/* The rows of each part, in order: indices [n], and offsets [k + 1]. */
void tb_list_parts(const int64_t *part_of, ptrdiff_t n, ptrdiff_t k, int64_t *indices,
                   int64_t *offsets);

/* Costs that are floats, as integers in units of 2**-shift, rounded up, so that a sum of
 * them is never below that of the floats. The shift is such that they use what int64
 * holds. `rounded` counts those that are no multiple of the unit. NaN and infinity are
 * TB_ERR_INEXACT, a negative cost TB_ERR_NEGATIVE, and TB_ERR_OVERFLOW a sum beyond
 * doubles; error->row. */
TB_MUST_CHECK tb_status tb_scale_costs(const double *costs, ptrdiff_t n,
                                       int64_t *scaled, int *shift, ptrdiff_t *rounded,
                                       tb_error *error);

/* A cap in the same units, with as much more as rounding may have added to the costs of n
 * rows: what fits by the floats fits. A cap of 0 is 0. */
int64_t tb_scale_cap(double cap, int shift, ptrdiff_t n);

#endif
