#include "py/input/pad_options.h"

int
tb_read_mask_options(const tb_context *context, PyObject *width, PyObject *padding_side,
                     PyObject *multiple, tb_pad_options *options)
{
    options->max_length = -1;
    if (tb_read_size(context, "width", width, 0, -1, &options->width) < 0 ||
        tb_read_choice(context, "padding_side", padding_side, tb_sides,
                       &options->pad_left) < 0 ||
        tb_read_size(context, "pad_to_multiple_of", multiple, 1, 1,
                     &options->multiple) < 0) {
        return -1;
    }
    return 0;
}

int
tb_read_pad_options(const tb_context *context, PyObject *width, PyObject *max_length,
                    PyObject *padding_side, PyObject *truncation_side,
                    PyObject *multiple, tb_pad_options *options)
{
    Py_ssize_t most;

    if (tb_read_size(context, "max_length", max_length, 0, -1, &most) < 0 ||
        tb_read_mask_options(context, width, padding_side, multiple, options) < 0 ||
        tb_read_choice(context, "truncation_side", truncation_side, tb_sides,
                       &options->cut_left) < 0) {
        return -1;
    }
    options->max_length = most;
    return 0;
}
