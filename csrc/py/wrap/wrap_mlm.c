/* Labels of language modelling, over a batch that is ready. */
#include "py/base/tb_numpy.h"
#include "core/layout/mlm.h"
#include "py/base/state.h"

static int
is_plain(PyArrayObject *array, int type, PyArrayObject *like)
{
    return PyArray_TYPE(array) == type && PyArray_ISCARRAY(array) &&
           PyArray_SIZE(array) == PyArray_SIZE(like);
}

/* mask_tokens(ids, kinds, labels, probability, replace, random, mask_id, vocabulary,
 *             seed, call): int64 ids are changed, int64 labels written; kinds is uint8.
 */
static PyObject *
wrap_mask_tokens(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyArrayObject *ids, *kinds, *labels;
    long long mask_id, vocabulary;
    unsigned long long seed, call;
    tb_mlm mlm;

    if (!PyArg_ParseTuple(args, "O!O!O!dddLLKK", &PyArray_Type, &ids, &PyArray_Type,
                          &kinds, &PyArray_Type, &labels, &mlm.probability,
                          &mlm.replace, &mlm.random, &mask_id, &vocabulary, &seed,
                          &call)) {
        return NULL;
    }
    if (!is_plain(ids, NPY_INT64, ids) || !is_plain(kinds, NPY_UINT8, ids) ||
        !is_plain(labels, NPY_INT64, ids) || (mlm.random > 0 && vocabulary < 1)) {
        PyErr_SetString(PyExc_TypeError, "mask_tokens(): malformed arguments");
        return NULL;
    }
    mlm.mask_id = mask_id;
    mlm.vocabulary = vocabulary;
    mlm.seed = seed;
    mlm.call = call;
    tb_mask_tokens(&mlm, (const unsigned char *)PyArray_DATA(kinds), PyArray_SIZE(ids),
                   (int64_t *)PyArray_DATA(ids), (int64_t *)PyArray_DATA(labels));
    Py_RETURN_NONE;
}

/* label_tokens(ids, mask, ignored, labels): all int64, `ignored` a token or None. */
static PyObject *
wrap_label_tokens(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyArrayObject *ids, *mask, *labels;
    PyObject *ignored;
    int64_t token = 0;

    if (!PyArg_ParseTuple(args, "O!O!OO!", &PyArray_Type, &ids, &PyArray_Type, &mask,
                          &ignored, &PyArray_Type, &labels)) {
        return NULL;
    }
    if (ignored != Py_None) {
        token = PyLong_AsLongLong(ignored);
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
    if (!is_plain(ids, NPY_INT64, ids) || !is_plain(mask, NPY_INT64, ids) ||
        !is_plain(labels, NPY_INT64, ids)) {
        PyErr_SetString(PyExc_TypeError, "label_tokens(): malformed arguments");
        return NULL;
    }
    tb_label_tokens((const int64_t *)PyArray_DATA(ids),
                    (const int64_t *)PyArray_DATA(mask), PyArray_SIZE(ids),
                    ignored == Py_None ? NULL : &token,
                    (int64_t *)PyArray_DATA(labels));
    Py_RETURN_NONE;
}

PyMethodDef tb_mlm_methods[] = {
    {"mask_tokens", wrap_mask_tokens, METH_VARARGS, NULL},
    {"label_tokens", wrap_label_tokens, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
