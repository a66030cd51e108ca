/*
 * How far a plan of batches is from random batches, from lengths alone.
 *
 * A batch is fair if it could have come from rows in random order. What grouping by
 * length changes shows in three numbers: how many rows batches have, how far their mean
 * lengths spread, and whether neighbours have similar mean lengths.
 */
#ifndef TB_FAIRNESS_H
#define TB_FAIRNESS_H

#include "core/base/macros.h"
#include "core/base/random.h"
#include "core/base/status.h"
#include "core/plan/batch.h"

typedef struct {
    ptrdiff_t batches;
    double rows_mean; /* rows in a batch */
    double rows_std;
    int64_t rows_min; /* 0 where there are no batches */
    int64_t rows_max;
    double length_std;  /* of the mean lengths of batches */
    double correlation; /* of the mean lengths of neighbours; 0 where they are equal */
    double padding;     /* 0 to 1: the part of the tokens that is padding */
} tb_spread;

/* Measures batches of rows that lie one after another: batch k has the lengths from
 * offsets[k] up to offsets[k + 1]. `group` of them at a time count as one; what is left
 * of the last group does too. */
void tb_measure_batches(const int64_t *lengths, const int64_t *offsets,
                        ptrdiff_t batches, ptrdiff_t group,
                        const tb_batch_settings *settings, tb_spread *spread);

enum { TB_RANDOM_ROWS = 1 << 20 }; /* more would measure the same */

/* The same of random batches: puts the lengths, or TB_RANDOM_ROWS of them, in a random
 * order, and cuts them where the next row would break a cap. */
void tb_measure_random(int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
                       tb_random *random, tb_spread *spread);

#endif
