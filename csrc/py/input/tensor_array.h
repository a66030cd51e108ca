/* Tensors through torch's public methods: those that its exchange table cannot give,
 * those that are written, and new ones. */
#ifndef TB_TENSOR_ARRAY_H
#define TB_TENSOR_ARRAY_H

#include "py/base/errors.h"

/* A writeable array over a CPU tensor's own memory (bfloat16 as int16). A TypeError says
 * "`verb` a sparse tensor" and so on; `verb` is "found", or "out= is" for one that is to
 * be written. */
PyArrayObject *tb_tensor_array(const tb_context *context, Py_ssize_t row,
                               const char *verb, PyObject *tensor, int *is_bfloat16);

/* A new CPU tensor of the shape of `like` and of a type, "float16" say. */
PyObject *tb_new_tensor(PyObject *like, const char *type);

#endif
