/* attention_mask(): from lengths alone. */
#include "py/base/tb_numpy.h"
#include "py/input/lengths.h"
#include "core/layout/mask.h"
#include "py/output/layout.h"

/* The layout of one row for each length. */
static int
lay_out_rows(const tb_context *context, PyArrayObject *lengths,
             const tb_pad_options *options, tb_layout *layout)
{
    tb_column column = {.context = *context,
                        .count = PyArray_SIZE(lengths),
                        .lengths = (ptrdiff_t *)PyArray_DATA(lengths),
                        .dtype = {layout->type, layout->item_size, NULL}};

    return tb_lay_out(&column, options, layout);
}

static PyArrayObject *
new_mask(tb_state *state, PyArrayObject *lengths, const tb_layout *layout,
         const tb_dtype *dtype, const unsigned char *real)
{
    npy_intp dims[2] = {PyArray_SIZE(lengths), layout->width};
    PyArray_Descr *descr = tb_dtype_descr(state, dtype);
    PyArrayObject *mask =
        descr == NULL ? NULL
                      : (PyArrayObject *)PyArray_SimpleNewFromDescr(2, dims, descr);

    if (mask != NULL) {
        const ptrdiff_t *each = (const ptrdiff_t *)PyArray_DATA(lengths);
        PyThreadState *thread = tb_release_gil(PyArray_NBYTES(mask));
        tb_mask_rows(each, dims[0], layout, real, PyArray_DATA(mask));
        tb_restore_gil(thread);
    }
    return mask;
}

/* attention_mask(lengths, width, padding_side, pad_to_multiple_of, dtype, additive) */
static PyObject *
wrap_attention_mask(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    static const tb_context context = {.function = "attention_mask",
                                       .argument = "lengths"};
    tb_state *state = tb_state_of(module);
    tb_pad_options options = {0};
    tb_layout layout;
    tb_dtype dtype;
    unsigned char real[TB_MAX_ITEM_SIZE];
    PyArrayObject *lengths = NULL, *mask = NULL;
    ptrdiff_t total;
    int additive;

    if (tb_check_count("attention_mask", nargs, 6) < 0 ||
        tb_read_mask_options(&context, args[1], args[2], args[3], &options) < 0 ||
        tb_read_flag(&context, "additive", args[5], &additive) < 0) {
        return NULL;
    }
    dtype = additive ? (tb_dtype){TB_F32, 4, NULL} : (tb_dtype){TB_BOOL, 1, NULL};
    if (tb_dtype_from_object(state, &context, args[4], &dtype) < 0 ||
        tb_read_mask_values(state, &context, &dtype, additive, real, layout.fill) < 0) {
        goto done;
    }
    layout.type = dtype.type;
    layout.item_size = dtype.item_size;
    lengths = tb_read_lengths(state, &context, args[0]);
    if (lengths != NULL &&
        tb_check_row_lengths(&context, lengths, options.width, &total) == 0 &&
        lay_out_rows(&context, lengths, &options, &layout) == 0) {
        mask = new_mask(state, lengths, &layout, &dtype, real);
    }
done:
    Py_XDECREF((PyObject *)lengths);
    Py_XDECREF((PyObject *)dtype.descr);
    return (PyObject *)mask;
}

PyMethodDef tb_mask_methods[] = {
    {"attention_mask", (PyCFunction)(void (*)(void))wrap_attention_mask, METH_FASTCALL,
     NULL},
    {NULL, NULL, 0, NULL},
};
