#include "py/input/arrow_source.h"

#include <errno.h>
#include <string.h>

/* Called once for each chunk, by whichever thread drops the last view of it. */
static void
release_chunk(PyObject *capsule)
{
    tb_arrow_array *array =
        (tb_arrow_array *)PyCapsule_GetPointer(capsule, "tightbatch_chunk");

    if (array->release != NULL) {
        /* A producer in Python must not see an exception that is set already. */
        PyObject *exception = tb_save_exception();
        array->release(array);
        tb_restore_exception(exception);
    }
    PyMem_Free(array);
}

const tb_arrow_array *
tb_arrow_in_capsule(PyObject *capsule)
{
    return (const tb_arrow_array *)PyCapsule_GetPointer(capsule, "tightbatch_chunk");
}

/* A capsule around an array that is still empty; it will call the array's release. */
static PyObject *
new_chunk(tb_arrow_array **array)
{
    *array = PyMem_Calloc(1, sizeof **array);
    if (*array == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *capsule = PyCapsule_New(*array, "tightbatch_chunk", release_chunk);
    if (capsule == NULL) {
        PyMem_Free(*array);
    }
    return capsule;
}

static int
add_chunk(tb_arrow_source *source, PyObject *capsule)
{
    int answer = capsule == NULL ? -1 : PyList_Append(source->chunks, capsule);
    Py_XDECREF(capsule);
    return answer;
}

static int
refuse_released(const tb_context *context, PyObject *object)
{
    return tb_raise_at(context, PyExc_ValueError, -1, -1,
                       "the Arrow data of type %s was already released or taken; "
                       "expected data that nobody has read before",
                       Py_TYPE(object)->tp_name);
}

static void *
open_capsule(const tb_context *context, PyObject *object, PyObject *capsule,
             const char *name)
{
    if (capsule == NULL) {
        return NULL;
    }
    if (!PyCapsule_IsValid(capsule, name)) {
        tb_raise_at(
            context, PyExc_TypeError, -1, -1,
            "type %s returned %R by the Arrow protocol, expected a capsule '%s'",
            Py_TYPE(object)->tp_name, capsule, name);
        return NULL;
    }
    return PyCapsule_GetPointer(capsule, name);
}

/* What an errno of a producer means to Python. */
static PyObject *
exception_of(int code)
{
    return code == ENOMEM   ? PyExc_MemoryError
           : code == EINVAL ? PyExc_ValueError
                            : PyExc_OSError;
}

/* Raises with the producer's own message. The producer is called without the GIL,
 * because its threads may need it; the message is read before the next call. */
static int
refuse_stream(const tb_context *context, tb_arrow_stream *stream, int code)
{
    const char *text = NULL;

    if (stream->get_last_error != NULL) {
        Py_BEGIN_ALLOW_THREADS
        text = stream->get_last_error(stream);
        Py_END_ALLOW_THREADS
    }
    PyErr_Clear(); /* a producer in Python may have set one */
    return tb_raise_at(context, exception_of(code), -1, -1,
                       "the Arrow producer failed with code %d: %s", code,
                       text == NULL ? strerror(code) : text);
}

static int
drain_stream(const tb_context *context, tb_arrow_stream *stream,
             tb_arrow_source *source)
{
    int code;

    Py_BEGIN_ALLOW_THREADS
    code = stream->get_schema(stream, &source->own);
    Py_END_ALLOW_THREADS
    if (code != 0) {
        memset(&source->own, 0, sizeof source->own);
        return refuse_stream(context, stream, code);
    }
    source->schema = &source->own;
    for (;;) {
        tb_arrow_array *array;
        PyObject *capsule = new_chunk(&array);
        if (capsule == NULL) {
            return -1;
        }
        Py_BEGIN_ALLOW_THREADS
        code = stream->get_next(stream, array);
        Py_END_ALLOW_THREADS
        if (code != 0) {
            array->release = NULL; /* nothing was given */
            Py_DECREF(capsule);
            return refuse_stream(context, stream, code);
        }
        if (array->release == NULL) { /* the end */
            Py_DECREF(capsule);
            return PyErr_Occurred() ? -1 : 0;
        }
        if (array->length == 0) { /* holds nothing; released here and now */
            Py_DECREF(capsule);
        }
        else if (add_chunk(source, capsule) < 0) {
            return -1;
        }
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
}

static int
take_stream(const tb_context *context, PyObject *object, PyObject *method,
            tb_arrow_source *source)
{
    PyObject *capsule = PyObject_CallNoArgs(method);
    tb_arrow_stream *stream =
        (tb_arrow_stream *)open_capsule(context, object, capsule, "arrow_array_stream");
    int answer = -1;

    if (stream != NULL && stream->release == NULL) {
        refuse_released(context, object);
    }
    else if (stream != NULL) {
        /* Moved out of the capsule: whatever happens, it is released here, once. */
        tb_arrow_stream own = *stream;
        stream->release = NULL;
        answer = drain_stream(context, &own, source);
        PyObject *exception = tb_save_exception();
        if (own.release != NULL) {
            Py_BEGIN_ALLOW_THREADS
            own.release(&own);
            Py_END_ALLOW_THREADS
        }
        tb_restore_exception(exception);
    }
    Py_XDECREF(capsule);
    return answer;
}

static int
take_array(const tb_context *context, PyObject *object, PyObject *method,
           tb_arrow_source *source)
{
    PyObject *pair = PyObject_CallNoArgs(method), *capsule;
    tb_arrow_array *array, *own;

    source->capsules = pair;
    if (pair == NULL) {
        return -1;
    }
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        return tb_raise_at(
            context, PyExc_TypeError, -1, -1,
            "type %s returned %R from __arrow_c_array__, expected two capsules",
            Py_TYPE(object)->tp_name, pair);
    }
    source->schema = (const tb_arrow_schema *)open_capsule(
        context, object, PyTuple_GET_ITEM(pair, 0), "arrow_schema");
    array = (tb_arrow_array *)open_capsule(context, object, PyTuple_GET_ITEM(pair, 1),
                                           "arrow_array");
    if (source->schema == NULL || array == NULL) {
        return -1;
    }
    if (array->release == NULL || source->schema->release == NULL) {
        return refuse_released(context, object);
    }
    capsule = new_chunk(&own);
    if (capsule != NULL) {
        *own = *array;
        array->release = NULL; /* moved, as the interface has it */
    }
    return add_chunk(source, capsule);
}

int
tb_is_arrow(PyObject *object)
{
    PyObject *method = NULL;
    int found = PyType_Check(object)
                    ? 0
                    : tb_find_attribute(object, "__arrow_c_stream__", &method);

    if (found == 0 && !PyType_Check(object)) {
        found = tb_find_attribute(object, "__arrow_c_array__", &method);
    }
    Py_XDECREF(method);
    return found;
}

int
tb_take_arrow(const tb_context *context, PyObject *object, tb_arrow_source *source)
{
    PyObject *method = NULL;
    int answer = -1;

    memset(source, 0, sizeof *source);
    source->chunks = PyList_New(0);
    if (source->chunks == NULL) {
        return -1;
    }
    int found = tb_find_attribute(object, "__arrow_c_stream__", &method);
    if (found > 0) {
        answer = take_stream(context, object, method, source);
    }
    else if (found == 0) {
        found = tb_find_attribute(object, "__arrow_c_array__", &method);
        if (found > 0) {
            answer = take_array(context, object, method, source);
        }
        else if (found == 0) {
            tb_raise_at(context, PyExc_TypeError, -1, -1,
                        "found type %s, expected an Arrow array, table or stream "
                        "(something with __arrow_c_array__ or __arrow_c_stream__)",
                        Py_TYPE(object)->tp_name);
        }
    }
    Py_XDECREF(method);
    return answer;
}

void
tb_drop_arrow(tb_arrow_source *source)
{
    PyObject *exception = tb_save_exception();

    if (source->own.release != NULL) {
        source->own.release(&source->own);
    }
    Py_CLEAR(source->capsules);
    Py_CLEAR(source->chunks);
    tb_restore_exception(exception);
}
