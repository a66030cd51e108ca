/* All that the module remembers between calls. There is no other global state. */
#ifndef TB_STATE_H
#define TB_STATE_H

#include "py/base/tb_numpy.h"
#include "py/input/dlpack.h"

typedef struct {
    PyObject *convert; /* tightbatch._numpy_fallback.convert, looked up when needed */
    PyObject *significand_bits; /* and its siblings of these names */
    PyObject *lowest_value;
    PyObject *bfloat16;      /* ml_dtypes.bfloat16's dtype, when ml_dtypes is there */
    PyTypeObject *tensor;    /* torch.Tensor, once torch has been imported */
    PyTypeObject *parameter; /* torch.nn.Parameter */
    PyObject *tensor_is_neg; /* the method torch.Tensor.is_neg */
    const tb_dlpack_exchange *dlpack; /* torch's C exchange table, or NULL */
    /* Strings that are compared by address first. */
    PyObject *str_right;
    PyObject *str_left;
    PyTypeObject *ragged; /* tightbatch.Ragged, once its module has registered it */
    PyObject *str_chunks; /* and its attributes */
    PyObject *str_bounds;
    PyObject *str_starts;
    PyObject *str_lengths;
} tb_state;

extern struct PyModuleDef tb_module;

static inline tb_state *
tb_state_of(PyObject *module)
{
    return (tb_state *)PyModule_GetState(module);
}

/* One table of methods a family. */
extern PyMethodDef tb_setting_methods[];
extern PyMethodDef tb_pad_methods[];
extern PyMethodDef tb_mask_methods[];
extern PyMethodDef tb_batching_methods[];
extern PyMethodDef tb_bucket_methods[];
extern PyMethodDef tb_collate_methods[];
extern PyMethodDef tb_ragged_methods[];
extern PyMethodDef tb_arrow_methods[];
extern PyMethodDef tb_mlm_methods[];
extern PyMethodDef tb_segment_methods[];
extern PyMethodDef tb_block_mask_methods[];
extern PyMethodDef tb_padding_free_methods[];
extern PyMethodDef tb_half_methods[];

#endif
