/* Reads CPU tensors of torch, without linking torch: through DLPack's C exchange table
 * if torch has one, else through torch's public methods. */
#ifndef TB_TENSOR_H
#define TB_TENSOR_H

#include "py/input/array.h"
#include "py/input/tensor_array.h"

/* 1 and a C-contiguous view if `object` is a torch tensor, 0 if it is something else,
 * -1 with TypeError for a tensor that is not a dense CPU tensor of real numbers. */
int tb_view_tensor(tb_state *state, const tb_context *context, Py_ssize_t row,
                   PyObject *object, tb_view *view);

/* TypeError if `object` is a tensor that requires a gradient, while torch records what
 * is done with it. */
int tb_refuse_grad(tb_state *state, const tb_context *context, Py_ssize_t row,
                   Py_ssize_t column, PyObject *object);

/* The same of a padding value. */
int tb_refuse_grad_of_fill(tb_state *state, const tb_context *context, PyObject *fill);

/* 1 and a view if torch's exchange table gives a C-contiguous CPU tensor of a known
 * type; 0 for every other, without an exception. `object` is a tensor. */
int tb_view_plain_tensor(tb_state *state, PyObject *object, tb_view *view);

/* The same for a tensor that was viewed so before: whether it was negated lazily, which
 * does not change, is not looked at again. Runs no Python code. */
int tb_view_exchanged(tb_state *state, PyObject *object, tb_view *view);

/* ValueError if the storage was resized to less than its tensors need. */
int tb_check_storage(const tb_context *context, PyObject *tensor, const tb_view *view);

/* 1 where `object` is a torch.Tensor; torch is never imported for it. -1 on an error.
 */
int tb_is_tensor(tb_state *state, PyObject *object);

#endif
