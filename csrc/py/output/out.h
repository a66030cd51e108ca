/* out=: an array or a tensor to write to. */
#ifndef TB_OUT_H
#define TB_OUT_H

#include "py/input/tensor.h"

/* out= as an array, a new reference: itself, or a view of a CPU tensor's memory
 * (bfloat16 as int16). */
PyArrayObject *tb_read_out(tb_state *state, const tb_context *context, PyObject *out,
                           int *is_bfloat16);

/* ValueError if it has another type or shape, is read-only or is not contiguous. */
int tb_check_out(tb_state *state, const tb_context *context, PyArrayObject *out,
                 int is_bfloat16, const tb_dtype *dtype, int ndim,
                 const npy_intp *dims);

/* out= and where its memory was when it was checked. */
typedef struct {
    const tb_context *context;
    PyObject *given;
    const void *data;
    npy_intp bytes;
} tb_out;

/* RuntimeError if the memory of a tb_out is not where it was. */
int tb_verify_out(const void *out);

/* The index of the first row whose memory is in the same range as that of out=; -1 for
 * none, -2 with an exception. `rows` is a tuple, or one object that has all rows (index
 * 0). */
Py_ssize_t tb_find_sharing(tb_state *state, const tb_context *context, PyObject *rows,
                           PyArrayObject *out);

#endif
