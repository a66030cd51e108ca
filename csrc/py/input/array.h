/* Reads arrays and buffers, of any layout, as plain memory. */
#ifndef TB_ARRAY_H
#define TB_ARRAY_H

#include "py/input/dtype.h"

/* Elements in memory: aligned, native and C-contiguous. */
typedef struct {
    const void *data;
    tb_dtype dtype;
    int ndim;
    npy_intp shape[NPY_MAXDIMS];
    PyObject *owner;  /* owned: keeps `data` alive if the object itself does not */
    PyObject *source; /* borrowed, of `owner` or the caller: the array or tensor whose
                       * memory `data` is, which others may resize; NULL for a copy */
} tb_view;

/* The view of an array. An array of another layout is copied, and `owner` is the copy.
 * -1 with TypeError for an element type that rows cannot have, and for masked arrays.
 */
int tb_view_array(tb_state *state, const tb_context *context, Py_ssize_t row,
                  PyArrayObject *array, tb_view *view);

/* The message for masked arrays: their masked data would be used. */
#define TB_MASKED                                         \
    "found a masked array; expected one without a mask: " \
    ".filled(value) or .compressed() gives one"

/* 1 for numpy.ma's arrays, 0 for others, -1 with an exception. */
int tb_is_masked(PyArrayObject *array);

/* 1 and the view of anything with the buffer protocol or __array__, 0 for other
 * objects, -1 with an exception. */
int tb_view_buffer(tb_state *state, const tb_context *context, Py_ssize_t row,
                   PyObject *object, tb_view *view);

#endif
