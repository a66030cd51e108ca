/* For tightbatch.StreamBatcher: which rows of a stream share a batch. A stream is a
 * capsule; its rows are known by their numbers. */
#include "py/base/tb_numpy.h"
#include "py/input/plan_settings.h"
#include "py/input/streamed_row.h"
#include "core/base/memory.h"
#include "core/base/random.h"
#include "core/plan/streaming_take.h"

#include <string.h>

static const char NAME[] = "tightbatch._core.stream";

typedef struct {
    tb_streaming core;
    tb_plan_settings settings;
    tb_row_reader reader;
    PyObject *function; /* what reader.context.function points into */
    PyObject *boundaries;
    PyObject *limits; /* whose names the settings have */
} streaming;

static void
free_stream(PyObject *capsule)
{
    streaming *stream = (streaming *)PyCapsule_GetPointer(capsule, NAME);

    if (stream != NULL) {
        tb_free_streaming(&stream->core);
        Py_XDECREF(stream->function);
        Py_XDECREF(stream->boundaries);
        Py_XDECREF(stream->limits);
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

/* (source or None, target or None): how long both lengths of a row count at most. */
static int
read_sides(const tb_context *context, PyObject *given, int64_t *sides)
{
    for (int side = 0; side < 2; side++) {
        if (tb_read_int(context, "max_length", PyTuple_GetItem(given, side), 1,
                        INT64_MAX - 1, INT64_MAX, &sides[side]) < 0) {
            return -1;
        }
    }
    return 0;
}

/* start_stream(function, settings, size, most_weight or None, epoch, stream number, share,
 * shares, fingerprint, sides) -> stream. Other epochs, and other numbers, draw
 * differently. sides: the longest of each where rows have two lengths; or whether rows
 * that are tuples are refused. */
static PyObject *
wrap_start_stream(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int64_t size, most_weight;
    uint64_t epoch, place, share, shares, fingerprint;
    int64_t sides[2];
    tb_context context = {0};

    if (tb_check_count("start_stream", nargs, 10) < 0 ||
        tb_read_function(args[0], &context) < 0 ||
        tb_read_int(&context, "buffer", args[2], 1, INT32_MAX - 1, TB_REQUIRED, &size) <
            0 ||
        tb_read_int(&context, "weight", args[3], 1, INT64_MAX - 1, INT64_MAX,
                    &most_weight) < 0 ||
        tb_read_uint64(&context, "epoch", args[4], &epoch) < 0 ||
        tb_read_uint64(&context, "stream", args[5], &place) < 0 ||
        tb_read_uint64(&context, "share", args[6], &share) < 0 ||
        tb_read_uint64(&context, "shares", args[7], &shares) < 0 ||
        tb_read_uint64(&context, "fingerprint", args[8], &fingerprint) < 0 ||
        (PyTuple_Check(args[9]) && read_sides(&context, args[9], sides) < 0)) {
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
    stream->limits = Py_XNewRef(PyDict_GetItemString(args[1], "limits"));
    stream->reader = (tb_row_reader){
        .context = context,
        .settings = &stream->settings,
        .share = share,
        .shares = shares,
        .has_sides = PyTuple_Check(args[9]),
        .refuses_tuples = args[9] == Py_True,
    };
    if (stream->reader.has_sides) {
        memcpy(stream->reader.sides, sides, sizeof sides);
    }
    tb_batch_settings *core = &stream->settings.core;
    core->seed = tb_mix_bits(tb_mix_bits(core->seed + epoch) + place);
    tb_status status =
        tb_start_streaming(&stream->core, core, stream->reader.has_sides ? sides : NULL,
                           size, most_weight);
    if (status != TB_OK) {
        Py_CLEAR(capsule);
        return PyErr_NoMemory();
    }
    stream->core.fingerprint = fingerprint;
    return capsule;
}

/* add_to_stream(stream, number, item, weight, costs) -> whether a batch is ready; None where the
 * row was left out */
static PyObject *
wrap_add_to_stream(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    streaming *stream = read_stream("add_to_stream", args, nargs, 5);
    tb_row_input input;
    int is_kept;
    tb_error error;

    if (stream == NULL || tb_read_streamed_row(&stream->reader, args + 1, &input) < 0) {
        return NULL;
    }
    tb_status status = tb_stream_row(&stream->core, &input.row, &is_kept, &error);
    if (status != TB_OK) {
        tb_raise_streamed_row(&stream->reader, status, &input.row, &error);
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
    ptrdiff_t count;
    int is_chosen;
    const uint64_t *begun = tb_find_begun_pack(core, &count, &is_chosen);
    PyObject *pack = list_of_numbers(begun, sizeof *begun, count);
    PyObject *waiting = core->count > 0
                            ? list_of_numbers(&core->waiting->number,
                                              sizeof *core->waiting, core->count)
                            : PyList_New(0);
    if (pack == NULL || waiting == NULL) {
        Py_XDECREF(pack);
        Py_XDECREF(waiting);
        return NULL;
    }
    return Py_BuildValue("NNNKKKLL", waiting, pack, PyBool_FromLong(is_chosen),
                         (unsigned long long)core->next,
                         (unsigned long long)core->batches,
                         (unsigned long long)core->fingerprint,
                         (long long)core->dropped, (long long)core->truncated);
}

/* restore_to_stream(stream, number, item, weight, costs, place) -> None; the place is one
 * of tb_row_place */
static PyObject *
wrap_restore_to_stream(PyObject *Py_UNUSED(module), PyObject *const *args,
                       Py_ssize_t nargs)
{
    streaming *stream = read_stream("restore_to_stream", args, nargs, 6);
    tb_row_input input;
    tb_error error;

    if (stream == NULL || tb_read_streamed_row(&stream->reader, args + 1, &input) < 0) {
        return NULL;
    }
    tb_row_place place = (tb_row_place)PyLong_AsLong(args[5]);
    tb_status status = tb_restore_row(&stream->core, &input.row, place, &error);
    if (status != TB_OK) {
        tb_raise_streamed_row(&stream->reader, status, &input.row, &error);
        return NULL;
    }
    Py_RETURN_NONE;
}

/* The numbers of a list of ints, for free(). */
static uint64_t *
read_numbers(const tb_context *context, PyObject *list, ptrdiff_t *count)
{
    Py_ssize_t n = PyList_Size(list);
    uint64_t *numbers =
        n < 0 ? NULL : (uint64_t *)tb_allocate_array(n, sizeof *numbers);

    for (Py_ssize_t i = 0; i < n && numbers != NULL; i++) {
        if (tb_read_uint64(context, "pack", PyList_GET_ITEM(list, i), &numbers[i]) <
            0) {
            free(numbers);
            numbers = NULL;
        }
    }
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
    const tb_context *context = &stream->reader.context;
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

#define METHOD(name) \
    {#name, (PyCFunction)(void (*)(void))wrap_##name, METH_FASTCALL, NULL}

PyMethodDef tb_streaming_methods[] = {
    METHOD(start_stream),    METHOD(add_to_stream), METHOD(take_from_stream),
    METHOD(stream_counts),   METHOD(save_stream),   METHOD(restore_to_stream),
    METHOD(continue_stream), {NULL, NULL, 0, NULL},
};
