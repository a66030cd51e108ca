/* For tightbatch.StreamBatcher: which rows of a stream share a batch. A stream is a
 * capsule; its rows are known by their numbers. */
#include "py/base/tb_numpy.h"
#include "py/input/plan_settings.h"
#include "core/base/memory.h"
#include "core/base/random.h"
#include "core/plan/streaming.h"

#include <string.h>

static const char NAME[] = "tightbatch._core.stream";

typedef struct {
    tb_streaming core;
    tb_plan_settings settings;
    tb_context context;
    uint64_t share;  /* of rows that are dealt out in turn, and the number of shares: */
    uint64_t shares; /* number n is row n * shares + share of the source */
    PyObject *function; /* what context.function points into */
    PyObject *boundaries;
} streaming;

static void
free_stream(PyObject *capsule)
{
    streaming *stream = (streaming *)PyCapsule_GetPointer(capsule, NAME);

    if (stream != NULL) {
        tb_free_streaming(&stream->core);
        Py_XDECREF(stream->function);
        Py_XDECREF(stream->boundaries);
        PyMem_Free(stream);
    }
}

static streaming *
read_stream(const char *function, PyObject *const *args, Py_ssize_t nargs,
            Py_ssize_t expected)
{
    return tb_check_count(function, nargs, expected) < 0
               ? NULL
               : (streaming *)PyCapsule_GetPointer(args[0], NAME);
}

/* The number of a row in the source. */
static Py_ssize_t
find_row(const streaming *stream, uint64_t number)
{
    return (Py_ssize_t)(number * stream->shares + stream->share);
}

static void
raise_status(const streaming *stream, tb_status status, const tb_error *error)
{
    tb_error own = *error;

    own.row = find_row(stream, (uint64_t)error->row);
    tb_raise_plan_lengths(&stream->context, status, &stream->settings, &own);
}

/* start_stream(function, settings, size, most_weight or None, epoch, stream number, share,
 * shares, fingerprint) -> stream. Other epochs, and other numbers, draw differently. */
static PyObject *
wrap_start_stream(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int64_t size, most_weight;
    uint64_t epoch, place, share, shares, fingerprint;
    tb_context context = {0};

    if (tb_check_count("start_stream", nargs, 9) < 0 ||
        tb_read_function(args[0], &context) < 0 ||
        tb_read_int(&context, "buffer", args[2], 1, INT32_MAX - 1, TB_REQUIRED, &size) <
            0 ||
        tb_read_int(&context, "weight", args[3], 1, INT64_MAX - 1, INT64_MAX,
                    &most_weight) < 0 ||
        tb_read_uint64(&context, "epoch", args[4], &epoch) < 0 ||
        tb_read_uint64(&context, "stream", args[5], &place) < 0 ||
        tb_read_uint64(&context, "share", args[6], &share) < 0 ||
        tb_read_uint64(&context, "shares", args[7], &shares) < 0 ||
        tb_read_uint64(&context, "fingerprint", args[8], &fingerprint) < 0) {
        return NULL;
    }
    streaming *stream = (streaming *)PyMem_Calloc(1, sizeof *stream);
    if (stream == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *capsule = PyCapsule_New(stream, NAME, free_stream);
    if (capsule == NULL) {
        PyMem_Free(stream);
        return NULL;
    }
    if (tb_read_plan_settings(&context, args[1], &stream->settings) < 0) {
        Py_DECREF(capsule);
        return NULL;
    }
    stream->function = Py_NewRef(args[0]);
    stream->boundaries = Py_XNewRef(PyDict_GetItemString(args[1], "boundaries"));
    stream->context = context;
    stream->share = share;
    stream->shares = shares;
    tb_batch_settings *core = &stream->settings.core;
    core->seed = tb_mix_bits(tb_mix_bits(core->seed + epoch) + place);
    tb_status status = tb_start_streaming(&stream->core, core, size, most_weight);
    if (status != TB_OK) {
        Py_CLEAR(capsule);
        return PyErr_NoMemory();
    }
    stream->core.fingerprint = fingerprint;
    return capsule;
}

static int
raise_length(const streaming *stream, uint64_t number, PyObject *found,
             const char *expected)
{
    PyObject *shown = tb_describe(found);

    if (shown != NULL) {
        tb_raise_at(&stream->context, PyExc_TypeError, find_row(stream, number), -1,
                    "length %U; expected %s", shown, expected);
        Py_DECREF(shown);
    }
    return -1;
}

static int
is_no_row(PyObject *item)
{
    return item == Py_None || PyUnicode_Check(item) || PyBytes_Check(item) ||
           PyDict_Check(item) || PyBool_Check(item) || PyFloat_Check(item) ||
           PyComplex_Check(item);
}

/* The length of what stands for a row: an integer, or a row that has a length. */
static int
read_length(const streaming *stream, uint64_t number, PyObject *item, int64_t *length)
{
    static const char expected[] = "an int, or a row of tokens";
    Py_ssize_t size = -1;

    if (tb_read_compact_int(item, length)) {
        return 0;
    }
    if (PyList_CheckExact(item)) {
        *length = PyList_GET_SIZE(item);
        return 0;
    }
    if (is_no_row(item)) {
        return raise_length(stream, number, item, expected);
    }
    if (!PyLong_Check(item)) {
        size = PyObject_Size(item);
        if (size >= 0) {
            *length = size;
            return 0;
        }
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
            return -1;
        }
        PyErr_Clear();
    }
    PyObject *index = PyIndex_Check(item) ? PyNumber_Index(item) : NULL;
    if (index == NULL) {
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError)) {
            return -1;
        }
        PyErr_Clear();
        return raise_length(stream, number, item, expected);
    }
    int overflow;
    *length = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow != 0) {
        PyObject *shown = tb_show(item);
        if (shown != NULL) {
            tb_raise_at(&stream->context, PyExc_OverflowError, find_row(stream, number),
                        -1, "length %U is outside int64", shown);
            Py_DECREF(shown);
        }
        return -1;
    }
    return 0;
}

/* (stream, number, item, weight or None): what is known of a row. The weight is the
 * row's length for None. */
static int
read_row(const streaming *stream, PyObject *const *args, uint64_t *number,
         int64_t *length, int64_t *weight)
{
    int64_t small;

    if (!tb_read_compact_int(args[1], &small)) {
        small = PyLong_AsLongLong(args[1]);
        if (small == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    *number = (uint64_t)small;
    if (read_length(stream, *number, args[2], length) < 0) {
        return -1;
    }
    if (args[3] == Py_None) {
        *weight = *length;
        return 0;
    }
    return tb_read_int(&stream->context, "weight", args[3], 0, INT64_MAX, TB_REQUIRED,
                       weight);
}

/* add_to_stream(stream, number, item, weight) -> whether a batch is ready; None where the
 * row was left out */
static PyObject *
wrap_add_to_stream(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    streaming *stream = read_stream("add_to_stream", args, nargs, 4);
    uint64_t number;
    int64_t length, weight;
    int is_kept;
    tb_error error;

    if (stream == NULL || read_row(stream, args, &number, &length, &weight) < 0) {
        return NULL;
    }
    tb_status status =
        tb_stream_row(&stream->core, number, length, weight, &is_kept, &error);
    if (status != TB_OK) {
        raise_status(stream, status, &error);
        return NULL;
    }
    if (!is_kept) {
        Py_RETURN_NONE;
    }
    return PyBool_FromLong(tb_is_batch_ready(&stream->core));
}

/* Numbers that lie `stride` bytes apart. */
static PyObject *
list_of_numbers(const uint64_t *numbers, size_t stride, ptrdiff_t count)
{
    PyObject *list = PyList_New(count);

    for (ptrdiff_t i = 0; i < count && list != NULL; i++) {
        const char *at = (const char *)numbers + (size_t)i * stride;
        PyObject *number = PyLong_FromUnsignedLongLong(*(const uint64_t *)at);
        if (number == NULL) {
            Py_CLEAR(list);
        }
        else {
            PyList_SET_ITEM(list, i, number);
        }
    }
    return list;
}

/* take_from_stream(stream, is_end) -> the numbers of the rows of a batch, or None */
static PyObject *
wrap_take_from_stream(PyObject *Py_UNUSED(module), PyObject *const *args,
                      Py_ssize_t nargs)
{
    streaming *stream = read_stream("take_from_stream", args, nargs, 2);

    if (stream == NULL) {
        return NULL;
    }
    if (tb_take_batch(&stream->core, args[1] == Py_True) != TB_OK) {
        return PyErr_NoMemory();
    }
    if (stream->core.batch_count == 0) {
        Py_RETURN_NONE;
    }
    return list_of_numbers(stream->core.batch, sizeof *stream->core.batch,
                           stream->core.batch_count);
}

/* stream_counts(stream) -> rows dropped, rows truncated, fingerprint of the lengths */
static PyObject *
wrap_stream_counts(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    streaming *stream = read_stream("stream_counts", args, nargs, 1);

    return stream == NULL ? NULL
                          : Py_BuildValue("LLK", (long long)stream->core.dropped,
                                          (long long)stream->core.truncated,
                                          (unsigned long long)stream->core.fingerprint);
}

/* save_stream(stream) -> numbers of the rows that wait, those of the pack that was begun,
 * whether its rows are chosen, next number, batches, fingerprint, dropped, truncated */
static PyObject *
wrap_save_stream(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    streaming *stream = read_stream("save_stream", args, nargs, 1);

    if (stream == NULL) {
        return NULL;
    }
    tb_streaming *core = &stream->core;
    int is_begun = core->kind == TB_STREAM_PACKS && !core->is_taken;
    PyObject *pack = list_of_numbers(core->batch, sizeof *core->batch,
                                     is_begun ? (ptrdiff_t)core->pool.row_count : 0);
    PyObject *waiting = core->count > 0
                            ? list_of_numbers(&core->waiting->number,
                                              sizeof *core->waiting, core->count)
                            : PyList_New(0);
    if (pack == NULL || waiting == NULL) {
        Py_XDECREF(pack);
        Py_XDECREF(waiting);
        return NULL;
    }
    return Py_BuildValue(
        "NNNKKKLL", waiting, pack, PyBool_FromLong(is_begun && core->pool.is_chosen),
        (unsigned long long)core->next, (unsigned long long)core->batches,
        (unsigned long long)core->fingerprint, (long long)core->dropped,
        (long long)core->truncated);
}

/* restore_to_stream(stream, number, item, weight, place) -> None; the place is one of
 * tb_row_place */
static PyObject *
wrap_restore_to_stream(PyObject *Py_UNUSED(module), PyObject *const *args,
                       Py_ssize_t nargs)
{
    streaming *stream = read_stream("restore_to_stream", args, nargs, 5);
    uint64_t number;
    int64_t length, weight;
    tb_error error;

    if (stream == NULL || read_row(stream, args, &number, &length, &weight) < 0) {
        return NULL;
    }
    tb_row_place place = (tb_row_place)PyLong_AsLong(args[4]);
    tb_status status =
        tb_restore_row(&stream->core, number, length, weight, place, &error);
    if (status != TB_OK) {
        raise_status(stream, status, &error);
        return NULL;
    }
    Py_RETURN_NONE;
}

/* The numbers of a list of ints, for free(). */
static uint64_t *
read_numbers(const tb_context *context, PyObject *list, ptrdiff_t *count)
{
    PyObject *own = PySequence_Tuple(list); /* reading a number may run Python code */
    Py_ssize_t n = own == NULL ? 0 : PyTuple_GET_SIZE(own);
    uint64_t *numbers =
        own == NULL ? NULL : (uint64_t *)tb_allocate_array(n, sizeof *numbers);

    for (Py_ssize_t i = 0; i < n && numbers != NULL; i++) {
        if (tb_read_uint64(context, "pack", PyTuple_GET_ITEM(own, i), &numbers[i]) <
            0) {
            free(numbers);
            numbers = NULL;
        }
    }
    Py_XDECREF(own);
    *count = n;
    return numbers;
}

/* continue_stream(stream, pack, is_chosen, next, batches, fingerprint, dropped,
 * truncated) -> whether the rows that were restored are those of the stream that was
 * saved */
static PyObject *
wrap_continue_stream(PyObject *Py_UNUSED(module), PyObject *const *args,
                     Py_ssize_t nargs)
{
    streaming *stream = read_stream("continue_stream", args, nargs, 8);
    uint64_t fingerprint;
    ptrdiff_t count = 0;

    if (stream == NULL) {
        return NULL;
    }
    tb_streaming *core = &stream->core;
    const tb_context *context = &stream->context;
    if (tb_read_uint64(context, "next", args[3], &core->next) < 0 ||
        tb_read_uint64(context, "batches", args[4], &core->batches) < 0 ||
        tb_read_uint64(context, "fingerprint", args[5], &fingerprint) < 0 ||
        tb_read_int(context, "dropped", args[6], 0, INT64_MAX, TB_REQUIRED,
                    &core->dropped) < 0 ||
        tb_read_int(context, "truncated", args[7], 0, INT64_MAX, TB_REQUIRED,
                    &core->truncated) < 0) {
        return NULL;
    }
    uint64_t *numbers = read_numbers(context, args[1], &count);
    if (numbers == NULL) {
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    tb_status status = tb_restore_pack(core, numbers, count, args[2] == Py_True);
    free(numbers);
    return PyBool_FromLong(status == TB_OK && core->fingerprint == fingerprint);
}

/* Each function of a stream is called in a critical section of the stream. Code of the
 * user's, which may suspend it, runs while a row is read: before the stream is changed. */
static PyObject *
call_alone(PyObject *(*method)(PyObject *, PyObject *const *, Py_ssize_t),
           PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *answer;

    TB_BEGIN_CRITICAL_SECTION(nargs > 0 ? args[0] : module);
    answer = method(module, args, nargs);
    TB_END_CRITICAL_SECTION();
    return answer;
}

#define ALONE(name)                                                        \
    static PyObject *alone_##name(PyObject *module, PyObject *const *args, \
                                  Py_ssize_t nargs)                        \
    {                                                                      \
        return call_alone(wrap_##name, module, args, nargs);               \
    }
ALONE(add_to_stream)
ALONE(take_from_stream)
ALONE(stream_counts)
ALONE(save_stream)
ALONE(restore_to_stream)
ALONE(continue_stream)
#define alone_start_stream wrap_start_stream /* nobody else has it yet */

#define METHOD(name) \
    {#name, (PyCFunction)(void (*)(void))alone_##name, METH_FASTCALL, NULL}

PyMethodDef tb_streaming_methods[] = {
    METHOD(start_stream),    METHOD(add_to_stream), METHOD(take_from_stream),
    METHOD(stream_counts),   METHOD(save_stream),   METHOD(restore_to_stream),
    METHOD(continue_stream), {NULL, NULL, 0, NULL},
};
