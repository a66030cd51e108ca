/*
 * A padding-free batch: segments one after another in one row, as attention kernels for
 * variable lengths take them. Where each begins, and what is made of lengths alone.
 *
 *     segment   a row of the batch, or one of those that a row which is a pack is made
 *               of; segments without tokens are left out unless keep_empty is set
 *     tail      the padding after the last segment: segments of its own, none of them
 *               longer than the longest before it as long as max_segments allows it. So
 *               its positions are ones that the rows have too, which is all that is known
 *               of the positions that a model has
 */
#ifndef TB_PADDING_FREE_H
#define TB_PADDING_FREE_H

#include "core/base/size.h"
#include "core/cast/cast.h"

typedef struct {
    /* Given: */
    ptrdiff_t count;          /* of segments, those without tokens included */
    const ptrdiff_t *lengths; /* of segments, before they are cut */
    int64_t max_length;       /* segments are cut to it; INT64_MAX: never */
    int64_t segment_multiple; /* each segment takes a multiple of it in positions */
    int64_t width_multiple;   /* and so does the whole row */
    int64_t max_tokens;       /* exactly this many positions; -1: as many as needed */
    int64_t max_segments;     /* entries are written for this many; -1: for all */
    int64_t max_tail;         /* where max_segments makes segments of the tail longer,
                                 their most tokens; 0: they become no longer */
    int keep_empty;           /* segments without tokens count as segments */
    /* Planned: */
    ptrdiff_t width;    /* positions of the row */
    ptrdiff_t used;     /* of these, positions of segments; then comes the tail */
    ptrdiff_t segments; /* in the batch, those of the tail included */
    ptrdiff_t tails;    /* of these, how many the tail is cut into */
    ptrdiff_t piece;    /* positions of each of them; the last has what is left */
    ptrdiff_t longest;  /* positions of the longest segment */
    ptrdiff_t entries;  /* segments that entries are written for */
} tb_padding_free;

/* Tokens of segment i that are kept. */
static inline ptrdiff_t
tb_count_tokens(const tb_padding_free *plan, ptrdiff_t i)
{
    return plan->lengths[i] > plan->max_length ? (ptrdiff_t)plan->max_length
                                               : plan->lengths[i];
}

/* Positions that n tokens take. */
static inline ptrdiff_t
tb_count_positions(const tb_padding_free *plan, ptrdiff_t n)
{
    return n + (ptrdiff_t)tb_find_missing(n, plan->segment_multiple);
}

/* Positions of the tail. */
static inline ptrdiff_t
tb_tail(const tb_padding_free *plan)
{
    return plan->width - plan->used;
}

/* Fills in the plan. TB_ERR_TOO_LONG: with segment error->row there are error->value
 * positions, more than max_tokens. TB_ERR_SIZE: more than can be counted.
 * `segments` may be more than max_segments. */
TB_MUST_CHECK tb_status tb_plan_padding_free(tb_padding_free *plan, tb_error *error);

/* [width]: start, start + 1, ... over each segment, its padding included. */
void tb_write_position_ids(const tb_padding_free *plan, int64_t start, int64_t *out);

/* [width]: the number of the segment, from 0. */
void tb_write_seq_idx(const tb_padding_free *plan, int32_t *out);

/* [entries + 1]: where segments begin and end; past the last its end again.
 * `tokens_only`: padding is not counted, so those of the tail have no length. Width is at most
 * INT32_MAX. */
void tb_write_cu_seqlens(const tb_padding_free *plan, int tokens_only, int32_t *out);

/* [entries]: the row of each segment, -1 for the tail and past it. rows NULL: segment i
 * is row i. */
void tb_write_row_idx(const tb_padding_free *plan, const ptrdiff_t *rows, int64_t *out);

/* Writes the item_size bytes at `value` to the first position of every segment but the
 * tail. */
void tb_mark_first_tokens(const tb_padding_free *plan, int item_size,
                          const unsigned char *value, void *out);

/* [width] labels of the tokens that lie in `ids` as segments: `ignored` at the first
 * and at padding. The error is that of tb_cast_elements; error->row is the segment. */
TB_MUST_CHECK tb_status tb_label_segments(const tb_padding_free *plan, tb_type from,
                                          const void *ids, tb_type to,
                                          const unsigned char *ignored, void *out,
                                          tb_error *error);

/* How many of n elements are not the one at `value`; of up to 8 bytes. */
ptrdiff_t tb_count_others(const void *data, ptrdiff_t n, int item_size,
                          const unsigned char *value);

/* The first of n elements, of a type up to TB_F64, that is not 1; n: there is none. */
ptrdiff_t tb_find_not_one(tb_type type, const void *data, ptrdiff_t n);

#endif
