/* All that the module remembers between calls. There is no other global state. */
#ifndef TB_STATE_H
#define TB_STATE_H

#include "py/base/tb_numpy.h"

typedef struct {
    PyObject *convert; /* tightbatch._numpy_fallback.convert, looked up when needed */
    PyObject *significand_bits; /* of the same module, as the next one */
    PyObject *masking_value;
    PyObject *bfloat16;      /* ml_dtypes.bfloat16 as a dtype, once imported */
    PyTypeObject *tensor;    /* torch.Tensor, once torch has been imported */
    PyTypeObject *parameter; /* torch.nn.Parameter */
    PyObject *tensor_is_neg; /* the method torch.Tensor.is_neg */
    const struct tb_dlpack_exchange *dlpack; /* torch's C exchange table, or NULL */
    PyTypeObject
        *ragged; /* _core.RaggedBuffers, which tightbatch.Ragged is derived from */
} tb_state;

extern struct PyModuleDef tb_module;

static inline tb_state *
tb_state_of(PyObject *module)
{
    return (tb_state *)PyModule_GetState(module);
}

#endif
