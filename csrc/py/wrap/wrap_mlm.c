/* Labels of language modelling, for a batch that is padded already. */
#include "py/base/tb_numpy.h"
#include "core/layout/mlm.h"
#include "py/base/state.h"
#include "py/input/settings.h"

/* The elements of a contiguous array of a type, as many as `like` has: 0, or -1 with an
 * exception for any other array. */
static int
check_plain(const tb_context *context, PyObject *object, int type, PyObject *like)
{
    PyArrayObject *array = (PyArrayObject *)object;

    if (PyArray_Check(object) && PyArray_Check(like) && PyArray_TYPE(array) == type &&
        PyArray_ISCARRAY(array) &&
        PyArray_SIZE(array) == PyArray_SIZE((PyArrayObject *)like)) {
        return 0;
    }
    return tb_raise_at(context, PyExc_TypeError, -1, -1,
                       "malformed arrays; expected contiguous ones of one size");
}

static int64_t *
data_of(PyObject *array)
{
    return (int64_t *)PyArray_DATA((PyArrayObject *)array);
}

static int
read_mlm(const tb_context *context, PyObject *const *settings, tb_mlm *mlm)
{
    if (tb_read_real(context, "mlm_probability", settings[0], 0, 1, &mlm->probability) <
            0 ||
        tb_read_real(context, "mask_replace_prob", settings[1], 0, 1, &mlm->replace) <
            0 ||
        tb_read_real(context, "random_replace_prob", settings[2], 0, 1, &mlm->random) <
            0 ||
        tb_read_int(context, "mask_token_id", settings[3], INT64_MIN, INT64_MAX, 0,
                    &mlm->mask_id) < 0 ||
        tb_read_int(context, "vocab_size", settings[4], 0, INT64_MAX, 0,
                    &mlm->vocabulary) < 0 ||
        tb_read_uint64(context, "seed", settings[5], &mlm->seed) < 0 ||
        tb_read_uint64(context, "call", settings[6], &mlm->call) < 0) {
        return -1;
    }
    if (mlm->random > 0 && mlm->vocabulary < 1) {
        return tb_raise_at(context, PyExc_ValueError, -1, -1,
                           "random_replace_prob=%R needs vocab_size=", settings[2]);
    }
    return 0;
}

/* mask_tokens(function, ids, kinds, labels, mlm_probability, mask_replace_prob,
 *             random_replace_prob, mask_token_id, vocab_size, seed, call)
 *
 * int64 ids are changed, int64 labels written; kinds is uint8. */
static PyObject *
wrap_mask_tokens(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    tb_mlm mlm;

    if (tb_check_count("mask_tokens", nargs, 11) < 0 ||
        tb_read_function(args[0], &context) < 0 ||
        check_plain(&context, args[1], NPY_INT64, args[1]) < 0 ||
        check_plain(&context, args[2], NPY_UINT8, args[1]) < 0 ||
        check_plain(&context, args[3], NPY_INT64, args[1]) < 0 ||
        read_mlm(&context, args + 4, &mlm) < 0) {
        return NULL;
    }
    tb_mask_tokens(&mlm, (const unsigned char *)data_of(args[2]),
                   PyArray_SIZE((PyArrayObject *)args[1]), data_of(args[1]),
                   data_of(args[3]));
    Py_RETURN_NONE;
}

/* label_tokens(function, ids, mask, ignored, labels): all int64, `ignored` a token or
 * None. */
static PyObject *
wrap_label_tokens(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    tb_context context = {0};
    int64_t token = 0;

    if (tb_check_count("label_tokens", nargs, 5) < 0 ||
        tb_read_function(args[0], &context) < 0 ||
        check_plain(&context, args[1], NPY_INT64, args[1]) < 0 ||
        check_plain(&context, args[2], NPY_INT64, args[1]) < 0 ||
        check_plain(&context, args[4], NPY_INT64, args[1]) < 0 ||
        tb_read_int(&context, "pad_token_id", args[3], INT64_MIN, INT64_MAX, 0,
                    &token) < 0) {
        return NULL;
    }
    tb_label_tokens(data_of(args[1]), data_of(args[2]),
                    PyArray_SIZE((PyArrayObject *)args[1]),
                    args[3] == Py_None ? NULL : &token, data_of(args[4]));
    Py_RETURN_NONE;
}

PyMethodDef tb_mlm_methods[] = {
    {"mask_tokens", (PyCFunction)(void (*)(void))wrap_mask_tokens, METH_FASTCALL, NULL},
    {"label_tokens", (PyCFunction)(void (*)(void))wrap_label_tokens, METH_FASTCALL,
     NULL},
    {NULL, NULL, 0, NULL},
};
