/* The rows of a column of an Arrow array, table or stream. */
#ifndef TB_ARROW_ROWS_H
#define TB_ARROW_ROWS_H

#include "py/input/arrow_column.h"

/* Finds the column called `name` (NULL: the only one) and reads it. */
int tb_read_named_column(tb_state *state, const tb_context *context,
                         const tb_arrow_source *source, PyObject *name,
                         tb_arrow_column *column);

/* Keeps the rows of an int64 array of indices; the others are not checked. */
int tb_choose_arrow_rows(tb_arrow_column *column, PyArrayObject *chosen);

/* Takes the rows out of a column of lists, whose nulls are settled. */
int tb_take_arrow_rows(tb_arrow_column *column, tb_ragged *rows);

/* All of this for the only column of lists of `object` (`name` NULL), or for the one
 * called `name`. The caller clears the rows. */
int tb_read_arrow_rows(tb_state *state, const tb_context *context, PyObject *object,
                       PyObject *name, PyObject *fill_null, tb_ragged *rows);

#endif
