/* Documents of a stream of tokens, the segments of its windows, and chunks of documents
 * put together again. */
#include "py/base/tb_numpy.h"
#include "py/base/gil.h"
#include "py/input/ragged.h"
#include "py/input/rows.h"
#include "py/input/settings.h"
#include "core/base/memory.h"
#include "core/layout/chunks.h"
#include "core/layout/tokens.h"

#include <stdlib.h>
#include <string.h>

/* Tokens, and segments, between two looks at signals; and places that are made room for
 * at first. */
enum {
    TOKENS_BETWEEN_SIGNALS = 1 << 24,
    SEGMENTS_BETWEEN_SIGNALS = 1 << 24,
    FIRST_ROOM = 1 << 10
};

typedef struct {
    int64_t *at; /* of malloc */
    ptrdiff_t count;
    ptrdiff_t room;
} places;

/* Appends all places before `stop`, without the GIL. */
static tb_status
find_until(const tb_token_search *search, ptrdiff_t *at, ptrdiff_t stop, places *found)
{
    while (*at < stop) {
        if (found->room - found->count < TB_TOKEN_BLOCK) {
            ptrdiff_t room = found->room > 0 ? found->room * 2 : FIRST_ROOM;
            if (TB_RESIZE(found->at, room) != TB_OK) {
                return TB_ERR_MEMORY;
            }
            found->room = room;
        }
        found->count += tb_find_tokens(search, at, stop, found->at + found->count,
                                       found->room - found->count);
    }
    return TB_OK;
}

/* Finds all places; update(tokens read) is called now and then, unless it is None. */
static int
find_all(const tb_token_search *search, PyArrayObject *tokens, PyObject *update,
         places *found)
{
    ptrdiff_t at = 0;

    while (at < search->count) {
        ptrdiff_t stop = tb_min(search->count, at + TOKENS_BETWEEN_SIGNALS);
        PyThreadState *thread =
            tb_release_gil((npy_intp)(stop - at) * search->item_size);
        tb_status status = find_until(search, &at, stop, found);
        tb_restore_gil(thread);
        if (status != TB_OK) {
            PyErr_NoMemory();
            return -1;
        }
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
        if (update != Py_None) {
            PyObject *answer =
                PyObject_CallFunction(update, "n", tb_min(at, search->count));
            if (answer == NULL) {
                return -1;
            }
            Py_DECREF(answer);
        }
        if (PyArray_DATA(tokens) != search->tokens ||
            PyArray_DIM(tokens, 0) != search->count) {
            PyErr_SetString(PyExc_RuntimeError,
                            "Ragged.from_tokens(): the tokens were resized");
            return -1;
        }
    }
    return 0;
}

/* What the rows of a stream are made of. */
typedef struct {
    int at_start; /* the pattern begins a row, else it ends one */
    int keep;     /* it stays in its row */
    ptrdiff_t size;
    ptrdiff_t count; /* of tokens */
} row_rule;

/* The rows between the places; `starts` and `lengths` have room for all. How many. What
 * is before the first beginning, or after the last end, is a row if it is not empty. */
static ptrdiff_t
make_rows(const places *found, const row_rule *rule, int64_t *starts, int64_t *lengths)
{
    int64_t begin = 0;
    ptrdiff_t rows = 0;
    ptrdiff_t before = rule->at_start || !rule->keep ? 0 : rule->size;
    ptrdiff_t after = rule->at_start && rule->keep ? 0 : rule->size;

    for (ptrdiff_t i = 0; i < found->count; i++) {
        int64_t place = found->at[i];
        if (!rule->at_start || i > 0 || place > 0) {
            starts[rows] = begin;
            lengths[rows++] = place + before - begin;
        }
        begin = place + after;
    }
    if (begin < rule->count || (rule->at_start && found->count > 0)) {
        starts[rows] = begin;
        lengths[rows++] = rule->count - begin;
    }
    return rows;
}

static PyObject *
wrap_places(tb_state *state, PyObject *type, PyArrayObject *tokens, const places *found,
            const row_rule *rule)
{
    tb_ragged buffers = {NULL, NULL, NULL, NULL};
    npy_intp rows = found->count + 1;
    int64_t *starts = (int64_t *)malloc((size_t)rows * 2 *
                                        sizeof *starts); /* found->at has as many */

    if (starts == NULL) {
        return PyErr_NoMemory();
    }
    int64_t *lengths = starts + rows;
    rows = make_rows(found, rule, starts, lengths);
    buffers.chunks = PyTuple_Pack(1, tokens);
    buffers.starts = (PyArrayObject *)PyArray_SimpleNew(1, &rows, NPY_INT64);
    buffers.lengths = (PyArrayObject *)PyArray_SimpleNew(1, &rows, NPY_INT64);
    if (buffers.chunks == NULL || buffers.starts == NULL || buffers.lengths == NULL) {
        free(starts);
        tb_clear_ragged(&buffers);
        return NULL;
    }
    if (rows > 0) {
        memcpy(PyArray_DATA(buffers.starts), starts, (size_t)rows * sizeof *starts);
        memcpy(PyArray_DATA(buffers.lengths), lengths, (size_t)rows * sizeof *lengths);
    }
    free(starts);
    return tb_new_ragged(state, type, &buffers);
}

static int
is_row_of(PyObject *object, int type)
{
    PyArrayObject *array = (PyArrayObject *)object;

    return PyArray_Check(object) && PyArray_NDIM(array) == 1 &&
           PyArray_ISCARRAY_RO(array) && (type < 0 || PyArray_TYPE(array) == type);
}

static PyObject *
refuse_arrays(const char *function)
{
    return PyErr_Format(PyExc_SystemError, "%s(): unexpected arrays", function);
}

/* split_tokens(class, tokens, pattern, at_start, keep, update) -> class, or None where
 * the pattern is not among the tokens. `pattern` is uint64, the bits of its tokens. */
static PyObject *
wrap_split_tokens(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    places found = {NULL, 0, 0};
    PyObject *answer = NULL;

    if (tb_check_count("split_tokens", nargs, 6) < 0) {
        return NULL;
    }
    if (!is_row_of(args[1], -1) || !is_row_of(args[2], NPY_UINT64) ||
        !PyArray_ISINTEGER((PyArrayObject *)args[1]) ||
        PyArray_SIZE((PyArrayObject *)args[2]) < 1) {
        return refuse_arrays("split_tokens");
    }
    PyArrayObject *tokens = (PyArrayObject *)args[1];
    PyArrayObject *pattern = (PyArrayObject *)args[2];
    tb_token_search search = {.tokens = PyArray_DATA(tokens),
                              .count = PyArray_DIM(tokens, 0),
                              .item_size = (int)PyArray_ITEMSIZE(tokens),
                              .pattern = (const uint64_t *)PyArray_DATA(pattern),
                              .pattern_size = PyArray_DIM(pattern, 0)};
    row_rule rule = {.at_start = args[3] == Py_True,
                     .keep = args[4] == Py_True,
                     .size = search.pattern_size,
                     .count = search.count};
    if (find_all(&search, tokens, args[5], &found) == 0) {
        answer = found.count == 0 && search.count > 0
                     ? Py_NewRef(Py_None)
                     : wrap_places(tb_state_of(module), args[0], tokens, &found, &rule);
    }
    free(found.at);
    return answer;
}

static const tb_context windows_context = {.function = "windows"};

/* An array for the lengths of so many segments; NULL with an exception. */
static PyArrayObject *
make_segments(const tb_window_rows *rows, tb_status status, npy_intp count)
{
    PyArrayObject *lengths = NULL;

    if (status == TB_OK) {
        lengths = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_INT64);
        if (lengths != NULL || !PyErr_ExceptionMatches(PyExc_MemoryError)) {
            return lengths;
        }
        PyErr_Clear();
        tb_raise_at(&windows_context, PyExc_MemoryError, -1, -1,
                    "no memory for seq_lengths: the %zd windows have %lld segments of "
                    "rows, which take %lld MB; pass a larger stride=, or a shorter "
                    "length",
                    (Py_ssize_t)rows->windows, (long long)count,
                    (long long)(count / 1000000) * 8);
    }
    else {
        tb_raise_at(&windows_context, PyExc_MemoryError, -1, -1,
                    "no memory for seq_lengths: the %zd windows have more segments of "
                    "rows than int64 can count; pass a larger stride=, or a shorter "
                    "length",
                    (Py_ssize_t)rows->windows);
    }
    return NULL;
}

static int
fill_segments(const tb_window_rows *rows, PyArrayObject *lengths)
{
    int64_t *data = (int64_t *)PyArray_DATA(lengths);
    npy_intp left = PyArray_SIZE(lengths);
    ptrdiff_t window = 0, row = 0;

    while (window < rows->windows) {
        PyThreadState *thread = tb_release_gil(left * 8);
        int64_t filled = tb_fill_window_segments(rows, &window, &row,
                                                 SEGMENTS_BETWEEN_SIGNALS, data);
        tb_restore_gil(thread);
        data += filled;
        left -= (npy_intp)filled;
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
    return 0;
}

/* window_segments(starts, lengths, window_starts, window_lengths) -> (lengths of the
 * segments, offsets [windows + 1]); all int64, the rows one after another. */
static PyObject *
wrap_window_segments(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    (void)module;
    if (tb_check_count("window_segments", nargs, 4) < 0) {
        return NULL;
    }
    for (int i = 0; i < 4; i++) {
        if (!is_row_of(args[i], NPY_INT64) ||
            PyArray_SIZE((PyArrayObject *)args[i]) !=
                PyArray_SIZE((PyArrayObject *)args[i & 2])) {
            return refuse_arrays("window_segments");
        }
    }
    const int64_t *data[4];
    for (int i = 0; i < 4; i++) {
        data[i] = (const int64_t *)PyArray_DATA((PyArrayObject *)args[i]);
    }
    tb_window_rows rows = {data[0], data[1], PyArray_SIZE((PyArrayObject *)args[0]),
                           data[2], data[3], PyArray_SIZE((PyArrayObject *)args[2])};
    npy_intp count = rows.windows + 1;
    PyArrayObject *offsets = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_INT64);
    if (offsets == NULL) {
        return NULL;
    }
    int64_t *offset = (int64_t *)PyArray_DATA(offsets);
    PyThreadState *thread = tb_release_gil((rows.rows + rows.windows) * 8);
    tb_status status = tb_count_window_segments(&rows, offset);
    tb_restore_gil(thread);
    PyArrayObject *lengths =
        make_segments(&rows, status, status == TB_OK ? offset[rows.windows] : 0);
    if (lengths == NULL || fill_segments(&rows, lengths) < 0) {
        Py_DECREF(offsets);
        Py_XDECREF(lengths);
        return NULL;
    }
    return Py_BuildValue("(NN)", lengths, offsets);
}

/* The means of a column of floats as [positions, *trailing]. */
static PyObject *
mean_of(const tb_context *context, const tb_column *column, const int64_t *begins,
        PyArrayObject *offsets)
{
    tb_chunks chunks = {.data = column->data,
                        .begins = begins,
                        .lengths = column->lengths,
                        .trailing = 1,
                        .item_size = column->whole.item_size,
                        .offsets = (const int64_t *)PyArray_DATA(offsets),
                        .documents = PyArray_SIZE(offsets) - 1};
    npy_intp dims[TB_MAX_TRAILING + 1];
    ptrdiff_t total = 0;
    tb_error error = {-1, -1, -1};
    tb_status status = tb_count_merged(&chunks, &total, &error);

    if (status != TB_OK) {
        tb_raise_at(context, PyExc_ValueError, error.row, -1,
                    "chunk begins at %lld, out of order or after a gap",
                    (long long)error.value);
        return NULL;
    }
    dims[0] = total;
    for (int d = 0; d < column->ndim; d++) {
        dims[d + 1] = column->trailing[d];
        chunks.trailing *= column->trailing[d];
    }
    PyObject *out =
        PyArray_SimpleNew(column->ndim + 1, dims,
                          column->whole.type == TB_F32 ? NPY_FLOAT32 : NPY_FLOAT64);
    if (out != NULL) {
        PyThreadState *thread = tb_release_gil(PyArray_NBYTES((PyArrayObject *)out));
        tb_mean_chunks(&chunks, PyArray_DATA((PyArrayObject *)out));
        tb_restore_gil(thread);
    }
    return out;
}

/* mean_chunks(function, outputs, begins, offsets) -> ndarray; outputs is a Ragged of
 * float32 or float64 with a row for each chunk. */
static PyObject *
wrap_mean_chunks(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_state *state = tb_state_of(module);
    tb_context context = {0};
    tb_column column;
    PyObject *answer = NULL;

    if (tb_check_count("mean_chunks", nargs, 4) < 0 ||
        tb_read_function(args[0], &context) < 0) {
        return NULL;
    }
    if (!tb_is_ragged(state, args[1]) || !is_row_of(args[2], NPY_INT64) ||
        !is_row_of(args[3], NPY_INT64)) {
        return refuse_arrays("mean_chunks");
    }
    PyArrayObject *begins = (PyArrayObject *)args[2],
                  *offsets = (PyArrayObject *)args[3];
    memset(&column, 0, sizeof column);
    if (tb_survey_rows(state, &context, args[1], &column) == 0) {
        const int64_t *offset = (const int64_t *)PyArray_DATA(offsets);
        npy_intp documents = PyArray_SIZE(offsets) - 1;
        int right = documents >= 0 && offset[0] == 0 &&
                    offset[documents] == column.count &&
                    PyArray_SIZE(begins) == column.count &&
                    (column.whole.type == TB_F32 || column.whole.type == TB_F64);
        for (npy_intp d = 0; right && d < documents; d++) {
            right = offset[d] <= offset[d + 1];
        }
        answer = right ? mean_of(&context, &column,
                                 (const int64_t *)PyArray_DATA(begins), offsets)
                       : refuse_arrays("mean_chunks");
    }
    tb_clear_column(&column);
    return answer;
}

PyMethodDef tb_token_methods[] = {
    {"split_tokens", (PyCFunction)(void (*)(void))wrap_split_tokens, METH_FASTCALL,
     NULL},
    {"window_segments", (PyCFunction)(void (*)(void))wrap_window_segments,
     METH_FASTCALL, NULL},
    {"mean_chunks", (PyCFunction)(void (*)(void))wrap_mean_chunks, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
