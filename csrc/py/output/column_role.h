/* Which columns are sequences: known from their names, told by a setting, or, of a name
 * that says nothing, found here:
 *     - rows of integers are tokens;
 *     - rows as long as those of a sequence have a value for each of its positions;
 *     - all others are not padded: they have one shape, or it is an error.
 * Labels of class ids or tokens are sequences. These are not, but a vector for each row,
 * which is stacked: floats, for which no loss ignores a fill; bools of one length; and
 * integers that are all 0 or 1, of one length, which in some row is not that of any
 * sequence (multi-hot). Only a setting makes floats sequences: whether a batch happens to
 * have as many tokens as there are classes must not decide.
 * No sequence has more than two dimensions, unless a setting says so: an image, which
 * has three, is not padded over its channels. */
#ifndef TB_COLUMN_ROLE_H
#define TB_COLUMN_ROLE_H

#include "py/output/column_output.h"

/* Settles `is_sequence` of the columns and the sources of the extras, once the types are
 * known. `promote` is a tb_promote. An
 * extra without a source becomes TB_OUTPUT_NONE; of lengths it is an error. ValueError
 * where rows of a column that is not padded differ in shape. */
int tb_settle_roles(tb_state *state, tb_output *outputs, Py_ssize_t count, int promote);

#endif
