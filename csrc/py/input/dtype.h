/* Element types as Python names them, and what the core leaves to NumPy about them. */
#ifndef TB_DTYPE_H
#define TB_DTYPE_H

#include "core/cast/cast.h"
#include "py/base/errors.h"
#include "py/base/state.h"

/* Dimensions of one position: what NumPy allows, less batch and width. */
enum { TB_MAX_TRAILING = NPY_MAXDIMS - 2 };

/* An element type. `descr` is set for TB_NUMPY_ONLY alone and owned by whoever filled it. */
typedef struct {
    tb_type type;
    int item_size;
    PyArray_Descr *descr;
} tb_dtype;

/* The type that an array's descr is: 0; or 1, and no exception, for what no row may be
 * (complex, datetime, str, structured, object); -1 with one. Byte order does not
 * matter. */
int tb_dtype_from_descr(tb_state *state, PyArray_Descr *descr, tb_dtype *out);

/* A dtype= argument: anything numpy.dtype() takes, or a torch.dtype. None: answers 0
 * and leaves *out alone; otherwise 1, or -1 with an exception. */
int tb_dtype_from_object(tb_state *state, const tb_context *context, PyObject *object,
                         tb_dtype *out);

/* A new reference to the NumPy dtype. bfloat16 needs ml_dtypes: TypeError without. */
PyArray_Descr *tb_dtype_descr(tb_state *state, const tb_dtype *dtype);

int tb_dtype_equal(const tb_dtype *a, const tb_dtype *b);

/* "int64" and the like, for messages; borrowed until the descr goes. */
const char *tb_dtype_name(const tb_dtype *dtype);

/* Whether a type holds fractions; -1 with an exception. */
int tb_is_floating(tb_state *state, const tb_dtype *dtype);

/* How many significant bits a TB_NUMPY_ONLY has. 0, or -1 with an exception. */
int tb_significand_bits(tb_state *state, const tb_dtype *dtype, int *bits);

/* The lowest finite value of a floating type, as a Python float; of a TB_NUMPY_ONLY, as an
 * array of one element, or None where it is no floating type. */
PyObject *tb_lowest_value(tb_state *state, const tb_dtype *dtype);

/* `array` (C-contiguous, native) as a new array of a type that the core does not
 * convert to, or from: by NumPy, with the same checks. A half type is the core's to
 * make: for one it becomes float64, rounded so that this can be rounded once more.
 * `row` and the `column` of its first position are for the message; row -1 is
 * padding_value. */
PyArrayObject *tb_convert_array(tb_state *state, const tb_context *context,
                                Py_ssize_t row, Py_ssize_t column, PyArrayObject *array,
                                const tb_dtype *dtype);

#endif
