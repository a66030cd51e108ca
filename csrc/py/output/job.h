/* Several columns of a batch on their way to arrays: all are laid out before anything
 * is allocated, so that they can share one block of memory. */
#ifndef TB_JOB_H
#define TB_JOB_H

#include "py/input/rows.h"

/* What a job makes: a padded, stacked or flattened column; or, from the lengths of the
 * column that is its source,
 *     MASK         int64 [batch, width], 1 at tokens
 *     LENGTHS      int64 [batch], as cut
 *     POSITIONS    int64, numbers in a row from 0: [batch, width], or [1, width] flat
 *     SEQ_IDX      int32 [1, width], number of the row; flat only
 *     CU_SEQLENS   int32 [batch + 1], where rows begin and end; flat only
 *     LIKE         int64 in the source's shape, left for the caller to write
 *     MADE         int32 or int64 in a shape of its own, written by the caller */
typedef enum {
    COLUMN,
    MASK,
    LENGTHS,
    POSITIONS,
    SEQ_IDX,
    CU_SEQLENS,
    LIKE,
    MADE
} tb_job_kind;

/* One array on its way. */
typedef struct {
    tb_column column;
    tb_pad_options options;
    tb_layout layout;
    PyObject *padding_value; /* borrowed */
    int is_flat;             /* a number a row: the output is [batch] */
    tb_job_kind kind;
    Py_ssize_t source;          /* of all but columns: the column they are of */
    Py_ssize_t same_lengths_as; /* another column, or -1 */
    int ndim;                   /* of MADE alone: its shape */
    npy_intp dims[2];
    ptrdiff_t offset; /* in the shared block */
    PyArrayObject *out;
} tb_job;

/* The kind of that name, "mask" and so on: -1 with an exception for another. */
int tb_job_kind_named(PyObject *name, tb_job_kind *kind);

/* Lays out, allocates and fills all; again, where a list turned out to hold floats.
 * `allocate` answers a block for a number of bytes, or is None. */
int tb_run_jobs(tb_state *state, tb_job *jobs, Py_ssize_t count, PyObject *allocate,
                int as_tensors);

/* Makes `out` of all that are laid out: new arrays, or with `allocate` views of the one
 * block that allocate(bytes) answers. */
int tb_allocate_jobs(tb_state *state, tb_job *jobs, Py_ssize_t count,
                     PyObject *allocate, int as_tensors);

/* [(array, offset, is_bfloat16), ...] */
PyObject *tb_answer_jobs(const tb_job *jobs, Py_ssize_t count);

void tb_clear_job(tb_job *job);

#endif
