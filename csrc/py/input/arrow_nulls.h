/* Nulls in Arrow data: an error that says where, or filled in a copy. */
#ifndef TB_ARROW_NULLS_H
#define TB_ARROW_NULLS_H

#include "py/input/arrow_column.h"

/* Refuses a `fill_null` that is neither a number nor None, whether or not there is a
 * null: TypeError. NULL is of a function that has no such argument. */
int tb_check_fill_null(tb_state *state, const tb_context *context, PyObject *fill_null);

/* Puts `fill_null` in place of null numbers and elements, in a copy, and makes null
 * rows empty. None: a ValueError for the first null of a row. NULL: the same, for a
 * function that has no such argument. */
int tb_settle_nulls(tb_state *state, tb_arrow_column *column, PyObject *fill_null);

/* A ValueError for the first row, or number, that is null; `fill_null` as above. */
int tb_refuse_missing_rows(const tb_arrow_column *column, PyObject *fill_null);

#endif
