#include "py/input/array.h"

/* A masked array has data under its mask too, and padding would use it. numpy.ma's
 * class is recognised by its attributes, so that it need not be imported. */
int
tb_is_masked(PyArrayObject *array)
{
    PyObject *type = (PyObject *)Py_TYPE(array), *mask = NULL, *compressed = NULL;
    int answer;

    if (PyArray_CheckExact(array)) {
        return 0;
    }
    answer = tb_find_attribute(type, "mask", &mask);
    if (answer > 0) {
        answer = tb_find_attribute(type, "compressed", &compressed);
    }
    Py_XDECREF(mask);
    Py_XDECREF(compressed);
    return answer;
}

/* The array C-contiguous, aligned, in this machine's order of bytes. The type is named:
 * NumPy before 2.3 leaks one if it is left to find it, by NPY_ARRAY_NOTSWAPPED. */
static PyArrayObject *
native_copy(PyArrayObject *array)
{
    PyArray_Descr *own = PyArray_DESCR(array);
    PyArray_Descr *native = PyArray_ISNOTSWAPPED(array)
                                ? (PyArray_Descr *)Py_NewRef((PyObject *)own)
                                : PyArray_DescrNewByteorder(own, NPY_NATIVE);

    return native == NULL
               ? NULL
               : (PyArrayObject *)PyArray_FromArray(array, native, NPY_ARRAY_CARRAY_RO);
}

int
tb_view_array(tb_state *state, const tb_context *context, Py_ssize_t row,
              PyArrayObject *array, tb_view *view)
{
    view->owner = NULL;
    int masked = tb_is_masked(array);
    if (masked < 0) {
        return -1;
    }
    if (masked) {
        return tb_raise_at(context, PyExc_TypeError, row, -1, TB_MASKED);
    }
    int refused = tb_dtype_from_descr(state, PyArray_DESCR(array), &view->dtype);
    if (refused != 0) {
        const char *hint =
            PyArray_ISCOMPLEX(array)
                ? "real numbers; torch.view_as_real() makes pairs of them"
                : "numbers";
        return refused < 0 ? -1
                           : tb_raise_at(context, PyExc_TypeError, row, -1,
                                         "found an array of dtype %S, expected %s",
                                         (PyObject *)PyArray_DESCR(array), hint);
    }
    view->source = (PyObject *)array;
    if (!PyArray_ISCARRAY_RO(array)) {
        array = native_copy(array);
        if (array == NULL) {
            Py_CLEAR(view->dtype.descr);
            return -1;
        }
        view->owner = (PyObject *)array;
        view->source = NULL;
    }
    view->data = PyArray_DATA(array);
    view->ndim = PyArray_NDIM(array);
    for (int d = 0; d < view->ndim; d++) {
        view->shape[d] = PyArray_DIM(array, d);
    }
    return 0;
}

int
tb_view_buffer(tb_state *state, const tb_context *context, Py_ssize_t row,
               PyObject *object, tb_view *view)
{
    PyObject *source = NULL, *method = NULL;

    if (PyObject_CheckBuffer(object)) {
        /* Through a memoryview: NumPy reads bytes themselves as one string. */
        source = PyMemoryView_FromObject(object);
        if (source == NULL && PyErr_ExceptionMatches(PyExc_BufferError)) {
            PyErr_Clear(); /* JAX has no buffer of its bfloat16, but an array */
        }
    }
    if (source == NULL && !PyErr_Occurred()) {
        int found = tb_find_attribute(object, "__array__", &method);
        Py_XDECREF(method);
        if (found <= 0) {
            return found;
        }
        source = Py_NewRef(object);
    }
    PyArrayObject *array =
        source == NULL ? NULL : (PyArrayObject *)PyArray_FROM_O(source);
    Py_XDECREF(source);
    if (array == NULL) {
        return -1;
    }
    int answer = tb_view_array(state, context, row, array, view) < 0 ? -1 : 1;
    if (answer == 1 && view->owner == NULL) {
        view->owner = (PyObject *)array;
        return 1;
    }
    Py_DECREF(array);
    return answer;
}
