/* pad() and lengths(): parse, survey the rows, allocate, fill, return. */
#include "tb_numpy.h"
#include "args.h"
#include "mask.h"

static PyArrayObject *
allocate_output(tb_state *state, const tb_column *column, const tb_layout *layout)
{
    npy_intp dims[NPY_MAXDIMS];
    int ndim = tb_output_shape(column, layout, dims);
    PyArray_Descr *descr = tb_dtype_descr(state, &column->dtype);

    return descr == NULL
               ? NULL
               : (PyArrayObject *)PyArray_SimpleNewFromDescr(ndim, dims, descr);
}

static int
refuse_out(const tb_context *context, const char *reason)
{
    return tb_raise_at(context, PyExc_ValueError, -1, -1, "out= %s", reason);
}

static int
overlaps(const tb_column *column, ptrdiff_t i, const char *begin, const char *end)
{
    ptrdiff_t bytes = column->lengths[i];

    if (column->types[i] == TB_LIST) {
        return 0;
    }
    for (int d = 0; d < column->ndim; d++) {
        bytes *= column->trailing[d];
    }
    bytes *= column->types[i] == TB_OTHER ? (ptrdiff_t)PyDataType_ELSIZE(column->other)
                                          : tb_type_size((tb_type)column->types[i]);
    const char *data = (const char *)column->data[i];
    return bytes > 0 && data < end && data + bytes > begin;
}

/* Everything about out= that can be wrong, before anything is written to it. */
static int
check_out(tb_state *state, const tb_column *column, const tb_layout *layout,
          PyArrayObject *out, int is_bfloat16)
{
    const tb_context *context = &column->context;
    npy_intp dims[NPY_MAXDIMS];
    int ndim = tb_output_shape(column, layout, dims);
    tb_dtype dtype;

    int refused = tb_dtype_from_descr(state, PyArray_DESCR(out), &dtype);
    if (refused < 0) {
        return -1;
    }
    if (is_bfloat16) {
        dtype = (tb_dtype){TB_BF16, 2, NULL};
    }
    int same = refused == 0 && tb_dtype_equal(&dtype, &column->dtype);
    Py_XDECREF(refused == 0 ? dtype.descr : NULL);
    if (!same) {
        return tb_raise_at(
            context, PyExc_ValueError, -1, -1, "out= has dtype %S, expected %s",
            (PyObject *)PyArray_DESCR(out), tb_dtype_name(&column->dtype));
    }
    if (PyArray_NDIM(out) != ndim ||
        !PyArray_CompareLists(PyArray_DIMS(out), dims, ndim)) {
        PyObject *expected = PyArray_IntTupleFromIntp(ndim, dims);
        PyObject *found =
            PyArray_IntTupleFromIntp(PyArray_NDIM(out), PyArray_DIMS(out));
        if (expected != NULL && found != NULL) {
            tb_raise_at(context, PyExc_ValueError, -1, -1,
                        "out= has shape %S, expected %S", found, expected);
        }
        Py_XDECREF(expected);
        Py_XDECREF(found);
        return -1;
    }
    if (!PyArray_ISWRITEABLE(out)) {
        return refuse_out(context, "is read-only");
    }
    if (!PyArray_ISCARRAY(out)) {
        return refuse_out(context, "is not C-contiguous, aligned and native");
    }
    const char *begin = PyArray_BYTES(out), *end = begin + PyArray_NBYTES(out);
    for (ptrdiff_t i = 0; i < column->count; i++) {
        if (overlaps(column, i, begin, end)) {
            return tb_raise_at(context, PyExc_ValueError, i, -1,
                               "shares memory with out=");
        }
    }
    return 0;
}

/* The array that out= is, a new reference: itself, or a view of a CPU tensor's memory.
 */
static PyArrayObject *
read_out(tb_state *state, const tb_context *context, PyObject *out, int *is_bfloat16)
{
    *is_bfloat16 = 0;
    if (PyArray_Check(out)) {
        return (PyArrayObject *)Py_NewRef(out);
    }
    int is_tensor = tb_is_tensor(state, out);
    if (is_tensor > 0) {
        return tb_tensor_array(context, -1, out, is_bfloat16);
    }
    if (is_tensor == 0) {
        tb_raise_at(context, PyExc_TypeError, -1, -1,
                    "out= is a %s, expected a NumPy array or a CPU tensor",
                    Py_TYPE(out)->tp_name);
    }
    return NULL;
}

/* Surveyed rows into `given` (out=) or a new array. Lists may turn out to need a wider
 * type than their first number did: then all of it is done again, at most twice. */
static PyArrayObject *
fill_output(tb_state *state, tb_column *column, const tb_pad_options *options,
            PyObject *padding_value, PyObject *given, tb_layout *layout)
{
    PyArrayObject *out = NULL;
    tb_read read = TB_READ_ERROR;
    int is_bfloat16;

    do {
        Py_CLEAR(out);
        if (tb_lay_out(column, options, layout) < 0 ||
            tb_read_fill(state, &column->context, padding_value, &column->dtype,
                         layout->fill) < 0) {
            return NULL;
        }
        if (given == Py_None) {
            out = allocate_output(state, column, layout);
        }
        else {
            out = read_out(state, &column->context, given, &is_bfloat16);
            if (out != NULL && check_out(state, column, layout, out, is_bfloat16) < 0) {
                Py_CLEAR(out);
            }
        }
        if (out == NULL) {
            return NULL;
        }
        read = tb_fill_rows(state, column, layout, PyArray_DATA(out));
    } while (read == TB_READ_WIDEN);
    if (read == TB_READ_ERROR) {
        Py_CLEAR(out);
    }
    return out;
}

static PyObject *
new_mask(const tb_column *column, const tb_layout *padded)
{
    static const unsigned char real = 1;
    npy_intp dims[2] = {column->count, padded->width};
    PyArrayObject *mask = (PyArrayObject *)PyArray_SimpleNew(2, dims, NPY_BOOL);
    tb_layout layout = *padded;

    if (mask != NULL) {
        layout.trailing = 1;
        layout.item_size = 1;
        layout.fill[0] = 0;
        tb_mask_rows(column->lengths, column->count, &layout, &real,
                     PyArray_DATA(mask));
    }
    return (PyObject *)mask;
}

/* pad(sequences, width, max_length, padding_value, padding_side, truncation_side,
 *     pad_to_multiple_of, dtype, out, return_mask) */
static PyObject *
wrap_pad(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_state *state = tb_state_of(module);
    tb_context context = {"pad", NULL, 0};
    tb_pad_options options;
    tb_column column;
    tb_layout layout;
    tb_dtype asked = {TB_I64, 8, NULL};
    PyArrayObject *out = NULL;
    PyObject *answer = NULL;
    int return_mask, has_dtype;

    memset(&column, 0, sizeof column);
    if (tb_check_count("pad", nargs, 10) < 0 ||
        tb_read_pad_options(state, &context, args[1], args[2], args[4], args[5],
                            args[6], &options) < 0 ||
        tb_read_flag(args[9], &return_mask) < 0) {
        return NULL;
    }
    has_dtype = tb_dtype_from_object(state, &context, args[7], &asked);
    if (has_dtype < 0 || tb_survey_rows(state, &context, args[0], &column) < 0 ||
        tb_settle_dtype(state, &column, has_dtype ? &asked : NULL) < 0) {
        goto done;
    }
    out = fill_output(state, &column, &options, args[3], args[8], &layout);
    if (out == NULL) {
        goto done;
    }
    answer = args[8] == Py_None ? Py_NewRef((PyObject *)out) : Py_NewRef(args[8]);
    if (return_mask) {
        PyObject *mask = new_mask(&column, &layout);
        Py_SETREF(answer, mask == NULL ? NULL : PyTuple_Pack(2, answer, mask));
        Py_XDECREF(mask);
    }
done:
    Py_XDECREF((PyObject *)out);
    Py_XDECREF((PyObject *)asked.descr);
    tb_clear_column(&column);
    return answer;
}

/* lengths(sequences) */
static PyObject *
wrap_lengths(PyObject *module, PyObject *sequences)
{
    tb_context context = {"lengths", NULL, 0};
    tb_column column;
    PyArrayObject *lengths = NULL;

    if (tb_survey_rows(tb_state_of(module), &context, sequences, &column) == 0) {
        npy_intp count = column.count;
        lengths = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_INT64);
    }
    if (lengths != NULL && column.count > 0) {
        memcpy(PyArray_DATA(lengths), column.lengths,
               (size_t)column.count * sizeof *column.lengths);
    }
    tb_clear_column(&column);
    return (PyObject *)lengths;
}

PyMethodDef tb_pad_methods[] = {
    {"pad", (PyCFunction)(void (*)(void))wrap_pad, METH_FASTCALL, NULL},
    {"lengths", wrap_lengths, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
