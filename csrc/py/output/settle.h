/* The element type of an output: what is asked for, or what the rows have. */
#ifndef TB_SETTLE_H
#define TB_SETTLE_H

#include "py/input/rows.h"

/* Settles the output's element type: `asked` (may be NULL), or the rows' own. */
int tb_settle_dtype(tb_state *state, tb_column *column, const tb_pad_options *options,
                    const tb_dtype *asked);

/* Finds the type that the rows have by themselves, without a look at whether all of them
 * agree; where they are lists it is provisional. */
int tb_find_own_dtype(tb_state *state, tb_column *column,
                      const tb_pad_options *options);

/* What max_length leaves of a row: nothing else of it is looked at. */
static inline tb_span
tb_keep_row(const tb_pad_options *options, ptrdiff_t length)
{
    tb_layout layout = {
        .max_length = options->max_length < 0 ? PTRDIFF_MAX : options->max_length,
        .cut_left = options->cut_left};

    return tb_locate_row(&layout, length);
}

#endif
