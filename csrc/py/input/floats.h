/* An array or tensor of floats of any layout, read in runs of plain memory. */
#ifndef TB_FLOATS_H
#define TB_FLOATS_H

#include "py/input/tensor.h"

typedef struct {
    tb_type type; /* TB_F64, TB_F32, TB_F16 or TB_BF16 */
    int ndim;
    npy_intp shape[NPY_MAXDIMS];
    npy_intp count;
    const char *data;       /* C-contiguous and native, aligned or not; or NULL: */
    PyArrayObject *strided; /* NumPy goes through it; owned */
    PyObject *owner;        /* owned: keeps `data` alive */
} tb_floats;

/* TypeError for anything but an array, tensor or buffer of these types. */
int tb_read_floats(tb_state *state, const tb_context *context, PyObject *object,
                   tb_floats *floats);

void tb_clear_floats(tb_floats *floats);

/* Gets n elements in C order, from number `at` on; returns 0 to get more. Called
 * without the GIL. */
typedef int (*tb_run_function)(const void *src, npy_intp n, npy_intp at, void *context);

/* Calls the function for all elements in C order. 0; what it returned to stop; or -1
 * with an exception. */
int tb_each_run(const tb_floats *floats, tb_run_function function, void *context);

/* Whether any of its memory lies in [begin, end). */
int tb_floats_overlap(const tb_floats *floats, const char *begin, const char *end);

#endif
