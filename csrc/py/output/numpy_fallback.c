/* Conversion from and to TB_NUMPY_ONLY: types that the core moves and only NumPy
 * converts. */
#include "py/output/numpy_fallback.h"

#include <string.h>

/* What is kept of a list, as an array that NumPy can convert: int64, or float64 if it
 * has a float. `bits` is the significand of the later type, for integers among floats.
 */
static PyArrayObject *
array_from_list(tb_state *state, const tb_column *column, ptrdiff_t i, ptrdiff_t skip,
                int ndim, npy_intp *dims, int bits)
{
    tb_list_reader reader = {.state = state,
                             .context = &column->context,
                             .dtype = {TB_I64, 8, NULL},
                             .provisional = 1,
                             .target = &column->dtype,
                             .significand = bits,
                             .row = i,
                             .ndim = ndim,
                             .shape = column->trailing};

    for (int type = NPY_INT64;; type = NPY_FLOAT64) {
        PyArrayObject *array = (PyArrayObject *)PyArray_SimpleNew(ndim + 1, dims, type);
        if (array == NULL) {
            return NULL;
        }
        tb_read read =
            tb_read_list(&reader, (PyObject *)(uintptr_t)column->data[i],
                         column->lengths[i], skip, dims[0], PyArray_DATA(array));
        if (read == TB_READ_DONE) {
            return array;
        }
        Py_DECREF(array);
        if (read == TB_READ_ERROR) {
            return NULL;
        }
        reader.dtype = (tb_dtype){TB_F64, 8, NULL};
        reader.provisional = 0;
    }
}

/* NumPy does not have the type, and float32 holds all its numbers. */
static PyArrayObject *
widen_bfloat16(const char *data, int ndim, npy_intp *dims)
{
    PyArrayObject *wide =
        (PyArrayObject *)PyArray_SimpleNew(ndim + 1, dims, NPY_FLOAT32);
    ptrdiff_t bad;

    if (wide != NULL && tb_cast_elements(TB_BF16, TB_F32, data, PyArray_SIZE(wide),
                                         PyArray_DATA(wide), &bad) != TB_OK) {
        PyErr_BadInternalCall();
        Py_CLEAR(wide);
    }
    return wide;
}

static PyArrayObject *
array_from_row(tb_state *state, const tb_column *column, ptrdiff_t i, ptrdiff_t skip,
               int ndim, npy_intp *dims)
{
    tb_dtype from = tb_row_dtype(column, i);
    ptrdiff_t offset = skip * from.item_size;
    for (int d = 0; d < ndim; d++) {
        offset *= dims[1 + d];
    }
    char *data = (char *)(uintptr_t)column->data[i] + offset;
    if (from.type == TB_BF16) {
        return widen_bfloat16(data, ndim, dims);
    }
    PyArray_Descr *descr = tb_dtype_descr(state, &from);

    return descr == NULL ? NULL
                         : (PyArrayObject *)PyArray_NewFromDescr(
                               &PyArray_Type, descr, ndim + 1, dims, NULL, data,
                               NPY_ARRAY_CARRAY_RO, NULL);
}

int
tb_convert_row(tb_state *state, tb_column *column, tb_span kept, ptrdiff_t i)
{
    int by_float64 = tb_type_is_half(column->dtype.type);
    if (by_float64) {
        /* The whole row: what does not fit is found later, and its position is named.
         */
        kept = (tb_span){0, column->lengths[i], 0};
    }
    npy_intp dims[NPY_MAXDIMS] = {kept.count};
    int ndim = column->ndim < 0 ? 0 : column->ndim;
    int bits = 0;
    PyArrayObject *given = NULL, *converted = NULL;

    memcpy(dims + 1, column->trailing, (size_t)ndim * sizeof *dims);
    if (tb_verify_rows(column) < 0) {
        return -1;
    }
    if (column->types[i] != TB_LIST) {
        given = array_from_row(state, column, i, kept.skip, ndim, dims);
    }
    else if (tb_significand_bits(state, &column->dtype, &bits) == 0) {
        given = array_from_list(state, column, i, kept.skip, ndim, dims, bits);
    }
    if (given != NULL) {
        converted = tb_convert_array(state, &column->context, i, kept.skip, given,
                                     &column->dtype);
        Py_DECREF(given);
    }
    if (converted == NULL || tb_note_owner(column, (PyObject *)converted) < 0) {
        Py_XDECREF(converted);
        return -1;
    }
    column->lists -= column->types[i] == TB_LIST;
    column->types[i] = by_float64 ? TB_F64 : (unsigned char)column->dtype.type;
    column->sources[i] = NULL;
    column->data[i] = PyArray_DATA(converted);
    column->lengths[i] = kept.count;
    Py_DECREF(converted);
    return 0;
}
