/* The arrays of a batch while it is made: all are laid out before anything is
 * allocated, so that they can share one block of memory. */
#ifndef TB_COLUMNS_H
#define TB_COLUMNS_H

#include "py/output/column_spec.h"

/* What an array is made of: a column of the samples; or, of the lengths of another
 * column, its source,
 *     MASK         int64 [batch, width], 1 at tokens
 *     LENGTHS      int64 [batch], as cut
 *     POSITIONS    int64 [batch, width], 0, 1, 2, ... at tokens, 0 at padding
 *     LIKE_MAIN    int64 in the main column's shape, left for the caller to write
 *     PLANNED      int32 or int64 in a shape of its own, written by the caller */
typedef enum {
    TB_OUTPUT_COLUMN,
    TB_OUTPUT_MASK,
    TB_OUTPUT_LENGTHS,
    TB_OUTPUT_LIKE_MAIN,
    TB_OUTPUT_POSITIONS,
    TB_OUTPUT_PLANNED,
    TB_OUTPUT_NONE /* left out: its source is no sequence */
} tb_output_kind;

/* The source is the first column of tokens, which is known when all types are. */
enum { TB_FIND_SOURCE = -1 };

/* One array of the batch. */
typedef struct {
    tb_output_kind kind;
    tb_column_spec spec; /* of a column, as `column` is */
    tb_column column;
    tb_layout layout;
    int is_sequence;   /* of a column: rows of varying length */
    Py_ssize_t source; /* of all but columns: whose lengths; or TB_FIND_SOURCE */
    int ndim;          /* of all but columns: the shape */
    npy_intp dims[2];
    ptrdiff_t offset; /* in the shared block */
    PyArrayObject *out;
} tb_output;

/* Settles the element type: the one asked for, else `preferred` (NULL: the rows'). */
int tb_settle_spec(tb_state *state, const tb_column_spec *spec,
                   const tb_dtype *preferred, tb_column *column);

/* If lists of integers turned out to hold floats, takes the type asked for floats. */
int tb_settle_widened(tb_state *state, const tb_column_spec *spec, tb_column *column);

/* Reads ("mask", "lengths", "like_main" or "positions", index of its source). */
int tb_read_extra(const tb_context *context, PyObject *given, Py_ssize_t columns,
                  tb_output *output);

/* Lays out, allocates and fills all; once more, if a list turned out to hold floats.
 * `promote`: where no column is of tokens, the first of rows is the source. `allocate`
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
