/* Reads integers about rows: lengths, ids of segments, indices. One row of them, or
 * several. */
#ifndef TB_LENGTHS_H
#define TB_LENGTHS_H

#include "py/input/rows.h"

/* One length for each row: int64 [rows], new. context->argument is their name. Bools
 * are refused: most likely they are a mask, and would be read as lengths of 0 and 1. */
PyArrayObject *tb_read_lengths(tb_state *state, const tb_context *context,
                               PyObject *lengths);

/* Whether it is a list of rows, or an array or tensor of two dimensions or more: 1 or 0,
 * -1 with an exception. */
int tb_holds_rows(PyObject *object);

/* ValueError for a negative length, one above `width` (-1: none is) or a sum that cannot
 * be addressed. Gives the sum. */
int tb_check_row_lengths(const tb_context *context, PyArrayObject *lengths,
                         Py_ssize_t width, ptrdiff_t *total);

/* The same by the core's status. Answers -1. */
int tb_raise_length(const tb_context *context, tb_status status, const tb_error *error,
                    Py_ssize_t limit);

/* boundaries= as int64 [n], new: ascending widths, at least one. */
PyArrayObject *tb_read_boundaries(const tb_context *context, PyObject *boundaries);

typedef struct {
    PyArrayObject *values; /* int64, one row after another */
    PyArrayObject *counts; /* int64 [rows] */
    int is_single;         /* one row was given, not a list of rows */
} tb_int_rows;

/* Reads one row or several. With `name_rows` messages count the numbers of a single row
 * as rows, as for lengths. The caller calls tb_clear_int_rows in every case. */
int tb_read_int_rows(tb_state *state, const tb_context *context, PyObject *object,
                     int name_rows, tb_int_rows *rows);

/* The same for several rows that are surveyed. */
int tb_read_int_column(tb_state *state, tb_column *column, tb_int_rows *rows);

/* Each row's sum, int64 [rows]; ValueError for a negative length. */
PyArrayObject *tb_sum_int_rows(const tb_context *context, const tb_int_rows *lengths);

/* ValueError for the first sum above width=. */
int tb_check_totals(const tb_context *context, const tb_int_rows *lengths,
                    PyArrayObject *totals, Py_ssize_t width);

void tb_clear_int_rows(tb_int_rows *rows);

static inline const int64_t *
tb_int_values(const tb_int_rows *rows)
{
    return (const int64_t *)PyArray_DATA(rows->values);
}

static inline const ptrdiff_t *
tb_int_counts(const tb_int_rows *rows)
{
    return (const ptrdiff_t *)PyArray_DATA(rows->counts);
}

static inline ptrdiff_t
tb_count_int_rows(const tb_int_rows *rows)
{
    return PyArray_SIZE(rows->counts);
}

/* An int64 array that this package made; users never pass one. */
const int64_t *tb_read_length_array(const char *function, PyObject *object,
                                    ptrdiff_t *count);

#endif
