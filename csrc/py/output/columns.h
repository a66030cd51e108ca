/* The arrays of a batch while it is made: all are laid out before anything is
 * allocated, so that they can share one block of memory. */
#ifndef TB_COLUMNS_H
#define TB_COLUMNS_H

#include "py/output/column_spec.h"

/* What an array is made of: a column of the samples; or, of the lengths of the main
 * column,
 *     MASK         int64 [batch, width], 1 at tokens
 *     LENGTHS      int64 [batch], as cut
 *     LIKE_MAIN    int64 in the main column's shape, left for the caller to write
 *     PLANNED      int32 or int64 in a shape of its own, written by the caller */
typedef enum {
    TB_OUTPUT_COLUMN,
    TB_OUTPUT_MASK,
    TB_OUTPUT_LENGTHS,
    TB_OUTPUT_LIKE_MAIN,
    TB_OUTPUT_PLANNED
} tb_output_kind;

/* One array of the batch. */
typedef struct {
    tb_output_kind kind;
    tb_column_spec spec; /* of a column, as `column` is */
    tb_column column;
    tb_layout layout;
    int ndim; /* of all but columns: the shape */
    npy_intp dims[2];
    ptrdiff_t offset; /* in the shared block */
    PyArrayObject *out;
} tb_output;

/* Settles the element type: the one asked for, else `preferred` (NULL: the rows'). */
int tb_settle_spec(tb_state *state, const tb_column_spec *spec,
                   const tb_dtype *preferred, tb_column *column);

/* If lists of integers turned out to hold floats, takes the type asked for floats. */
int tb_settle_widened(tb_state *state, const tb_column_spec *spec, tb_column *column);

/* Reads "mask", "lengths" or "like_main"; -1 with an exception for any other name. */
int tb_read_extra(const tb_context *context, PyObject *name, tb_output_kind *kind);

/* Lays out, allocates and fills all; once more, if a list turned out to hold floats.
 * `main` is the column for the extras, -1 if there are none. `allocate` returns a block
 * for a number of bytes, or is None. */
int tb_run_outputs(tb_state *state, tb_output *outputs, Py_ssize_t count,
                   Py_ssize_t main, PyObject *allocate, int as_tensors);

/* Makes the `out` of all arrays that are laid out: new arrays, or with `allocate` views
 * of the one block that allocate(bytes) returns. */
int tb_allocate_outputs(tb_state *state, tb_output *outputs, Py_ssize_t count,
                        PyObject *allocate, int as_tensors);

/* [(array, offset, is_bfloat16), ...] */
PyObject *tb_answer_outputs(const tb_output *outputs, Py_ssize_t count);

void tb_clear_output(tb_output *output);

#endif
