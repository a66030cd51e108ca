/* A padding-free batch on its way: columns laid in one line, and what is made of where
 * their sequences begin and end. */
#ifndef TB_FLAT_BATCH_H
#define TB_FLAT_BATCH_H

#include "core/layout/flat.h"
#include "py/output/job.h"

/* What becomes of a column. */
typedef enum {
    ROWS,    /* laid in the line, [1, width] */
    NUMBERS, /* stacked, [batch] */
    LABELS,  /* as rows, with its fill at the first token of each sequence */
    OF_MAIN  /* no column: labels that are the tokens of the main column */
} tb_flat_role;

/* What is made beside the columns. */
typedef enum {
    SHIFTED,   /* the labels, each a position earlier in its sequence */
    PLACES,    /* int64 [1, width], positions in the sequence */
    SEQUENCES, /* int32 [1, width], number of the sequence */
    BOUNDS,    /* int32 [entries + 1], where sequences begin and end */
    REAL,      /* the same without padding */
    TRACES     /* int64 [entries], the row that a sequence is of */
} tb_flat_extra;

typedef struct {
    tb_state *state;
    tb_context context;
    tb_flat flat;
    PyArrayObject *segments; /* int64: lengths of the pieces, where rows are packs */
    ptrdiff_t *piece_rows;   /* and the row of each; NULL: pieces are rows */
    tb_job *jobs;            /* columns, then extras */
    unsigned char *roles; /* of the columns a tb_flat_role, of the rest tb_flat_extra */
    Py_ssize_t columns, count;
    Py_ssize_t main;   /* the column whose lengths all have */
    Py_ssize_t labels; /* or -1 */
    int64_t start;     /* the first position of a sequence */
    int cut_left;
    Py_ssize_t longest_asked; /* max_seqlen, or -1 */
} tb_flat_batch;

/* Whether rows are brought together first: what is kept of them lies in parts. */
static inline int
tb_in_parts(const tb_flat_batch *batch)
{
    return batch->segments != NULL &&
           (batch->flat.piece_multiple > 1 || batch->flat.max_length != PTRDIFF_MAX);
}

/* flat_plan.c: ValueError where a mask, a column as surveyed, holds anything but ones.
 */
int tb_refuse_masked(tb_state *state, tb_column *mask);

/* Reads the lengths of the sequences that make up each row. */
int tb_read_segments(tb_flat_batch *batch, tb_column *segments);

/* Plans the line, with all that does not fit it an error. */
int tb_plan_batch(tb_flat_batch *batch);

/* flat_batch.c: lays out, allocates and fills; again where a list turned out to hold
 * floats. */
int tb_run_batch(tb_flat_batch *batch, PyObject *allocate, int as_tensors);

#endif
