/* Rows of types that the core does not convert: NumPy does. */
#ifndef TB_NUMPY_FALLBACK_H
#define TB_NUMPY_FALLBACK_H

#include "py/input/rows.h"

/* What is kept of row i, which the core does not convert, is made an array, which then
 * is the row: of the output's type, or of float64 where that is a half type, which the
 * core goes on to. */
int tb_convert_row(tb_state *state, tb_column *column, tb_span kept, ptrdiff_t i);

#endif
