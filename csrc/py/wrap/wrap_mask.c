/* attention_mask() and position_ids(): from lengths alone. */
#include "py/base/tb_numpy.h"
#include "py/input/args.h"
#include "core/layout/mask.h"

/* Lengths, checked against width=, and the layout of one row for each. */
static PyArrayObject *
read_layout(tb_state *state, const tb_context *context, PyObject *const *args,
            tb_layout *layout, ptrdiff_t *total)
{
    tb_pad_options options = {0};
    tb_error error;
    ptrdiff_t longest;

    if (tb_read_pad_options(state, context, args[1], Py_None, args[2], state->str_right,
                            args[3], &options) < 0) {
        return NULL;
    }
    PyArrayObject *lengths = tb_read_lengths(state, context, args[0]);
    if (lengths == NULL) {
        return NULL;
    }
    tb_column column = {.context = *context,
                        .count = PyArray_SIZE(lengths),
                        .lengths = (ptrdiff_t *)PyArray_DATA(lengths),
                        .dtype = {layout->type, layout->item_size, NULL}};
    Py_ssize_t limit = options.width < 0 ? PTRDIFF_MAX : options.width;
    tb_status status =
        tb_check_lengths(column.lengths, column.count, limit, &longest, total, &error);
    if (status != TB_OK) {
        tb_raise_length(context, status, &error, limit);
        Py_CLEAR(lengths);
    }
    else if (tb_lay_out(&column, &options, layout) < 0) {
        Py_CLEAR(lengths);
    }
    return lengths;
}

/* attention_mask(lengths, width, padding_side, pad_to_multiple_of, dtype, additive) */
static PyObject *
wrap_attention_mask(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_state *state = tb_state_of(module);
    tb_context context = {"attention_mask", NULL, NULL, 0};
    tb_layout layout;
    tb_dtype dtype;
    unsigned char real[TB_MAX_ITEM_SIZE];
    PyArrayObject *lengths = NULL, *mask = NULL;
    PyArray_Descr *descr = NULL;
    ptrdiff_t total;
    int additive;

    if (tb_check_count("attention_mask", nargs, 6) < 0 ||
        tb_read_flag(args[5], &additive) < 0) {
        return NULL;
    }
    dtype = additive ? (tb_dtype){TB_F32, 4, NULL} : (tb_dtype){TB_BOOL, 1, NULL};
    if (tb_dtype_from_object(state, &context, args[4], &dtype) < 0 ||
        tb_read_mask_values(state, &context, &dtype, additive, real, layout.fill) < 0) {
        goto done;
    }
    layout.type = dtype.type;
    layout.item_size = dtype.item_size;
    lengths = read_layout(state, &context, args, &layout, &total);
    descr = lengths == NULL ? NULL : tb_dtype_descr(state, &dtype);
    if (descr != NULL) {
        npy_intp dims[2] = {PyArray_SIZE(lengths), layout.width};
        mask = (PyArrayObject *)PyArray_SimpleNewFromDescr(2, dims, descr);
    }
    if (mask != NULL) {
        tb_mask_rows((const ptrdiff_t *)PyArray_DATA(lengths), PyArray_SIZE(lengths),
                     &layout, real, PyArray_DATA(mask));
    }
done:
    Py_XDECREF((PyObject *)lengths);
    Py_XDECREF((PyObject *)dtype.descr);
    return (PyObject *)mask;
}

/* position_ids(lengths, width, padding_side, pad_to_multiple_of, flat) */
static PyObject *
wrap_position_ids(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_state *state = tb_state_of(module);
    tb_context context = {"position_ids", NULL, NULL, 0};
    tb_layout layout = {.type = TB_I64, .item_size = 8};
    PyArrayObject *lengths = NULL, *positions = NULL;
    ptrdiff_t total;
    int flat;

    if (tb_check_count("position_ids", nargs, 5) < 0 ||
        tb_read_flag(args[4], &flat) < 0) {
        return NULL;
    }
    lengths = read_layout(state, &context, args, &layout, &total);
    if (lengths == NULL) {
        return NULL;
    }
    ptrdiff_t count = PyArray_SIZE(lengths);
    const ptrdiff_t *each = (const ptrdiff_t *)PyArray_DATA(lengths);
    npy_intp dims[2] = {flat ? total : count, layout.width};
    positions = (PyArrayObject *)PyArray_SimpleNew(flat ? 1 : 2, dims, NPY_INT64);
    layout.flat = flat;
    if (positions != NULL) {
        tb_position_rows(each, count, &layout, (int64_t *)PyArray_DATA(positions));
    }
    Py_DECREF(lengths);
    return (PyObject *)positions;
}

/* as_lengths(lengths, function): for Python callers that plan; their name is given. */
static PyObject *
wrap_as_lengths(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {NULL, NULL, NULL, 0};
    tb_error error;
    ptrdiff_t longest, total;

    if (tb_check_count("as_lengths", nargs, 2) < 0) {
        return NULL;
    }
    context.function = PyUnicode_AsUTF8(args[1]);
    PyArrayObject *lengths =
        context.function == NULL
            ? NULL
            : tb_read_lengths(tb_state_of(module), &context, args[0]);
    if (lengths == NULL) {
        return NULL;
    }
    tb_status status =
        tb_check_lengths((const ptrdiff_t *)PyArray_DATA(lengths),
                         PyArray_SIZE(lengths), PTRDIFF_MAX, &longest, &total, &error);
    if (status != TB_OK) {
        tb_raise_length(&context, status, &error, PTRDIFF_MAX);
        Py_CLEAR(lengths);
    }
    return (PyObject *)lengths;
}

PyMethodDef tb_mask_methods[] = {
    {"attention_mask", (PyCFunction)(void (*)(void))wrap_attention_mask, METH_FASTCALL,
     NULL},
    {"position_ids", (PyCFunction)(void (*)(void))wrap_position_ids, METH_FASTCALL,
     NULL},
    {"as_lengths", (PyCFunction)(void (*)(void))wrap_as_lengths, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
