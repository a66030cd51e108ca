/* Arguments of the private functions: all by position, None where not given. */
#ifndef TB_ARGS_H
#define TB_ARGS_H

#include "py/input/rows.h"

/* A size: None is `missing`; otherwise an int (no bool) of at least `least`. */
int tb_read_size(const tb_context *context, const char *name, PyObject *value,
                 Py_ssize_t least, Py_ssize_t missing, Py_ssize_t *out);

/* "right" or "left", as 1 where it is "left". */
int tb_read_side(tb_state *state, const tb_context *context, const char *name,
                 PyObject *value, int *is_left);

int tb_read_flag(PyObject *value, int *out);

/* The arguments that say where rows go. */
int tb_read_pad_options(tb_state *state, const tb_context *context, PyObject *width,
                        PyObject *max_length, PyObject *padding_side,
                        PyObject *truncation_side, PyObject *multiple,
                        tb_pad_options *options);

int tb_check_count(const char *function, Py_ssize_t given, Py_ssize_t expected);

/* lengths= as a new int64 array [batch]: a list, array, tensor or buffer of integers.
 */
PyArrayObject *tb_read_lengths(tb_state *state, const tb_context *context,
                               PyObject *lengths);

/* Raises what is wrong with lengths. Answers -1. */
int tb_raise_length(const tb_context *context, tb_status status, const tb_error *error,
                    Py_ssize_t limit);

#endif
