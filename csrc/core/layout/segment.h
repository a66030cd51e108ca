/*
 * A pack is a row of tokens that holds several segments, one after another. Here are
 * the ids that tell segments apart, and the mask that lets a token see its own segment
 * alone.
 */
#ifndef TB_SEGMENT_H
#define TB_SEGMENT_H

#include "core/layout/pad.h"

/* offsets[0] = 0 and offsets[i + 1] the sum of lengths 0 to i, of count + 1. A negative
 * length is TB_ERR_NEGATIVE; a sum above INT32_MAX TB_ERR_RANGE, its value the sum. */
TB_MUST_CHECK tb_status tb_add_lengths(const int64_t *lengths, ptrdiff_t count,
                                       int32_t *offsets, tb_error *error);

/* Each pack's sum: pack i has the next counts[i] lengths. TB_ERR_NEGATIVE, or
 * TB_ERR_SIZE where a sum is too large; error: the pack as row, its length as column.
 */
TB_MUST_CHECK tb_status tb_sum_packs(const int64_t *lengths, const ptrdiff_t *counts,
                                     ptrdiff_t packs, ptrdiff_t *totals,
                                     tb_error *error);

/* Row i of the output: 1, 2, ... over the tokens of pack i's segments, 0 at padding.
 * `totals` are tb_sum_packs's, none above layout->width. */
void tb_segment_rows(const int64_t *lengths, const ptrdiff_t *counts,
                     const ptrdiff_t *totals, ptrdiff_t packs, const tb_layout *layout,
                     int64_t *out);

/* The same with positions: 0, 1, 2, ... over the tokens of each segment. */
void tb_position_segments(const int64_t *lengths, const ptrdiff_t *counts,
                          const ptrdiff_t *totals, ptrdiff_t packs,
                          const tb_layout *layout, int64_t *out);

/* Which keys a query sees, of those that have its id. */
typedef struct {
    int causal;       /* none after the query */
    ptrdiff_t window; /* none `window` or further away; at least 1 */
    ptrdiff_t prefix; /* the first `prefix` of a segment are always seen; -1: none */
    const int64_t *prefixes; /* or prefixes[id - 1], a list for each row; NULL: none */
    const ptrdiff_t *prefix_counts; /* how long each row's list is */
    int item_size;
    unsigned char shown[TB_MAX_ITEM_SIZE];
    unsigned char hidden[TB_MAX_ITEM_SIZE];
} tb_segment_rule;

/* Positions begin to end - 1 of a row have one id, and their neighbours another. */
typedef struct {
    int64_t id;
    ptrdiff_t begin;
    ptrdiff_t end;
    ptrdiff_t prefix; /* positions before it are seen by all queries of the id */
    ptrdiff_t first;  /* the first run of the same id */
    ptrdiff_t next;   /* the next run of the same id, or -1 */
} tb_run;

/* The mask [rows, width, width] of ids [rows, width]. `runs` is room for `width` runs.
 * Id 0, padding, is a segment without a prefix, so that every query sees some key.
 *
 * With prefixes, an id that a row has in two places is TB_ERR_REPEATED, and one without
 * an entry in `prefixes` TB_ERR_RANGE. error: row, column, and the id as value. After
 * an error nothing has been written. */
TB_MUST_CHECK tb_status tb_mask_segments(const int64_t *ids, ptrdiff_t rows,
                                         ptrdiff_t width, const tb_segment_rule *rule,
                                         tb_run *runs, void *out, tb_error *error);

#endif
