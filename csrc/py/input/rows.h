/* Rows as Python gives them -> rows as the core reads them: one column of a batch. */
#ifndef TB_ROWS_H
#define TB_ROWS_H

#include "py/base/gil.h"
#include "py/input/column.h"
#include "py/input/list.h"
#include "py/input/pad_options.h"

/* Looks at every row: its length, shape and type. Nothing is converted yet. */
int tb_survey_rows(tb_state *state, const tb_context *context, PyObject *sequences,
                   tb_column *column);

/* Settles the output's element type: `asked` (may be NULL), or the rows' own. */
int tb_settle_dtype(tb_state *state, tb_column *column, const tb_pad_options *options,
                    const tb_dtype *asked);

/* Finds the type that the rows have by themselves, without a look at whether all of them
 * agree; where they are lists it is provisional. */
int tb_find_own_dtype(tb_state *state, tb_column *column,
                      const tb_pad_options *options);

/* What is kept of row i, which the core does not convert, is made an array, which then
 * is the row: of the output's type, or of float64 where that is a half type, which the
 * core goes on to. */
int tb_convert_row(tb_state *state, tb_column *column, tb_span kept, ptrdiff_t i);

/* The width that the options ask for, given the longest row as it is cut; before it is
 * rounded up. */
int tb_choose_width(const tb_column *column, const tb_pad_options *options,
                    ptrdiff_t longest, ptrdiff_t *width);

/* The output's layout but for the fill: width from the lengths, the options, overflow.
 */
int tb_lay_out(const tb_column *column, const tb_pad_options *options,
               tb_layout *layout);

/* The output's dimensions [batch, width, *trailing], batch 1 where the layout is flat;
 * answers how many they are. */
int tb_output_shape(const tb_column *column, const tb_layout *layout, npy_intp *dims);

/* Whether any row leaves something to fill. */
int tb_needs_fill(const tb_column *column, const tb_layout *layout);

/* Reads, moves, converts and fills into `out`. */
tb_read tb_fill_rows(tb_state *state, tb_column *column, const tb_layout *layout,
                     void *out);

#endif
