/* A Python number turned into the bytes of one element. */
#ifndef TB_NUMBER_H
#define TB_NUMBER_H

#include "py/input/dtype.h"

typedef enum {
    TB_NOT_A_NUMBER,
    TB_NUMBER_BOOL,
    TB_NUMBER_INT,   /* in `i` */
    TB_NUMBER_UINT,  /* 2**63 to 2**64 - 1, in `u` */
    TB_NUMBER_HUGE,  /* an int beyond both; only `object` has it */
    TB_NUMBER_FLOAT, /* in `f` */
} tb_number_kind;

typedef struct {
    tb_number_kind kind;
    int64_t i;
    uint64_t u;
    double f;
    PyObject *object; /* owned: the int that TB_NUMBER_HUGE is; why a tensor of no
                       * dimensions is TB_NOT_A_NUMBER, an exception; else NULL */
} tb_number;

/* Reads a number. May run Python code (an __index__), after which nothing borrowed from
 * a container is valid. -1 if that code raised. */
int tb_read_number(tb_state *state, PyObject *item, tb_number *number);

/* Stores a number as an element of any type but TB_NUMPY_ONLY, with checks. `status`
 * tells what was wrong. The caller refuses floats for integers and bools. -1 on a
 * Python error. */
int tb_store_number(const tb_number *number, tb_type type, void *dst,
                    tb_status *status);

/* The Python int, float or bool that `value` is, a new reference; `value` itself where it
 * is no number. Reading it may run Python code, which can resize arrays: so it is done
 * before rows are looked at, and what is read of the plain number later runs none. */
PyObject *tb_plain_number(tb_state *state, PyObject *value);

/* padding_value as the item_size bytes at `dst`. */
int tb_read_fill(tb_state *state, const tb_context *context, PyObject *value,
                 const tb_dtype *dtype, unsigned char *dst);

/* The two values of a mask as item_size bytes each: 1 and 0; if additive, 0 and what
 * tb_masking_value() gives. */
int tb_read_mask_values(tb_state *state, const tb_context *context,
                        const tb_dtype *dtype, int additive, unsigned char *real,
                        unsigned char *fill);

/* Raises what `status` means for the value `found`, which is shown. Returns -1. */
int tb_raise_value(const tb_context *context, tb_status status, Py_ssize_t row,
                   Py_ssize_t column, PyObject *found, const tb_dtype *dtype);

#endif
