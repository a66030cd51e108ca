/* Reading Python lists and tuples of numbers, nested or not, straight into elements. */
#ifndef TB_LIST_H
#define TB_LIST_H

#include "py/input/column.h"
#include "py/input/number.h"

typedef struct {
    tb_state *state;
    const tb_context *context;
    tb_dtype dtype;  /* of the elements written; not TB_NUMPY_ONLY */
    int provisional; /* no dtype was asked for: it may still become wider */
    int no_bools;    /* bools are refused instead of taken for 0 and 1 */
    /* Set if the int64 or float64 that is read becomes another type: an integer among
     * floats may then have no more bits than that type; else NULL. */
    const tb_dtype *target;
    int significand;       /* bits of the target */
    Py_ssize_t row;        /* for messages */
    int ndim;              /* how deep a row's items are nested: 0 for numbers */
    const npy_intp *shape; /* and how long the lists are at each depth */
    tb_guard guard;        /* checked after each item that ran code of the user's */
    unsigned lists_read;   /* signals are answered now and then */
} tb_list_reader;

/* The result of reading a row. */
typedef enum {
    TB_READ_ERROR = -1,
    TB_READ_DONE = 0,
    TB_READ_WIDEN = 1, /* reader->dtype is wider now: start again with it */
} tb_read;

/* Items start to start + count of `list` (a list or tuple of `length`), converted to
 * C-ordered elements at `dst`. May run Python code. */
tb_read tb_read_list(tb_list_reader *reader, PyObject *list, Py_ssize_t length,
                     Py_ssize_t start, Py_ssize_t count, void *dst);

/* The narrowest of bool, int64 and float32 for the first number of `list` from item
 * `start` on, also in nested lists; *found says whether there is one. */
int tb_guess_dtype(tb_state *state, PyObject *list, Py_ssize_t start, tb_dtype *dtype,
                   int *found);

/* The shape below the first dimension of a nested list, from its first item at each
 * depth. Raises where it is nested deeper than arrays can be. */
int tb_nested_shape(const tb_context *context, Py_ssize_t row, PyObject *list,
                    int *ndim, npy_intp *shape);

static inline int
tb_is_list(PyObject *object)
{
    return PyList_Check(object) || PyTuple_Check(object);
}

/* Items of a list or tuple. A borrowed item is not valid after a call that can run
 * Python code, because that may change the list. */
static inline Py_ssize_t
tb_list_size(PyObject *list)
{
    return PyList_Check(list) ? PyList_GET_SIZE(list) : PyTuple_GET_SIZE(list);
}

static inline PyObject *
tb_list_item(PyObject *list, Py_ssize_t i)
{
    return PyList_Check(list) ? PyList_GET_ITEM(list, i) : PyTuple_GET_ITEM(list, i);
}

static inline PyObject *const *
tb_list_items(PyObject *list)
{
    return PyList_Check(list) ? ((PyListObject *)list)->ob_item
                              : ((PyTupleObject *)list)->ob_item;
}

#endif
