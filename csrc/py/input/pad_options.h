/* The settings of widths and sides, of pad(), the masks and the collators. */
#ifndef TB_PAD_OPTIONS_H
#define TB_PAD_OPTIONS_H

#include "py/input/settings.h"

/* -1 is "not given". */
typedef struct {
    Py_ssize_t width;
    Py_ssize_t max_length;
    Py_ssize_t multiple;
    int pad_left;
    int cut_left;
    int flat;                  /* rows one after another in one row of the output */
    const int64_t *boundaries; /* the allowed widths, ascending; NULL: any */
    ptrdiff_t boundary_count;
} tb_pad_options;

/* Reads all of them but `flat` and boundaries, under the names that all functions use.
 */
int tb_read_pad_options(const tb_context *context, PyObject *width,
                        PyObject *max_length, PyObject *padding_side,
                        PyObject *truncation_side, PyObject *multiple,
                        tb_pad_options *options);

/* For functions that make masks and cut nothing. */
int tb_read_mask_options(const tb_context *context, PyObject *width,
                         PyObject *padding_side, PyObject *multiple,
                         tb_pad_options *options);

#endif
