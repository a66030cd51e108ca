#include "py/input/tensor_array.h"

#include "core/base/size.h"

#include <string.h>

/* What messages say first: "found ..." of a tensor to read, "out= is ..." of one to
 * write. */
typedef struct {
    const tb_context *context;
    Py_ssize_t row;
    const char *verb;
} tensor_use;

/* Refuses a tensor: "found a ...", or "out= is a ...". */
static int
refuse_tensor(const tensor_use *use, PyObject *exception, const char *format,
              PyObject *detail)
{
    PyObject *reason = PyUnicode_FromFormat(format, detail);

    if (reason != NULL) {
        tb_raise_at(use->context, exception, use->row, -1, "%s %U", use->verb, reason);
        Py_DECREF(reason);
    }
    return -1;
}

/* Raises what torch raised, and says where. For example, a tensor inside vmap() has no
 * memory to show, and NumPy does not have all types; `dtype` may be NULL. */
static int
refuse_as_torch(const tensor_use *use, PyObject *dtype)
{
    if (!PyErr_ExceptionMatches(PyExc_RuntimeError) &&
        !PyErr_ExceptionMatches(PyExc_TypeError)) {
        return -1;
    }
    PyObject *exception = tb_save_exception();
    PyObject *kind = dtype == NULL ? PyUnicode_FromString("")
                                   : PyUnicode_FromFormat(" of dtype %S", dtype);
    PyObject *reason =
        kind == NULL ? NULL
                     : PyUnicode_FromFormat("a tensor%U that cannot be read: %.200S",
                                            kind, exception);
    if (reason != NULL) {
        (void)refuse_tensor(use, PyExc_TypeError, "%U", reason);
        tb_set_cause(exception);
    }
    Py_XDECREF(kind);
    Py_XDECREF(reason);
    Py_XDECREF(exception);
    return -1;
}

/* An attribute of the tensor, or of something of it; NULL with an exception. */
static PyObject *
get_attribute(const tensor_use *use, PyObject *object, const char *name)
{
    PyObject *value = PyObject_GetAttrString(object, name);

    if (value == NULL) {
        (void)refuse_as_torch(use, NULL);
    }
    return value;
}

/* The result of a method without arguments; NULL with an exception. */
static PyObject *
call_method(const tensor_use *use, PyObject *object, const char *name)
{
    PyObject *value = PyObject_CallMethod(object, name, NULL);

    if (value == NULL) {
        (void)refuse_as_torch(use, NULL);
    }
    return value;
}

/* 1 if an attribute, or the result of a method, is True; 0, or -1. */
static int
is_true(PyObject *value)
{
    Py_XDECREF(value);
    return value == NULL ? -1 : value == Py_True;
}

/* The integer of an attribute or of a method's result, which is taken over; -1 with an
 * exception. */
static int64_t
as_int64(PyObject *value)
{
    int64_t number = value == NULL ? -1 : PyLong_AsLongLong(value);
    Py_XDECREF(value);
    return number;
}

/* Refuses a tensor that, by what torch says, is not dense or not of real numbers. */
static int
check_layout(const tensor_use *use, PyObject *torch, PyObject *tensor)
{
    int is_nested = is_true(get_attribute(use, tensor, "is_nested"));
    int is_quantized =
        is_nested < 0 ? -1 : is_true(get_attribute(use, tensor, "is_quantized"));
    PyObject *layout = is_quantized < 0 ? NULL : get_attribute(use, tensor, "layout");
    PyObject *strided = layout == NULL ? NULL : get_attribute(use, torch, "strided");
    int answer = -1;

    if (strided != NULL) {
        const char *format =
            Py_TYPE(layout) != Py_TYPE(strided)
                ? "a tensor whose __torch_function__ gives %R as its layout"
            : is_nested    ? "a nested tensor (%S)"
            : is_quantized ? "a quantized tensor (%S)"
                           : "a sparse tensor (%S)";
        if (is_nested || is_quantized || layout != strided) {
            PyObject *kind = PyUnicode_FromFormat(format, layout);
            if (kind != NULL) {
                (void)refuse_tensor(use, PyExc_TypeError, "%U; expected a dense one",
                                    kind);
                Py_DECREF(kind);
            }
        }
        else {
            answer = 0;
        }
    }
    Py_XDECREF(layout);
    Py_XDECREF(strided);
    return answer;
}

static int
check_device(const tensor_use *use, PyObject *tensor)
{
    PyObject *device = get_attribute(use, tensor, "device");
    PyObject *type = device == NULL ? NULL : get_attribute(use, device, "type");
    int answer = -1;

    if (type != NULL) {
        answer =
            PyUnicode_Check(type) && PyUnicode_CompareWithASCIIString(type, "cpu") == 0
                ? 0
                : refuse_tensor(use, PyExc_TypeError,
                                "a tensor on device '%S'; expected the CPU: "
                                ".cpu() copies it",
                                device);
    }
    Py_XDECREF(device);
    Py_XDECREF(type);
    return answer;
}

/* Bytes from the storage's beginning to the end of the last element; -1 with an
 * exception. */
static int64_t
find_extent(const tensor_use *use, PyObject *tensor)
{
    PyObject *shape = get_attribute(use, tensor, "shape");
    PyObject *strides = shape == NULL ? NULL : call_method(use, tensor, "stride");
    int64_t last =
        strides == NULL ? -1 : as_int64(call_method(use, tensor, "storage_offset"));
    int64_t size =
        PyErr_Occurred() ? -1 : as_int64(call_method(use, tensor, "element_size"));

    if (!PyErr_Occurred() && (!PyTuple_Check(shape) || !PyTuple_Check(strides) ||
                              PyTuple_GET_SIZE(shape) != PyTuple_GET_SIZE(strides))) {
        PyErr_SetString(PyExc_TypeError, "its shape and strides are not tuples");
        (void)refuse_as_torch(use, NULL);
    }
    if (!PyErr_Occurred() && (size < 1 || last < 0)) {
        PyErr_SetString(PyExc_TypeError, "its element size or offset is out of range");
        (void)refuse_as_torch(use, NULL);
    }
    for (Py_ssize_t d = 0; !PyErr_Occurred() && d < PyTuple_GET_SIZE(shape); d++) {
        int64_t length = PyLong_AsLongLong(PyTuple_GET_ITEM(shape, d));
        int64_t stride = PyLong_AsLongLong(PyTuple_GET_ITEM(strides, d));
        if (length == 0) {
            last = -1;
            break;
        }
        ptrdiff_t step = 0;
        if (stride < 0 || tb_multiply_sizes(length - 1, stride, &step) != TB_OK ||
            step > INT64_MAX / size - last - 1) {
            last = INT64_MAX / size - 1; /* more than any storage holds */
            break;
        }
        last += step;
    }
    Py_XDECREF(shape);
    Py_XDECREF(strides);
    return PyErr_Occurred()           ? -1
           : last >= INT64_MAX / size ? INT64_MAX
                                      : (last + 1) * size;
}

/* Refuses a tensor without memory: torch has it raise when it is asked where the memory
 * is. A subclass says so later. */
static int
check_memory(const tensor_use *use, PyObject *torch, PyObject *tensor,
             PyObject *storage)
{
    PyObject *plain = get_attribute(use, torch, "Tensor");
    int is_plain = plain == (PyObject *)Py_TYPE(tensor);
    PyObject *begin = is_plain ? call_method(use, storage, "data_ptr") : NULL;

    Py_XDECREF(plain);
    Py_XDECREF(begin);
    return PyErr_Occurred() ? -1 : 0;
}

/* Refuses a storage that was resized to less than its tensors need. */
static int
check_extent(const tensor_use *use, PyObject *torch, PyObject *tensor)
{
    int64_t needed = find_extent(use, tensor);
    PyObject *storage = needed < 0 || PyErr_Occurred()
                            ? NULL
                            : call_method(use, tensor, "untyped_storage");
    PyObject *held = storage == NULL ? NULL : call_method(use, storage, "nbytes");
    int answer = -1;

    if (held != NULL && needed > 0 && check_memory(use, torch, tensor, storage) < 0) {
        Py_CLEAR(held);
    }
    if (held != NULL && PyLong_Check(held)) {
        int64_t bytes = PyLong_AsLongLong(held);
        answer =
            PyErr_Occurred() ? -1
            : needed <= bytes
                ? 0
                : refuse_tensor(use, PyExc_TypeError,
                                "a tensor whose storage holds %S bytes, fewer than "
                                "its shape needs",
                                held);
    }
    Py_XDECREF(storage);
    Py_XDECREF(held);
    return answer;
}

/* What is written must reach the tensor's own memory, and autograd must not expect a
 * gradient of it. */
static int
check_written(const tensor_use *use, PyObject *torch, PyObject *tensor)
{
    int is_neg = is_true(call_method(use, tensor, "is_neg"));

    if (is_neg != 0) {
        return is_neg < 0 ? -1
                          : refuse_tensor(use, PyExc_TypeError,
                                          "a negated view; expected memory of its own: "
                                          ".resolve_neg() copies it",
                                          NULL);
    }
    int needs_grad = is_true(get_attribute(use, tensor, "requires_grad"));
    if (needs_grad > 0) {
        needs_grad = is_true(call_method(use, torch, "is_grad_enabled"));
    }
    if (needs_grad != 0) {
        return needs_grad < 0
                   ? -1
                   : refuse_tensor(
                         use, PyExc_TypeError,
                         "a tensor that requires a gradient, but autograd would not "
                         "record what is written; pass out.detach()",
                         NULL);
    }
    return 0;
}

/* The array over a tensor's memory: bfloat16, which NumPy does not have, as int16. */
static PyArrayObject *
export_tensor(const tensor_use *use, PyObject *torch, PyObject *tensor,
              int *is_bfloat16)
{
    PyObject *detached = call_method(use, tensor, "detach"), *array = NULL;
    PyObject *plain =
        detached == NULL ? NULL : PyObject_CallMethod(detached, "resolve_neg", NULL);
    PyObject *dtype = plain == NULL ? NULL : get_attribute(use, plain, "dtype");
    PyObject *bfloat16 = dtype == NULL ? NULL : get_attribute(use, torch, "bfloat16");

    *is_bfloat16 = bfloat16 != NULL && dtype == bfloat16;
    if (*is_bfloat16) {
        PyObject *int16 = get_attribute(use, torch, "int16");
        Py_SETREF(plain, int16 == NULL
                             ? NULL
                             : PyObject_CallMethod(plain, "view", "O", int16));
        Py_XDECREF(int16);
    }
    if (bfloat16 != NULL && plain != NULL) {
        array = PyObject_CallMethod(plain, "numpy", NULL);
        if (array == NULL) {
            (void)refuse_as_torch(use, dtype);
        }
    }
    if (array != NULL && !PyArray_Check(array)) {
        Py_CLEAR(array);
        (void)refuse_tensor(use, PyExc_TypeError,
                            "a tensor whose numpy() gives no array", NULL);
    }
    Py_XDECREF(detached);
    Py_XDECREF(plain);
    Py_XDECREF(dtype);
    Py_XDECREF(bfloat16);
    return (PyArrayObject *)array;
}

PyArrayObject *
tb_tensor_array(const tb_context *context, Py_ssize_t row, const char *verb,
                PyObject *tensor, int *is_bfloat16)
{
    tensor_use use = {context, row, verb};
    int is_written = strcmp(verb, "found") != 0; /* "out= is" */
    PyObject *torch = PyImport_ImportModule("torch");
    PyArrayObject *array = NULL;

    *is_bfloat16 = 0;
    if (torch != NULL && check_layout(&use, torch, tensor) == 0 &&
        check_device(&use, tensor) == 0 && check_extent(&use, torch, tensor) == 0 &&
        (!is_written || check_written(&use, torch, tensor) == 0)) {
        array = export_tensor(&use, torch, tensor, is_bfloat16);
    }
    Py_XDECREF(torch);
    return array;
}

PyObject *
tb_new_tensor(PyObject *like, const char *type)
{
    PyObject *torch = PyImport_ImportModule("torch");
    PyObject *empty = torch == NULL ? NULL : PyObject_GetAttrString(torch, "empty");
    PyObject *dtype = empty == NULL ? NULL : PyObject_GetAttrString(torch, type);
    PyObject *shape = dtype == NULL ? NULL : PyObject_GetAttrString(like, "shape");
    PyObject *args = shape == NULL ? NULL : PyTuple_Pack(1, shape);
    PyObject *options =
        args == NULL ? NULL : Py_BuildValue("{sOss}", "dtype", dtype, "device", "cpu");
    PyObject *tensor = options == NULL ? NULL : PyObject_Call(empty, args, options);

    Py_XDECREF(torch);
    Py_XDECREF(empty);
    Py_XDECREF(dtype);
    Py_XDECREF(shape);
    Py_XDECREF(args);
    Py_XDECREF(options);
    return tensor;
}
