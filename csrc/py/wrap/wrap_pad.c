/* pad(), lengths() and uniform_length_batching(): read, survey the rows, allocate,
 * fill. */
#include "py/base/tb_numpy.h"
#include "py/input/rows.h"
#include "core/layout/mask.h"
#include "py/output/out.h"
#include "py/output/fill.h"
#include "py/output/layout.h"
#include "py/output/settle.h"

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

/* Whether row i, which is read without a copy, lies between two addresses. */
static int
overlaps(const tb_column *column, ptrdiff_t i, const char *begin, const char *end)
{
    const char *data = (const char *)column->data[i];
    ptrdiff_t bytes =
        column->lengths[i] * (column->types[i] == TB_NUMPY_ONLY
                                  ? column->dtype.item_size
                                  : tb_type_size((tb_type)column->types[i]));
    for (int d = 0; d < column->ndim; d++) {
        bytes *= column->trailing[d];
    }
    return bytes > 0 && data < end && data + bytes > begin;
}

/* The index of the first row whose memory overlaps `out`, or -1; -2 with an exception.
 * For rows that are copied first, NumPy knows their own memory. */
static Py_ssize_t
find_overlap(tb_state *state, const tb_column *column, PyArrayObject *out)
{
    const char *begin = PyArray_BYTES(out), *end = begin + PyArray_NBYTES(out);

    for (ptrdiff_t i = 0; i < column->count; i++) {
        if (column->sources[i] != NULL && overlaps(column, i, begin, end)) {
            return i;
        }
    }
    return column->owners == NULL
               ? -1
               : tb_find_sharing(state, &column->context, column->rows, out);
}

static int
check_overlap(tb_state *state, const tb_column *column, PyArrayObject *out)
{
    Py_ssize_t row = find_overlap(state, column, out);

    return row < 0 ? (row == -1 ? 0 : -1)
                   : tb_raise_at(&column->context, PyExc_ValueError, row, -1,
                                 "shares memory with out=; expected separate memory");
}

/* Checks everything about out= before anything is written to it. */
static int
check_out(tb_state *state, const tb_column *column, const tb_layout *layout,
          PyArrayObject *out, int is_bfloat16)
{
    npy_intp dims[NPY_MAXDIMS];
    int ndim = tb_output_shape(column, layout, dims);

    return tb_check_out(state, &column->context, out, is_bfloat16, &column->dtype, ndim,
                        dims) < 0
               ? -1
               : check_overlap(state, column, out);
}

/* Pads surveyed rows into `given` (out=) or a new array. If lists turn out to need a
 * wider type than their first number, all is done again, at most twice. */
static PyArrayObject *
fill_output(tb_state *state, tb_column *column, const tb_pad_options *options,
            PyObject *padding_value, PyObject *given, tb_layout *layout)
{
    PyArrayObject *out = NULL;
    tb_read read = TB_READ_ERROR;
    tb_out held = {&column->context, given, NULL, 0};
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
            out = tb_read_out(state, &column->context, given, &is_bfloat16);
            if (out != NULL && check_out(state, column, layout, out, is_bfloat16) < 0) {
                Py_CLEAR(out);
            }
        }
        if (out == NULL) {
            return NULL;
        }
        if (given != Py_None) {
            held.data = PyArray_DATA(out);
            held.bytes = PyArray_NBYTES(out);
            column->guard = (tb_guard){tb_verify_out, &held};
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

/* pad(function, sequences, width, max_length, padding_value, padding_side,
 *     truncation_side, pad_to_multiple_of, dtype, out, return_mask) */
static PyObject *
wrap_pad(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_state *state = tb_state_of(module);
    tb_context context = {0};
    tb_pad_options options = {0};
    tb_column column;
    tb_layout layout;
    tb_dtype asked = {TB_I64, 8, NULL};
    PyArrayObject *out = NULL;
    PyObject *answer = NULL, *padding_value;
    int return_mask, has_dtype;

    memset(&column, 0, sizeof column);
    if (tb_check_count("pad", nargs, 11) < 0) {
        return NULL;
    }
    if (tb_read_function(args[0], &context) < 0 ||
        tb_read_pad_options(&context, args[2], args[3], args[5], args[6], args[7],
                            &options) < 0 ||
        tb_read_flag(&context, "return_mask", args[10], &return_mask) < 0) {
        return NULL;
    }
    if (tb_refuse_grad_of_fill(state, &context, args[4]) < 0) {
        return NULL;
    }
    padding_value = tb_plain_number(state, args[4]);
    if (padding_value == NULL) {
        return NULL;
    }
    has_dtype = tb_dtype_from_object(state, &context, args[8], &asked);
    if (has_dtype < 0 || tb_survey_rows(state, &context, args[1], &column) < 0 ||
        tb_settle_dtype(state, &column, &options, has_dtype ? &asked : NULL) < 0) {
        goto done;
    }
    out = fill_output(state, &column, &options, padding_value, args[9], &layout);
    if (out == NULL) {
        goto done;
    }
    answer = Py_NewRef(args[9] == Py_None ? (PyObject *)out : args[9]);
    if (return_mask) {
        PyObject *mask = new_mask(&column, &layout);
        Py_SETREF(answer, mask == NULL ? NULL : PyTuple_Pack(2, answer, mask));
        Py_XDECREF(mask);
    }
done:
    Py_DECREF(padding_value);
    Py_XDECREF((PyObject *)out);
    Py_XDECREF((PyObject *)asked.descr);
    tb_clear_column(&column);
    return answer;
}

/* --- uniform-length batching ------------------------------------------------------ */

/* Each batch is as wide as its longest row; nothing is cut. */
static const tb_pad_options keep_all = {.width = -1, .max_length = -1, .multiple = 1};

/* Indices of the rows sorted by length; equal lengths keep their order: int64 [rows].
 */
static PyArrayObject *
order_by_length(const tb_column *column)
{
    PyArrayObject *lengths = tb_new_lengths(column), *order = NULL;

    if (lengths != NULL) {
        order = (PyArrayObject *)PyArray_ArgSort(lengths, 0, NPY_STABLESORT);
        Py_DECREF(lengths);
    }
    return order;
}

/* The rows `order` of a column, as a column that borrows everything from it. The caller
 * frees the block that holds their pointers. */
static void *
select_rows(const tb_column *all, const ptrdiff_t *order, ptrdiff_t count,
            tb_column *some)
{
    *some = *all;
    some->context.rows = order;
    some->whole.item_size = 0; /* its memory is checked in `all` */
    if (tb_allocate_rows(some, count) < 0) {
        return NULL;
    }
    for (ptrdiff_t i = 0; i < count; i++) {
        some->data[i] = all->data[order[i]];
        some->lengths[i] = all->lengths[order[i]];
        some->types[i] = all->types[order[i]];
    }
    some->lists = 0;
    for (ptrdiff_t i = 0; i < count; i++) {
        some->lists += some->types[i] == TB_LIST;
    }
    return (void *)(uintptr_t)some->data;
}

/* Makes the list of arrays. WIDEN: the type in `column` is wider now. */
static tb_read
fill_batches(tb_state *state, tb_column *column, PyArrayObject *order,
             Py_ssize_t batch_size, PyObject *padding_value, PyObject *batches)
{
    const ptrdiff_t *places = (const ptrdiff_t *)PyArray_DATA(order);
    tb_column some;
    tb_layout layout;

    for (ptrdiff_t begin = 0; begin < column->count; begin += batch_size) {
        ptrdiff_t left = column->count - begin;
        tb_read read = TB_READ_ERROR;
        PyArrayObject *out = NULL;
        void *block = select_rows(column, places + begin,
                                  left < batch_size ? left : batch_size, &some);
        if (block != NULL && tb_lay_out(&some, &keep_all, &layout) == 0 &&
            tb_read_fill(state, &column->context, padding_value, &some.dtype,
                         layout.fill) == 0) {
            out = allocate_output(state, &some, &layout);
        }
        /* The rows that were chosen hold nothing themselves. */
        if (out != NULL && tb_verify_rows(column) == 0) {
            read = tb_fill_rows(state, &some, &layout, PyArray_DATA(out));
            column->dtype = some.dtype;
        }
        if (read == TB_READ_DONE && PyList_Append(batches, (PyObject *)out) < 0) {
            read = TB_READ_ERROR;
        }
        Py_XDECREF((PyObject *)out);
        PyMem_Free(block);
        if (read != TB_READ_DONE) {
            return read;
        }
        if (left <= batch_size) {
            break; /* begin + batch_size could overflow */
        }
    }
    return TB_READ_DONE;
}

/* uniform_length_batching(sequences, batch_size, padding_value) -> (batches, order) */
static PyObject *
wrap_uniform_length_batching(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    static const tb_context context = {.function = "uniform_length_batching"};
    tb_state *state = tb_state_of(module);
    tb_column column;
    PyArrayObject *order = NULL;
    PyObject *batches = NULL, *answer = NULL, *padding_value;
    Py_ssize_t batch_size;
    tb_read read = TB_READ_ERROR;

    if (tb_check_count(context.function, nargs, 3) < 0 ||
        tb_read_size(&context, "batch_size", args[1], 1, TB_REQUIRED, &batch_size) <
            0 ||
        tb_refuse_grad_of_fill(state, &context, args[2]) < 0) {
        return NULL;
    }
    padding_value = tb_plain_number(state, args[2]);
    if (padding_value == NULL) {
        return NULL;
    }
    if (tb_survey_rows(state, &context, args[0], &column) == 0 &&
        tb_settle_dtype(state, &column, &keep_all, NULL) == 0) {
        order = order_by_length(&column);
    }
    do {
        Py_XSETREF(batches, order == NULL ? NULL : PyList_New(0));
        if (batches == NULL) {
            break;
        }
        read = fill_batches(state, &column, order, batch_size, padding_value, batches);
    } while (read == TB_READ_WIDEN);
    if (read == TB_READ_DONE) {
        answer = PyTuple_Pack(2, batches, (PyObject *)order);
    }
    Py_DECREF(padding_value);
    Py_XDECREF(batches);
    Py_XDECREF((PyObject *)order);
    tb_clear_column(&column);
    return answer;
}

/* lengths(function, sequences, key=None) */
static PyObject *
wrap_lengths(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_column column;
    PyArrayObject *lengths = NULL;

    if (nargs != 3 && tb_check_count("lengths", nargs, 2) < 0) {
        return NULL;
    }
    context.key = nargs == 3 ? args[2] : NULL;
    if (tb_read_function(args[0], &context) < 0) {
        return NULL;
    }
    if (tb_survey_rows(tb_state_of(module), &context, args[1], &column) == 0) {
        lengths = tb_new_lengths(&column);
    }
    tb_clear_column(&column);
    return (PyObject *)lengths;
}

PyMethodDef tb_pad_methods[] = {
    {"pad", (PyCFunction)(void (*)(void))wrap_pad, METH_FASTCALL, NULL},
    {"lengths", (PyCFunction)(void (*)(void))wrap_lengths, METH_FASTCALL, NULL},
    {"uniform_length_batching",
     (PyCFunction)(void (*)(void))wrap_uniform_length_batching, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
