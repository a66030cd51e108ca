/*
 * First fit under several limits: each row into the first pack that has room for it by
 * every limit (M. R. Garey, R. L. Graham, D. S. Johnson, A. C. Yao, "Resource constrained
 * scheduling as generalized bin packing", 1976).
 *
 * A tree of 16 branches over the packs: each node has, for each limit, the most room of
 * any pack below it, in few bits (lanes.h). A search leaves out all below a node that
 * lacks room by any limit.
 */
#ifndef TB_FIRST_FIT_H
#define TB_FIRST_FIT_H

#include "core/base/macros.h"
#include "core/base/status.h"
#include "core/plan/batch.h"

enum { TB_FIRST_FIT_LEVELS = 9 /* of 4 bits each: more than 2**32 packs */ };

/* The packs begun so far, numbered in the order in which they were begun. */
typedef struct {
    const tb_limits *limits;
    ptrdiff_t width; /* limits, and the number of rows where that has a cap */
    ptrdiff_t most;  /* packs that there is memory for */
    ptrdiff_t count;
    int64_t *costs; /* of each pack, by limit */
    uint32_t *rows; /* in each pack */
    int shifts[TB_MOST_LIMITS + 1];
    int is_exact; /* lanes keep all bits */
    int levels;
    uint64_t
        *rooms[TB_FIRST_FIT_LEVELS]; /* blocks of 16 lanes, for each limit in turn */
} tb_first_fit;

/* No packs, and memory for as many as `most` rows may need. The limits have no second
 * widths. The caller's to free, also after an error. */
TB_MUST_CHECK tb_status tb_start_first_fit(tb_first_fit *fit, const tb_limits *limits,
                                           ptrdiff_t most);

/* Forgets all packs and keeps the memory. */
void tb_restart_first_fit(tb_first_fit *fit);

void tb_free_first_fit(tb_first_fit *fit);

/* Puts a row, which alone breaks no limit, into the first pack that has room: its
 * number. */
ptrdiff_t tb_put_first_fit(tb_first_fit *fit, ptrdiff_t row);

#endif
