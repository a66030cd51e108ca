/* Which columns are sequences: known from their names, told by a setting, or, of a name
 * that says nothing, found here:
 *     - rows of integers are tokens;
 *     - rows as long as those of a sequence have a value for each of its positions;
 *     - all others are not padded: they have one shape, or it is an error.
 * No sequence has more than two dimensions, unless a setting says so: an image, which
 * has three, is not padded over its channels. */
#ifndef TB_COLUMN_ROLE_H
#define TB_COLUMN_ROLE_H

#include "py/output/column_output.h"

/* Settles `is_sequence` of the columns and the sources of the extras, once the types are
 * known. `promote` is a tb_promote. An
 * extra without a source becomes TB_OUTPUT_NONE; of lengths it is an error. ValueError
 * where rows of a column that is not padded differ in shape. */
int tb_settle_roles(tb_output *outputs, Py_ssize_t count, int promote);

#endif
