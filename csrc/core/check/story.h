/* What the files of this room share; for them alone. */
#ifndef TB_STORY_H
#define TB_STORY_H

#include "core/check/check.h"

/* Notes a finding. `place` is a column, or an index into a list. */
void tb_note(tb_check *check, tb_found kind, int column, int other, ptrdiff_t row,
             ptrdiff_t place, int64_t found, int64_t expected);

/* The same at a flat place. */
void tb_note_at(tb_check *check, tb_found kind, int column, int other, ptrdiff_t at,
                int64_t found, int64_t expected);

/* Settles which form each column has, and the batch's rows and width. */
TB_MUST_CHECK tb_status tb_settle_forms(tb_check *check);

/* The elements as int64; NULL without memory. */
const int64_t *tb_widen(tb_check_column *column);

/* What each column says by itself: notes what is wrong with it, and whether it is sound.
 * After it the extents of rows are known. */
TB_MUST_CHECK tb_status tb_examine_masks(tb_check *check);
TB_MUST_CHECK tb_status tb_examine_segments(tb_check *check, int column);
void tb_examine_boundaries(tb_check *check, int column);
void tb_examine_seq_lengths(tb_check *check, int column);

/* Where segments begin by one column, into check->starts, ascending; their number. */
ptrdiff_t tb_list_starts(tb_check *check, int column);

/* 1 where the column knows where segments begin. */
int tb_knows_starts(const tb_check_column *column);

/* Makes the segments of the extents and of check->starts. */
void tb_cut_spans(tb_check *check, ptrdiff_t count);

/* Holds each column against the segments. */
void tb_compare_rows(tb_check *check);
void tb_compare_lists(tb_check *check);
void tb_check_position_range(tb_check *check, int column);
void tb_compare_positions(tb_check *check, int column);
void tb_compare_square(tb_check *check, int column);
void tb_check_ids(tb_check *check);
void tb_check_labels(tb_check *check);

/* 1 where a token sees itself, and the one before it, in a square mask. */
int tb_sees(const tb_check *check, const tb_check_column *column, ptrdiff_t row,
            ptrdiff_t query, ptrdiff_t key);

/* 1 where no token of a row sees any in a square mask. */
int tb_shows_nothing(const tb_check_column *column, ptrdiff_t row);

/* The first padding segment at the end, of tokens that are all alike and have no label;
 * span_count where there is none. */
ptrdiff_t tb_find_tail(const tb_check *check);

/* Sums and differences of numbers that may be anything: those that do not fit wrap. */
static inline int64_t
tb_add_any(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static inline int64_t
tb_subtract_any(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a - (uint64_t)b);
}

#endif
