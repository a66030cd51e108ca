#include "py/output/out.h"

static int
refuse_out(const tb_context *context, const char *reason)
{
    return tb_raise_at(context, PyExc_ValueError, -1, -1, "out= %s", reason);
}

PyArrayObject *
tb_read_out(tb_state *state, const tb_context *context, PyObject *out, int *is_bfloat16)
{
    *is_bfloat16 = 0;
    if (PyArray_Check(out)) {
        int masked = tb_is_masked((PyArrayObject *)out);
        if (masked > 0) {
            tb_raise_at(context, PyExc_TypeError, -1, -1,
                        "out= is a masked array, expected one without a mask");
        }
        return masked == 0 ? (PyArrayObject *)Py_NewRef(out) : NULL;
    }
    int is_tensor = tb_is_tensor(state, out);
    if (is_tensor > 0) {
        return tb_tensor_array(context, -1, "out= is", out, is_bfloat16);
    }
    if (is_tensor == 0) {
        tb_raise_at(context, PyExc_TypeError, -1, -1,
                    "out= is a %s, expected a NumPy array or a CPU tensor",
                    Py_TYPE(out)->tp_name);
    }
    return NULL;
}

static int
check_type(tb_state *state, const tb_context *context, PyArrayObject *out,
           int is_bfloat16, const tb_dtype *expected)
{
    tb_dtype dtype;

    int refused = tb_dtype_from_descr(state, PyArray_DESCR(out), &dtype);
    if (refused < 0) {
        return -1;
    }
    if (is_bfloat16) {
        dtype = (tb_dtype){TB_BF16, 2, NULL};
    }
    int same = refused == 0 && tb_dtype_equal(&dtype, expected);
    Py_XDECREF(refused == 0 ? dtype.descr : NULL);
    return same ? 0
                : tb_raise_at(context, PyExc_ValueError, -1, -1,
                              "out= has dtype %S, expected %s",
                              (PyObject *)PyArray_DESCR(out), tb_dtype_name(expected));
}

static int
check_shape(const tb_context *context, PyArrayObject *out, int ndim,
            const npy_intp *dims)
{
    if (PyArray_NDIM(out) == ndim &&
        PyArray_CompareLists(PyArray_DIMS(out), dims, ndim)) {
        return 0;
    }
    PyObject *expected = PyArray_IntTupleFromIntp(ndim, dims);
    PyObject *found = PyArray_IntTupleFromIntp(PyArray_NDIM(out), PyArray_DIMS(out));
    if (expected != NULL && found != NULL) {
        tb_raise_at(context, PyExc_ValueError, -1, -1, "out= has shape %S, expected %S",
                    found, expected);
    }
    Py_XDECREF(expected);
    Py_XDECREF(found);
    return -1;
}

int
tb_check_out(tb_state *state, const tb_context *context, PyArrayObject *out,
             int is_bfloat16, const tb_dtype *dtype, int ndim, const npy_intp *dims)
{
    if (check_type(state, context, out, is_bfloat16, dtype) < 0 ||
        check_shape(context, out, ndim, dims) < 0) {
        return -1;
    }
    if (!PyArray_ISWRITEABLE(out)) {
        return refuse_out(context, "is read-only");
    }
    if (!PyArray_ISCARRAY(out)) {
        return refuse_out(context, "is not C-contiguous, aligned and native");
    }
    return 0;
}

Py_ssize_t
tb_find_sharing(PyObject *rows, PyArrayObject *out)
{
    PyObject *module = PyImport_ImportModule("tightbatch._numpy_fallback"),
             *answer = NULL;
    Py_ssize_t row = -2;

    if (module != NULL) {
        answer = PyObject_CallMethod(module, "first_sharing", "OO", rows, out);
        Py_DECREF(module);
    }
    if (answer != NULL) {
        row = PyLong_AsSsize_t(answer);
        Py_DECREF(answer);
    }
    return PyErr_Occurred() ? -2 : row;
}
