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

#endif
