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

/* The arguments of read_into_stream(). */
typedef struct {
    PyObject *getter;
    PyObject *get_costs; /* or None */
    PyObject *weigh;     /* a function, an int, or None: the length */
    PyObject *held;      /* samples by their number among those of this share */
    PyObject *progress;  /* streamed_row.h */
} sample_reading;

/* Adds a row, and holds its sample. Returns 1 where a batch is ready, -1 with an
 * exception: it has not been added then. */
static int
add_row(streaming *stream, const sample_reading *reading, PyObject *sample,
        PyObject *place, const tb_streamed_row *row)
{
    tb_error error;
    int is_kept = 0;

    if (PyDict_SetItem(reading->held, place, sample) < 0) {
        return -1;
    }
    tb_status status = tb_stream_row(&stream->core, row, &is_kept, &error);
    if ((status != TB_OK || !is_kept) && PyDict_DelItem(reading->held, place) < 0) {
        return -1;
    }
    if (status != TB_OK) {
        tb_raise_streamed_row(&stream->reader, status, row, &error);
        return -1;
    }
    return is_kept && tb_is_batch_ready(&stream->core);
}

/* Adds the sample with this number. Returns 1 where a batch is ready, -1 with an
 * exception: it is held back then. */
static int
add_sample(streaming *stream, const sample_reading *reading, PyObject *sample,
           uint64_t number)
{
    PyObject *args[4] = {NULL, NULL, NULL, NULL};
    tb_row_input input;
    int is_read = 0, answer = -1;
    PyObject *next = PyLong_FromUnsignedLongLong(number + 1);

    args[0] = next == NULL
                  ? NULL
                  : PyLong_FromUnsignedLongLong(number / stream->reader.shares);
    args[1] = args[0] == NULL ? NULL : tb_get_of_sample(reading->getter, sample);
    args[3] = args[1] == NULL ? NULL
              : reading->get_costs == Py_None
                  ? Py_NewRef(Py_None)
                  : PyObject_CallOneArg(reading->get_costs, sample);
    if (args[3] != NULL) {
        is_read = 1;
        args[2] = PyCallable_Check(reading->weigh)
                      ? PyObject_CallOneArg(reading->weigh, sample)
                      : Py_NewRef(reading->weigh);
    }
    if (args[2] != NULL && tb_read_streamed_row(&stream->reader, args, &input) == 0) {
        answer = add_row(stream, reading, sample, args[0], &input.row);
    }
    if (answer < 0) {
        Py_XDECREF(next);
        (void)tb_hold_back(reading->progress, sample, is_read); /* raises either way */
    }
    else if (tb_note_next(reading->progress, next) < 0) {
        answer = -1;
    }
    /* Not before: to let go of them may run code of the user's. */
    for (int k = 0; k < 4; k++) {
        Py_XDECREF(args[k]);
    }
    return answer;
}

/* read_into_stream(stream, iterator, getter, get_costs, weigh, held, progress) -> whether
 * a batch is ready; False: the samples are at their end. Reads samples, and keeps those
 * that wait in `held`. progress says how far it came, also after an error: a sample that
 * raised is read again, unless the caller takes it out. */
static PyObject *
wrap_read_into_stream(PyObject *Py_UNUSED(module), PyObject *const *args,
                      Py_ssize_t nargs)
{
    streaming *stream = read_stream("read_into_stream", args, nargs, 7);
    uint64_t number = 0;
    int is_ready = 0;

    if (stream == NULL || !PyIter_Check(args[1]) || !PyDict_Check(args[5]) ||
        !PyList_Check(args[6]) || PyList_GET_SIZE(args[6]) != 3 ||
        !PyTuple_Check(PyList_GET_ITEM(args[6], 1))) {
        return PyErr_Occurred()
                   ? NULL
                   : PyErr_Format(PyExc_TypeError, "read_into_stream(): wrong types");
    }
    if (tb_read_uint64(&stream->reader.context, "number", PyList_GET_ITEM(args[6], 0),
                       &number) < 0) {
        return NULL;
    }
    sample_reading reading = {args[2], args[3], args[4], args[5], args[6]};
    uint64_t shares = stream->reader.shares, share = stream->reader.share;
    PyObject *sample = NULL;
    while (is_ready == 0) {
        if (number % 1024 == 0 && PyErr_CheckSignals() < 0) {
            break;
        }
        Py_XSETREF(sample, tb_read_sample(args[1], args[6]));
        if (sample == NULL) {
            break;
        }
        is_ready = shares == 1 || number % shares == share
                       ? add_sample(stream, &reading, sample, number)
                       : tb_note_next(args[6], PyLong_FromUnsignedLongLong(number + 1));
        number++;
    }
    Py_XDECREF(sample);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(is_ready);
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

/* Takes a sample out of those that are held; new. */
static PyObject *
pop_sample(PyObject *held, uint64_t number)
{
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    PyObject *sample = key == NULL ? NULL : PyDict_GetItemWithError(held, key);

    Py_XINCREF(sample);
    if (sample == NULL && key != NULL && !PyErr_Occurred()) {
        PyErr_SetObject(PyExc_KeyError, key);
    }
    if (sample != NULL && PyDict_DelItem(held, key) < 0) {
        Py_CLEAR(sample);
    }
    Py_XDECREF(key);
    return sample;
}

/* take_from_stream(stream, is_end, held) -> the samples of a batch, which are held no
 * longer, or None */
static PyObject *
wrap_take_from_stream(PyObject *Py_UNUSED(module), PyObject *const *args,
                      Py_ssize_t nargs)
{
    streaming *stream = read_stream("take_from_stream", args, nargs, 3);

    if (stream == NULL) {
        return NULL;
    }
    if (!PyDict_Check(args[2])) {
        return PyErr_Format(PyExc_TypeError, "take_from_stream(): expected a dict");
    }
    if (tb_take_batch(&stream->core, args[1] == Py_True) != TB_OK) {
        return PyErr_NoMemory();
    }
    ptrdiff_t count = stream->core.batch_count;
    if (count == 0) {
        Py_RETURN_NONE;
    }
    PyObject *batch = PyList_New(count);
    for (ptrdiff_t i = 0; i < count && batch != NULL; i++) {
        PyObject *sample = pop_sample(args[2], stream->core.batch[i]);
        if (sample == NULL) {
            Py_CLEAR(batch);
        }
        else {
            PyList_SET_ITEM(batch, i, sample);
        }
    }
    return batch;
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

/* Each function of a stream is called in a critical section of the stream. Code of the
 * user's, which may suspend it, runs while a sample is read: before the stream takes it. */
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
ALONE(read_into_stream)
ALONE(take_from_stream)
ALONE(stream_counts)
ALONE(save_stream)
ALONE(restore_to_stream)
ALONE(continue_stream)
#define alone_start_stream wrap_start_stream /* nobody else has it yet */

#define METHOD(name) \
    {#name, (PyCFunction)(void (*)(void))alone_##name, METH_FASTCALL, NULL}

PyMethodDef tb_streaming_methods[] = {
    METHOD(start_stream),    METHOD(read_into_stream), METHOD(take_from_stream),
    METHOD(stream_counts),   METHOD(save_stream),      METHOD(restore_to_stream),
    METHOD(continue_stream), {NULL, NULL, 0, NULL},
};
