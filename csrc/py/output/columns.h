/* The arrays of a batch while it is made: all are laid out before anything is
 * allocated, so that they can share one block of memory. */
#ifndef TB_COLUMNS_H
#define TB_COLUMNS_H

#include "py/output/column_output.h"

/* Settles the element type: the one asked for, else `preferred` (NULL: the rows'). */
int tb_settle_spec(tb_state *state, const tb_column_spec *spec,
                   const tb_dtype *preferred, tb_column *column);

/* If lists of integers turned out to hold floats, takes the type asked for floats. */
int tb_settle_widened(tb_state *state, const tb_column_spec *spec, tb_column *column);

/* Reads ("mask", "lengths", "like_main" or "positions", index of its source). */
int tb_read_extra(const tb_context *context, PyObject *given, Py_ssize_t columns,
                  tb_output *output);

/* Lays out, allocates and fills all; once more, if a list turned out to hold floats.
 * `promote` is a tb_promote. `allocate`
 * returns a block for a number of bytes, or is None. */
int tb_run_outputs(tb_state *state, tb_output *outputs, Py_ssize_t count, int promote,
                   PyObject *allocate, int as_tensors);

/* Makes the `out` of all arrays that are laid out: new arrays, or with `allocate` views
 * of the one block that allocate(bytes) returns. */
int tb_allocate_outputs(tb_state *state, tb_output *outputs, Py_ssize_t count,
                        PyObject *allocate, int as_tensors);

/* [(array, or None where it is left out, offset, is_bfloat16), ...] */
PyObject *tb_answer_outputs(const tb_output *outputs, Py_ssize_t count);

void tb_clear_output(tb_output *output);

#endif
