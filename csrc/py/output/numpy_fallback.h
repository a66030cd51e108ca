/* Rows of types that the core does not convert: NumPy does. */
#ifndef TB_NUMPY_FALLBACK_H
#define TB_NUMPY_FALLBACK_H

#include "py/input/rows.h"

/* Replaces row i, which the core does not convert, by an array of what is kept of it:
 * of the output's type, or of float64 if that is a half type, which the core then
 * converts. */
int tb_convert_row(tb_state *state, tb_column *column, tb_span kept, ptrdiff_t i);

#endif
