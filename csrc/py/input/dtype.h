/* Element types by their Python names, and what only NumPy knows about them. */
#ifndef TB_DTYPE_H
#define TB_DTYPE_H

#include "core/cast/cast.h"
#include "py/base/errors.h"
#include "py/base/state.h"

/* Most dimensions of one position: those that NumPy allows, without batch and width. */
enum { TB_MAX_TRAILING = NPY_MAXDIMS - 2 };

/* An element type. `descr` is set only for TB_NUMPY_ONLY; who fills it in owns it. */
typedef struct {
    tb_type type;
    int item_size;
    PyArray_Descr *descr;
} tb_dtype;

/* The type of an array's descr: 0. 1, without an exception, for a type that rows cannot
 * have (complex, datetime, str, structured, object); -1 with an exception. Byte order
 * does not matter. */
int tb_dtype_from_descr(tb_state *state, PyArray_Descr *descr, tb_dtype *out);

/* A dtype= argument: anything numpy.dtype() takes, or a torch.dtype. 1, or -1 with an
 * exception. None: 0, and *out does not change. */
int tb_dtype_from_object(tb_state *state, const tb_context *context, PyObject *object,
                         tb_dtype *out);

/* A new reference to the NumPy dtype. bfloat16 needs ml_dtypes: TypeError without. */
PyArray_Descr *tb_dtype_descr(tb_state *state, const tb_dtype *dtype);

int tb_dtype_equal(const tb_dtype *a, const tb_dtype *b);

/* The name, such as "int64", for messages; valid as long as the descr. */
const char *tb_dtype_name(const tb_dtype *dtype);

/* Whether a type holds fractions; -1 with an exception. */
int tb_is_floating(tb_state *state, const tb_dtype *dtype);

/* The significant bits of a TB_NUMPY_ONLY type. 0, or -1 with an exception. */
int tb_significand_bits(tb_state *state, const tb_dtype *dtype, int *bits);

/* What an additive mask of a floating type holds at padding: a quarter of the type's
 * lowest value, as a Python float. The lowest value itself becomes -inf when a score or a
 * second mask is added to it, and a row of -inf becomes NaN in a softmax. Two quarters
 * leave half of the range to scores. For TB_NUMPY_ONLY an array of one element, or None
 * if it is not a floating type. */
PyObject *tb_masking_value(tb_state *state, const tb_dtype *dtype);

/* Converts `array` (C-contiguous, native) by NumPy, with the core's checks, where the
 * core does not convert from or to the type. For a half type the result is float64,
 * rounded so that the core can round it once more. `row` and the `column` of its first
 * position are for the message; row -1 is padding_value. */
PyArrayObject *tb_convert_array(tb_state *state, const tb_context *context,
                                Py_ssize_t row, Py_ssize_t column, PyArrayObject *array,
                                const tb_dtype *dtype);

#endif
