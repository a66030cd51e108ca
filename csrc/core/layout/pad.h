/*
 * Padding: moves the elements of each row to their place in the output and fills the
 * rest, so that each byte of the output is written once.
 *
 *     width      positions in a row of the output
 *     trailing   elements at each position (1 for tokens, 80 for [T, 80] features)
 */
#ifndef TB_PAD_H
#define TB_PAD_H

#include "core/base/size.h"
#include "core/cast/cast.h"

typedef struct {
    ptrdiff_t width;
    ptrdiff_t max_length; /* rows are cut to it; PTRDIFF_MAX: never */
    ptrdiff_t trailing;
    tb_type type;
    int item_size;
    int pad_left;
    int cut_left;           /* a cut row keeps its end */
    int flat;               /* all rows one after another in one row of the output */
    ptrdiff_t row_multiple; /* flat: positions of each row; up to 1: its own length */
    int stream;             /* past the caches; tb_pad_rows decides it */
    unsigned char fill[TB_MAX_ITEM_SIZE];
} tb_layout;

/* What is kept of a row: `count` positions from position `skip` on go to position
 * `at`. */
typedef struct {
    ptrdiff_t skip;
    ptrdiff_t count;
    ptrdiff_t at;
} tb_span;

/* Rows in memory, each aligned and C-contiguous. `types` NULL: all have the layout's
 * type. A data pointer may be NULL where the length is 0. */
typedef struct {
    ptrdiff_t count;
    const void *const *data;
    const ptrdiff_t *lengths;
    const unsigned char *types;
} tb_rows;

static inline tb_span
tb_locate_row(const tb_layout *layout, ptrdiff_t length)
{
    tb_span span = {0, length, 0};
    if (length > layout->max_length) {
        span.count = layout->max_length;
        span.skip = layout->cut_left ? length - layout->max_length : 0;
    }
    span.at = layout->pad_left && !layout->flat ? layout->width - span.count : 0;
    return span;
}

/* Positions from the beginning of this row of the output to that of the next one. */
static inline ptrdiff_t
tb_row_pitch(const tb_layout *layout, tb_span span)
{
    if (!layout->flat) {
        return layout->width;
    }
    return span.count + (ptrdiff_t)tb_find_missing(span.count, layout->row_multiple);
}

/* Fills the positions of one row of the output that `span` leaves free; in a flat
 * layout up to the beginning of the next row. */
void tb_fill_around(const tb_layout *layout, tb_span span, void *row);

/* Fills the end of a flat layout, from position `used` on. */
void tb_fill_tail(const tb_layout *layout, ptrdiff_t used, void *out);

/* Writes rows->count rows to `out`, elements and padding, without the tail of a flat
 * layout. The caller has checked that no row, once cut, is longer than `width`. error:
 * the row, the column in that row, and as value the element's index in the row. */
TB_MUST_CHECK tb_status tb_pad_rows(const tb_rows *rows, const tb_layout *layout,
                                    void *out, tb_error *error);

#endif
