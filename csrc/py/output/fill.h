/* Writes an output: each byte of it once. */
#ifndef TB_OUTPUT_FILL_H
#define TB_OUTPUT_FILL_H

#include "py/input/rows.h"

/* Reads, moves, converts and fills into `out`. Layout and type are settled. */
tb_read tb_fill_rows(tb_state *state, tb_column *column, const tb_layout *layout,
                     void *out);

#endif
