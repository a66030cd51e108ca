/* Integers in rows, or in one row alone: lengths of segments, their ids. */
#ifndef TB_INT_ROWS_H
#define TB_INT_ROWS_H

#include "py/input/rows.h"

typedef struct {
    PyArrayObject *values; /* int64, one row after another */
    PyArrayObject *counts; /* int64 [rows] */
    int is_single;         /* what was given is one row, without rows around it */
} tb_int_rows;

/* Of lengths no bool is taken (a mask, most likely), and those of a single row count as
 * rows in messages. -1 with an exception; tb_clear_int_rows is due either way. */
int tb_read_int_rows(tb_state *state, const tb_context *context, PyObject *object,
                     int are_lengths, tb_int_rows *rows);

/* Each row's sum, int64 [rows]; of lengths, none of which is negative. */
PyArrayObject *tb_sum_int_rows(const tb_context *context, const tb_int_rows *lengths);

/* ValueError for the first sum above `limit`, which the argument `name` gave. */
int tb_check_totals(const tb_context *context, const tb_int_rows *lengths,
                    PyArrayObject *totals, const char *name, Py_ssize_t limit);

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

#endif
