/* The module _core: its table of functions, its state, and its start. */
#define TB_IMPORTS_NUMPY
#include "py/base/tb_numpy.h"
#include "py/base/state.h"
#include "core/cast/half.h"
#include "py/input/ragged.h"

#include <stdlib.h>
#include <string.h>

/* One table of methods for each family. */
extern PyMethodDef tb_setting_methods[];
extern PyMethodDef tb_pad_methods[];
extern PyMethodDef tb_mask_methods[];
extern PyMethodDef tb_batching_methods[];
extern PyMethodDef tb_limit_methods[];
extern PyMethodDef tb_bucket_methods[];
extern PyMethodDef tb_collate_methods[];
extern PyMethodDef tb_ragged_methods[];
extern PyMethodDef tb_arrow_methods[];
extern PyMethodDef tb_mlm_methods[];
extern PyMethodDef tb_segment_methods[];
extern PyMethodDef tb_block_mask_methods[];
extern PyMethodDef tb_padding_free_methods[];
extern PyMethodDef tb_half_methods[];
extern PyMethodDef tb_check_methods[];
extern PyMethodDef tb_waste_methods[];

/* The best level of this machine, or the one that TIGHTBATCH_CPU names. */
static int
choose_level(void)
{
    const char *asked = getenv("TIGHTBATCH_CPU");
    char names[64] = "";

    if (asked == NULL || *asked == '\0') {
        tb_use_level(tb_cpu_best());
        return 0;
    }
    for (int level = 0; level < TB_LEVEL_COUNT; level++) {
        if (tb_level_available((tb_level)level)) {
            if (strcmp(tb_level_name((tb_level)level), asked) == 0) {
                tb_use_level((tb_level)level);
                return 0;
            }
            strcat(names, *names == '\0' ? "" : ", ");
            strcat(names, tb_level_name((tb_level)level));
        }
    }
    PyErr_Format(PyExc_ImportError,
                 "TIGHTBATCH_CPU='%.100s'; expected one of those this machine has: %s",
                 asked, names);
    return -1;
}

static int
exec_module(PyObject *module)
{
    if (PyArray_ImportNumPyAPI() < 0 || choose_level() < 0) {
        return -1;
    }
    PyMethodDef *families[] = {
        tb_setting_methods,    tb_pad_methods,     tb_mask_methods,
        tb_batching_methods,   tb_collate_methods, tb_ragged_methods,
        tb_arrow_methods,      tb_mlm_methods,     tb_segment_methods,
        tb_block_mask_methods, tb_bucket_methods,  tb_padding_free_methods,
        tb_half_methods,       tb_check_methods,   tb_waste_methods,
        tb_limit_methods};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (PyModule_AddFunctions(module, families[i]) < 0) {
            return -1;
        }
    }
    return tb_add_ragged_type(module);
}

static int
traverse_module(PyObject *module, visitproc visit, void *arg)
{
    tb_state *state = tb_state_of(module);

    Py_VISIT(state->convert);
    Py_VISIT(state->significand_bits);
    Py_VISIT(state->masking_value);
    Py_VISIT(state->bfloat16);
    Py_VISIT(state->tensor);
    Py_VISIT(state->parameter);
    Py_VISIT(state->tensor_is_neg);
    Py_VISIT(state->ragged);
    return 0;
}

static int
clear_module(PyObject *module)
{
    tb_state *state = tb_state_of(module);

    Py_CLEAR(state->convert);
    Py_CLEAR(state->significand_bits);
    Py_CLEAR(state->masking_value);
    Py_CLEAR(state->bfloat16);
    Py_CLEAR(state->tensor);
    Py_CLEAR(state->parameter);
    Py_CLEAR(state->tensor_is_neg);
    Py_CLEAR(state->ragged);
    return 0;
}

static void
free_module(void *module)
{
    (void)clear_module((PyObject *)module);
}

static PyModuleDef_Slot slots[] = TB_MODULE_SLOTS(exec_module);

struct PyModuleDef tb_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "tightbatch._core",
    .m_doc =
        "The C core of tightbatch, bound to NumPy; its functions take positions only.",
    .m_size = sizeof(tb_state),
    .m_slots = slots,
    .m_traverse = traverse_module,
    .m_clear = clear_module,
    .m_free = free_module,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&tb_module);
}
