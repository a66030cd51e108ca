/* Rows of different lengths in one or several buffers: the contents of a
 * tightbatch.Ragged, and the form in which Arrow data is read. */
#ifndef TB_RAGGED_H
#define TB_RAGGED_H

#include "py/input/column.h"

/* The positions of all chunks, one chunk after another, are numbered from 0 on: chunk k
 * has `bounds[k]` to `bounds[k + 1]`, and `starts` are such numbers. No row lies in two
 * chunks. */
typedef struct {
    PyObject *chunks; /* tuple of C-contiguous arrays, one dtype, one trailing shape */
    PyArrayObject *bounds;  /* int64 [chunks + 1] */
    PyArrayObject *starts;  /* int64 [rows] */
    PyArrayObject *lengths; /* int64 [rows] */
} tb_ragged;

/* Makes the class _core.RaggedBuffers, an object around a tb_ragged that
 * tightbatch.Ragged derives from. 0, or -1. */
int tb_add_ragged_type(PyObject *module);

/* 1 where `object` is of that class, else 0. */
int tb_is_ragged(const tb_state *state, PyObject *object);

/* The buffers of `object`, which is of that class; borrowed. NULL with an exception if
 * it was never filled, or its arrays were resized. */
const tb_ragged *tb_open_ragged(PyObject *object);

/* A new object of a class derived from it. It takes over all that
 * `buffers` holds, even where it fails. Its bounds may be NULL: then they are counted. */
PyObject *tb_new_ragged(const tb_state *state, PyObject *type, tb_ragged *buffers);

void tb_clear_ragged(tb_ragged *buffers);

/* Sets the bounds from the chunks. 0, or -1. */
int tb_count_bounds(tb_ragged *buffers);

/* Makes the rows of `buffers` those of a column that was just cleared. */
int tb_survey_ragged(tb_state *state, const tb_ragged *buffers, tb_column *column);

#endif
