/* Reads the rows of one column of a batch, of any kind, into the form that the core
 * needs. */
#ifndef TB_ROWS_H
#define TB_ROWS_H

#include "py/base/gil.h"
#include "py/input/column.h"
#include "py/input/list.h"
#include "py/input/pad_options.h"

/* Surveys every row: its length, shape and type. Nothing is converted yet. */
int tb_survey_rows(tb_state *state, const tb_context *context, PyObject *sequences,
                   tb_column *column);

#endif
