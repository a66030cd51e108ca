/* The rows of a column of an Arrow array, table or stream. */
#ifndef TB_ARROW_ROWS_H
#define TB_ARROW_ROWS_H

#include "py/input/arrow_column.h"

/* Finds the column called `name` (NULL: the only one) and reads it. */
int tb_read_named_column(tb_state *state, const tb_context *context,
                         const tb_arrow_source *source, PyObject *name,
                         tb_arrow_column *column);

/* Leaves the rows of an int64 array of indices; what others hold is not looked at. */
int tb_choose_arrow_rows(tb_arrow_column *column, PyArrayObject *chosen);

/* The rows of a column of lists, which has been settled: takes them out of it. */
int tb_take_arrow_rows(tb_arrow_column *column, tb_ragged *rows);

/* All of this for the one column of lists of `object`, or the one called `name`, which
 * may be NULL: its rows, to be cleared by the caller. */
int tb_read_arrow_rows(tb_state *state, const tb_context *context, PyObject *object,
                       PyObject *name, PyObject *fill_null, tb_ragged *rows);

#endif
