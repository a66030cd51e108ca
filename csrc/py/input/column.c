#include "py/input/column.h"

#include "py/input/tensor.h"

#include <string.h>

int
tb_allocate_rows(tb_column *column, Py_ssize_t count)
{
    size_t each = sizeof *column->data + sizeof *column->sources +
                  sizeof *column->lengths + sizeof *column->types;

    if ((size_t)count > (size_t)PTRDIFF_MAX / each - 1) {
        PyErr_NoMemory();
        return -1;
    }
    char *block = PyMem_Malloc(((size_t)count + 1) * each);
    if (block == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    column->count = count;
    column->data = (const void **)(void *)block;
    column->sources = (PyObject **)(void *)(column->data + count);
    column->lengths = (ptrdiff_t *)(void *)(column->sources + count);
    column->types = (unsigned char *)(column->lengths + count);
    memset(column->sources, 0, (size_t)count * sizeof *column->sources);
    return 0;
}

int
tb_note_owner(tb_column *column, PyObject *owner)
{
    if (column->owners == NULL) {
        column->owners = PyList_New(0);
    }
    return column->owners == NULL ? -1 : PyList_Append(column->owners, owner);
}

/* Whether an array or tensor still has its elements from `data` on, in the shape that
 * the survey saw: `first` dimensions of these sizes, and the trailing ones. */
static int
is_unmoved(const tb_column *column, PyObject *object, const void *data, int first,
           const ptrdiff_t *sizes)
{
    int trailing = column->ndim < 0 ? 0 : column->ndim;
    /* A row without positions may have any trailing shape, and nothing of it is read. */
    int is_empty = sizes[first - 1] == 0, ndim;
    const npy_intp *shape;
    tb_view view;

    if (PyArray_Check(object)) {
        PyArrayObject *array = (PyArrayObject *)object;
        ndim = PyArray_NDIM(array);
        shape = PyArray_DIMS(array);
        if (PyArray_DATA(array) != data) {
            return 0;
        }
    }
    else {
        if (!tb_view_exchanged(column->state, object, &view) ||
            (view.data != data && !is_empty)) {
            return 0;
        }
        ndim = view.ndim;
        shape = view.shape;
    }
    return ndim >= first && (is_empty || ndim == first + trailing) &&
           memcmp(shape, sizes, (size_t)first * sizeof *shape) == 0 &&
           (is_empty || memcmp(shape + first, column->trailing,
                               (size_t)trailing * sizeof *shape) == 0);
}

static int
refuse_moved(const tb_column *column, Py_ssize_t row)
{
    return tb_raise_at(&column->context, PyExc_RuntimeError, row, -1,
                       "changed size during conversion");
}

int
tb_verify_rows(const tb_column *column)
{
    if (column->whole.item_size > 0) {
        const ptrdiff_t sizes[2] = {column->count,
                                    column->count > 0 ? column->lengths[0] : 0};
        return column->count == 0 || column->owners != NULL ||
                       is_unmoved(column, column->rows, column->data[0], 2, sizes)
                   ? 0
                   : refuse_moved(column, 0);
    }
    for (ptrdiff_t i = 0; i < column->count; i++) {
        if (column->sources[i] != NULL &&
            !is_unmoved(column, column->sources[i], column->data[i], 1,
                        &column->lengths[i])) {
            return refuse_moved(column, i);
        }
    }
    return 0;
}

PyArrayObject *
tb_new_lengths(const tb_column *column)
{
    npy_intp count = column->count;
    PyArrayObject *lengths = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_INT64);

    if (lengths != NULL && count > 0) {
        memcpy(PyArray_DATA(lengths), column->lengths,
               (size_t)count * sizeof *column->lengths);
    }
    return lengths;
}

void
tb_clear_column(tb_column *column)
{
    PyMem_Free((void *)(uintptr_t)column->data);
    column->data = NULL;
    Py_CLEAR(column->rows);
    Py_CLEAR(column->owners);
    Py_CLEAR(column->numpy_only);
    Py_CLEAR(column->dtype.descr);
}

tb_dtype
tb_row_dtype(const tb_column *column, ptrdiff_t i)
{
    tb_type type = (tb_type)column->types[i];
    int is_numpy_only = type == TB_NUMPY_ONLY;
    int size =
        is_numpy_only ? (int)PyDataType_ELSIZE(column->numpy_only) : tb_type_size(type);

    return (tb_dtype){type, size, is_numpy_only ? column->numpy_only : NULL};
}
