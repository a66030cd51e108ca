/* One array of a batch while it is made. */
#ifndef TB_COLUMN_OUTPUT_H
#define TB_COLUMN_OUTPUT_H

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

/* What is a sequence where no column is of tokens: none, the first of rows of vectors,
 * or the first of any rows that have no more dimensions. */
typedef enum { TB_PROMOTE_NONE, TB_PROMOTE_VECTORS, TB_PROMOTE_ROWS } tb_promote;

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

#endif
