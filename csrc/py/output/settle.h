/* The element type of an output: the one asked for, or the rows' own. */
#ifndef TB_SETTLE_H
#define TB_SETTLE_H

#include "py/input/rows.h"

/* Settles the output's element type: `asked` (may be NULL), or the rows' own. */
int tb_settle_dtype(tb_state *state, tb_column *column, const tb_pad_options *options,
                    const tb_dtype *asked);

/* Finds the rows' own type, without a check that all of them agree; of lists it is
 * provisional. */
int tb_find_own_dtype(tb_state *state, tb_column *column,
                      const tb_pad_options *options);

/* What max_length keeps of a row; the rest is not read. */
static inline tb_span
tb_keep_row(const tb_pad_options *options, ptrdiff_t length)
{
    tb_layout layout = {
        .max_length = options->max_length < 0 ? PTRDIFF_MAX : options->max_length,
        .cut_left = options->cut_left};

    return tb_locate_row(&layout, length);
}

#endif
