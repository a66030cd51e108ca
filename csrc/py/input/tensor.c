#include "py/input/tensor.h"

#include "py/input/dlpack.h"
#include "py/input/tensor_array.h"

#include <string.h>

/* torch's exchange table, if this torch has one, in a version that we know; or NULL. */
static const tb_dlpack_exchange *
find_exchange(PyObject *tensor)
{
    PyObject *capsule = PyObject_GetAttrString(tensor, "__dlpack_c_exchange_api__");
    const tb_dlpack_header *header =
        capsule == NULL ? NULL
                        : (const tb_dlpack_header *)PyCapsule_GetPointer(
                              capsule, TB_DLPACK_CAPSULE);

    while (header != NULL && header->major != TB_DLPACK_MAJOR) {
        header = header->previous;
    }
    const tb_dlpack_exchange *found = (const tb_dlpack_exchange *)header;
    Py_XDECREF(capsule);
    PyErr_Clear(); /* an older torch: it is called through Python then */
    return found == NULL || found->tensor_from_object == NULL ? NULL : found;
}

/* torch.Tensor, torch.nn.Parameter and Tensor.is_neg; 0 if some do not exist yet, while
 * torch is being imported. */
static int
find_types(PyObject *torch, PyObject **tensor, PyObject **nn, PyObject **parameter,
           PyObject **is_neg)
{
    int found = tb_find_attribute(torch, "Tensor", tensor);

    found = found > 0 ? tb_find_attribute(torch, "nn", nn) : found;
    found = found > 0 ? tb_find_attribute(*nn, "Parameter", parameter) : found;
    found = found > 0 ? tb_find_attribute(*tensor, "is_neg", is_neg) : found;
    return found > 0 ? PyType_Check(*tensor) && PyType_Check(*parameter) : found;
}

/* Remembers torch's types once somebody has imported torch. */
static int
find_torch(tb_state *state)
{
    PyObject *name = PyUnicode_FromString("torch"), *torch = NULL, *tensor = NULL;
    PyObject *nn = NULL, *parameter = NULL, *is_neg = NULL;

    if (name == NULL) {
        return -1;
    }
    torch = PyImport_GetModule(name);
    Py_DECREF(name);
    if (torch == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int found = find_types(torch, &tensor, &nn, &parameter, &is_neg);
    if (found > 0) {
        const tb_dlpack_exchange *exchange = find_exchange(tensor);
        TB_BEGIN_CRITICAL_SECTION(torch);
        if (state->tensor == NULL) {
            state->dlpack = exchange;
            state->parameter = (PyTypeObject *)Py_NewRef(parameter);
            state->tensor_is_neg = Py_NewRef(is_neg);
            TB_REMEMBER(state->tensor, (PyTypeObject *)Py_NewRef(tensor));
        }
        TB_END_CRITICAL_SECTION();
    }
    Py_DECREF(torch);
    Py_XDECREF(tensor);
    Py_XDECREF(nn);
    Py_XDECREF(parameter);
    Py_XDECREF(is_neg);
    return found < 0 ? -1 : 0;
}

int
tb_is_tensor(tb_state *state, PyObject *object)
{
    PyTypeObject *known = (PyTypeObject *)TB_RECALL(state->tensor);

    if (known == NULL) {
        const char *dot = strrchr(Py_TYPE(object)->tp_name, '.');
        /* Only a heap type can be a tensor, and other rows of heap types are rare. */
        if (dot == NULL && !(Py_TYPE(object)->tp_flags & Py_TPFLAGS_HEAPTYPE)) {
            return 0;
        }
        if (find_torch(state) < 0) {
            return -1;
        }
        known = (PyTypeObject *)TB_RECALL(state->tensor);
    }
    return known != NULL && PyObject_TypeCheck(object, known);
}

static int
dtype_from_dlpack(tb_dl_dtype given, tb_dtype *out)
{
    static const tb_type ints[] = {TB_I8, TB_I16, TB_I32, TB_I64};
    static const tb_type uints[] = {TB_U8, TB_U16, TB_U32, TB_U64};
    static const tb_type floats[] = {TB_NUMPY_ONLY, TB_F16, TB_F32, TB_F64};
    int log2 = given.bits == 8    ? 0
               : given.bits == 16 ? 1
               : given.bits == 32 ? 2
               : given.bits == 64 ? 3
                                  : -1;

    out->descr = NULL;
    out->item_size = given.bits / 8;
    out->type = TB_NUMPY_ONLY;
    if (log2 < 0 || given.lanes != 1) {
        return 0;
    }
    switch (given.code) {
        case TB_DL_INT:
            out->type = ints[log2];
            break;
        case TB_DL_UINT:
            out->type = uints[log2];
            break;
        case TB_DL_FLOAT:
            out->type = floats[log2];
            break;
        case TB_DL_BFLOAT:
            out->type = log2 == 1 ? TB_BF16 : TB_NUMPY_ONLY;
            break;
        case TB_DL_BOOL:
            out->type = log2 == 0 ? TB_BOOL : TB_NUMPY_ONLY;
            break;
        default:
            break;
    }
    return out->type != TB_NUMPY_ONLY;
}

static int
is_contiguous(const tb_dl_tensor *tensor)
{
    int64_t expected = 1;

    for (int d = tensor->ndim - 1; tensor->strides != NULL && d >= 0; d--) {
        if (tensor->shape[d] == 0) {
            return 1;
        }
        if (tensor->shape[d] != 1 && tensor->strides[d] != expected) {
            return 0;
        }
        expected *= tensor->shape[d];
    }
    return 1;
}

int
tb_view_plain_tensor(tb_state *state, PyObject *object, tb_view *view)
{
    if (state->dlpack == NULL ||
        (Py_TYPE(object) != state->tensor && Py_TYPE(object) != state->parameter)) {
        return 0;
    }
    /* A lazily negated tensor's memory holds the values before the negation. */
    PyObject *is_neg = PyObject_CallOneArg(state->tensor_is_neg, object);
    Py_XDECREF(is_neg);
    if (is_neg != Py_False) {
        PyErr_Clear();
        return 0;
    }
    return tb_view_exchanged(state, object, view);
}

int
tb_view_exchanged(tb_state *state, PyObject *object, tb_view *view)
{
    tb_dl_tensor tensor;

    if (state->dlpack->tensor_from_object(object, &tensor) != 0) {
        PyErr_Clear();
        return 0;
    }
    if (tensor.device.device_type != TB_DL_CPU || tensor.ndim > NPY_MAXDIMS ||
        !dtype_from_dlpack(tensor.dtype, &view->dtype) || !is_contiguous(&tensor)) {
        return 0;
    }
    int64_t count = 1;
    view->owner = NULL;
    view->source = object;
    view->ndim = tensor.ndim;
    for (int d = 0; d < tensor.ndim; d++) {
        view->shape[d] = (npy_intp)tensor.shape[d];
        count *= tensor.shape[d];
    }
    if (tensor.data == NULL) {
        view->data = NULL;
        return count == 0; /* else torch itself is asked */
    }
    view->data = (const char *)tensor.data + tensor.byte_offset;
    return 1;
}

int
tb_check_storage(const tb_context *context, PyObject *tensor, const tb_view *view)
{
    PyObject *storage = PyObject_CallMethod(tensor, "untyped_storage", NULL);
    PyObject *nbytes =
        storage == NULL ? NULL : PyObject_CallMethod(storage, "nbytes", NULL);
    PyObject *begin =
        nbytes == NULL ? NULL : PyObject_CallMethod(storage, "data_ptr", NULL);
    int64_t held = nbytes == NULL ? -1 : PyLong_AsLongLong(nbytes);
    uintptr_t first = begin == NULL ? 0 : (uintptr_t)PyLong_AsVoidPtr(begin);
    int64_t needed = view->dtype.item_size;

    Py_XDECREF(storage);
    Py_XDECREF(nbytes);
    Py_XDECREF(begin);
    if (PyErr_Occurred()) {
        return -1;
    }
    for (int d = 0; d < view->ndim; d++) {
        needed *= view->shape[d];
    }
    if (needed > 0 && (int64_t)((uintptr_t)view->data - first) + needed > held) {
        return tb_raise_at(context, PyExc_ValueError, -1, -1,
                           "found a tensor whose storage holds %lld bytes, fewer than "
                           "its shape needs",
                           (long long)held);
    }
    return 0;
}

/* A view of a copy: nothing but torch's methods, which may be the user's own, tells
 * whether a tensor's memory moved. */
static int
copy_view(PyArrayObject *array, tb_view *view)
{
    view->owner = (PyObject *)PyArray_NewCopy(array, NPY_CORDER);
    view->source = NULL;
    if (view->owner == NULL) {
        Py_CLEAR(view->dtype.descr);
        return -1;
    }
    view->data = PyArray_DATA((PyArrayObject *)view->owner);
    return 1;
}

/* Copies lose what autograd knows. torch.no_grad() says that this is meant. */
static int
refuse_grad(tb_state *state, const tb_context *context, Py_ssize_t row,
            Py_ssize_t column, PyObject *object, const char *what)
{
    PyObject *needs = NULL, *torch = NULL, *enabled = NULL;
    int answer = tb_is_tensor(state, object);

    if (answer <= 0) {
        return answer;
    }
    needs = PyObject_GetAttrString(object, "requires_grad");
    if (needs == Py_True) {
        torch = PyImport_ImportModule("torch");
        enabled =
            torch == NULL ? NULL : PyObject_CallMethod(torch, "is_grad_enabled", NULL);
        answer =
            enabled == NULL ? -1
            : enabled != Py_True
                ? 0
                : tb_raise_at(context, PyExc_TypeError, row, column,
                              "%s a tensor that requires a gradient, but a copy has "
                              "none; pass .detach() of it, or call this under "
                              "torch.no_grad()",
                              what);
    }
    else {
        answer = needs == NULL ? -1 : 0;
    }
    Py_XDECREF(needs);
    Py_XDECREF(torch);
    Py_XDECREF(enabled);
    return answer;
}

int
tb_refuse_grad(tb_state *state, const tb_context *context, Py_ssize_t row,
               Py_ssize_t column, PyObject *object)
{
    return refuse_grad(state, context, row, column, object, "found");
}

int
tb_refuse_grad_of_fill(tb_state *state, const tb_context *context, PyObject *fill)
{
    return refuse_grad(state, context, -1, -1, fill, "padding_value is");
}

int
tb_view_tensor(tb_state *state, const tb_context *context, Py_ssize_t row,
               PyObject *object, tb_view *view)
{
    int answer = tb_is_tensor(state, object);

    view->owner = NULL;
    if (answer <= 0) {
        return answer;
    }
    if (tb_view_plain_tensor(state, object, view)) {
        return tb_type_is_float(view->dtype.type) &&
                       tb_refuse_grad(state, context, row, -1, object) < 0
                   ? -1
                   : 1;
    }
    int is_bfloat16 = 0;
    PyArrayObject *array =
        tb_refuse_grad(state, context, row, -1, object) < 0
            ? NULL
            : tb_tensor_array(context, row, "found", object, &is_bfloat16);
    if (array == NULL) {
        return -1;
    }
    answer = tb_view_array(state, context, row, array, view) < 0 ? -1 : 1;
    if (answer > 0 && view->owner == NULL) {
        answer = copy_view(array, view);
    }
    Py_DECREF((PyObject *)array);
    if (is_bfloat16) {
        view->dtype = (tb_dtype){TB_BF16, 2, NULL};
    }
    return answer;
}
