/* out=: an array or a tensor that is given to be written. */
#ifndef TB_OUT_H
#define TB_OUT_H

#include "py/input/tensor.h"

/* The array that out= is, a new reference: itself, or a view of a CPU tensor's memory
 * (bfloat16 as int16). */
PyArrayObject *tb_read_out(tb_state *state, const tb_context *context, PyObject *out,
                           int *is_bfloat16);

/* ValueError where it has another type or shape, or cannot be written in one go. */
int tb_check_out(tb_state *state, const tb_context *context, PyArrayObject *out,
                 int is_bfloat16, const tb_dtype *dtype, int ndim,
                 const npy_intp *dims);

/* The first of the rows whose memory lies in the same range as that of out=: its place,
 * -1 for none, -2 with an exception. `rows` is a tuple, or what all rows are in (then
 * place 0). */
Py_ssize_t tb_find_sharing(tb_state *state, const tb_context *context, PyObject *rows,
                           PyArrayObject *out);

#endif
