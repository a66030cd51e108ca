/* One column of Arrow data as NumPy arrays over the producer's memory. */
#ifndef TB_ARROW_COLUMN_H
#define TB_ARROW_COLUMN_H

#include "core/arrow/kind.h"
#include "py/input/arrow_source.h"
#include "py/input/ragged.h"

typedef struct {
    tb_context context; /* its key is the column's name, where the source is a table */
    PyObject *name;     /* owned; NULL where the source is no table */
    tb_arrow_kind kind;
    ptrdiff_t count;     /* rows; numbers where the kind is TB_ARROW_NUMBERS */
    ptrdiff_t positions; /* of all chunks */
    PyObject *chunks;    /* list of arrays [positions, *trailing], one at least */
    PyArrayObject *starts, *lengths; /* int64 [count]; not of numbers: NULL */
    PyArrayObject
        *missing;    /* bool [count]: which rows or numbers are null; NULL: none */
    PyObject *nulls; /* list, of each chunk its null elements as bools, or None */
} tb_arrow_column;

/* How many columns the source has, 1 if it is not a table; -1 with an exception for a
 * malformed schema. */
Py_ssize_t tb_count_arrow_columns(const tb_context *context,
                                  const tb_arrow_source *source);

/* The name of a column, a new reference; None if the source is not a table. */
PyObject *tb_arrow_column_name(const tb_arrow_source *source, Py_ssize_t i);

/* Reads column i. 0, or -1 with a TypeError that names the column for a type that is
 * not supported, and a ValueError for malformed data. The caller clears the column in
 * both cases. */
int tb_read_arrow_column(tb_state *state, const tb_context *context,
                         const tb_arrow_source *source, Py_ssize_t i,
                         tb_arrow_column *column);

void tb_clear_arrow_column(tb_arrow_column *column);

/* TypeError: "column 'x' holds text; expected ...": `reason` follows the name. Returns
 * -1. */
int tb_refuse_arrow_kind(const tb_arrow_column *column, const char *reason);

/* All chunks of such a list as one array. A new reference. */
PyArrayObject *tb_join_arrow_chunks(PyObject *chunks);

/* Takes over `values` and makes it the only chunk; -1 if it is NULL. */
int tb_replace_arrow_chunks(tb_arrow_column *column, PyArrayObject *values);

#endif
