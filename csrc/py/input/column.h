/* One column of a batch: where each of its rows lies, and of which type it is. */
#ifndef TB_COLUMN_H
#define TB_COLUMN_H

#include "core/layout/pad.h"
#include "py/input/dtype.h"

/* In tb_column.types: a list or tuple, which is read when the output exists. */
enum { TB_LIST = TB_NUMPY_ONLY + 1 };

/* Memory that the caller also holds, and could move: `check` raises if it was. */
typedef struct {
    int (*check)(const void *memory);
    const void *memory;
} tb_guard;

typedef struct {
    tb_state *state;
    tb_context context;
    PyObject *rows;   /* a tuple: keeps alive what the pointers below point to */
    PyObject *owners; /* a list of arrays that were made for it, or NULL */
    ptrdiff_t count;
    const void **data;    /* for each row its elements, or the list itself */
    ptrdiff_t *lengths;   /* positions */
    unsigned char *types; /* a tb_type or TB_LIST, each row */
    PyObject **sources;   /* borrowed: the array or tensor whose memory `data` is; NULL
                           * for a list, and for a copy of our own */
    ptrdiff_t lists;      /* how many rows are lists */
    int ndim;             /* of one position; -1 until a row is known */
    npy_intp trailing[TB_MAX_TRAILING];
    ptrdiff_t shape_row; /* the row that `trailing` is from */
    ptrdiff_t array_row; /* a row that is not a list and has elements, if any; or -1 */
    tb_dtype whole;      /* of the one array that was given; item_size 0: none */
    PyArray_Descr
        *numpy_only; /* what TB_NUMPY_ONLY is in this column, owned; or NULL */
    tb_dtype dtype;  /* of the output; its descr is owned */
    int provisional; /* `dtype` may still be widened while the lists are read */
    tb_guard guard;  /* what is written to, if the caller gave it */
} tb_column;

/* The type of row i, which is not a list; borrowed from the column. */
tb_dtype tb_row_dtype(const tb_column *column, ptrdiff_t i);

/* The rows' lengths as a new int64 array [batch]. */
PyArrayObject *tb_new_lengths(const tb_column *column);

/* RuntimeError if the memory of an array or a tensor is not what the survey saw: Python
 * code that ran meanwhile, such as an __index__, can resize it. */
int tb_verify_rows(const tb_column *column);

/* Room for `count` rows. */
int tb_allocate_rows(tb_column *column, Py_ssize_t count);

/* Keeps `owner` alive as long as the column. */
int tb_note_owner(tb_column *column, PyObject *owner);

void tb_clear_column(tb_column *column);

/* Row i, which is a TB_LIST; borrowed. */
static inline PyObject *
tb_list_row(const tb_column *column, ptrdiff_t i)
{
    return (PyObject *)(uintptr_t)column->data[i];
}

#endif
