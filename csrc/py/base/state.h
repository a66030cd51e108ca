/* All that the module remembers between calls. There is no other global state. What is
 * looked up when it is needed may be looked up by several threads at once: TB_RECALL() and
 * TB_REMEMBER() read and set it. */
#ifndef TB_STATE_H
#define TB_STATE_H

#include "py/base/tb_numpy.h"

typedef struct {
    PyObject *convert; /* tightbatch._numpy_fallback.convert, looked up when needed */
    PyObject *significand_bits; /* of the same module, as the next one */
    PyObject *masking_value;
    PyObject *bfloat16;      /* ml_dtypes.bfloat16 as a dtype, once imported */
    PyTypeObject *tensor;    /* torch.Tensor, once torch has been imported: set last */
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

/* Puts `object`, whose reference it takes, into a slot of the state, unless another thread
 * was first; gives what is there then, borrowed. `guard` is the same for all who do so. */
static inline PyObject *
tb_remember_object(PyObject *guard, PyObject **slot, PyObject *object)
{
    PyObject *known;

    TB_BEGIN_CRITICAL_SECTION(guard);
    known = *slot;
    if (known == NULL) {
        TB_REMEMBER(*slot, object);
    }
    TB_END_CRITICAL_SECTION();
    if (known != NULL) {
        Py_DECREF(object);
    }
    return known != NULL ? known : object;
}

#endif
