/* Where each row goes in an output, and how large the output is. */
#ifndef TB_OUTPUT_LAYOUT_H
#define TB_OUTPUT_LAYOUT_H

#include "py/input/rows.h"

/* The output's layout without the fill: width from lengths and options. Checks sizes.
 */
int tb_lay_out(const tb_column *column, const tb_pad_options *options,
               tb_layout *layout);

/* The output's dimensions [batch, width, *trailing]; batch is 1 if the layout is flat.
 * Returns how many there are. */
int tb_output_shape(const tb_column *column, const tb_layout *layout, npy_intp *dims);

/* Positions of a flat output that rows and the padding between them take. */
ptrdiff_t tb_used_positions(const tb_column *column, const tb_layout *layout);

/* Whether any row leaves positions to fill. */
int tb_needs_fill(const tb_column *column, const tb_layout *layout);

#endif
