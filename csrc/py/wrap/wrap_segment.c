/* cu_seqlens(), position_ids(), segment_ids() and segment_mask(). */
#include "py/base/tb_numpy.h"
#include "py/input/settings.h"
#include "py/input/lengths.h"
#include "py/output/out.h"
#include "core/layout/mask.h"
#include "core/layout/segment.h"
#include "py/output/layout.h"

/* cu_seqlens(lengths) */
static PyObject *
wrap_cu_seqlens(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    static const tb_context context = {.function = "cu_seqlens", .argument = "lengths"};
    tb_int_rows lengths = {NULL, NULL, 0};
    PyArrayObject *offsets = NULL;
    tb_error error;

    if (tb_check_count(context.function, nargs, 1) < 0 ||
        tb_read_int_rows(tb_state_of(module), &context, args[0], 1, &lengths) < 0) {
        goto done;
    }
    if (!lengths.is_single) {
        tb_raise_at(&context, PyExc_TypeError, -1, -1,
                    "found rows of lengths, expected one length for each segment");
        goto done;
    }
    npy_intp edges = PyArray_SIZE(lengths.values) + 1;
    offsets = (PyArrayObject *)PyArray_SimpleNew(1, &edges, NPY_INT32);
    if (offsets == NULL) {
        goto done;
    }
    tb_status status = tb_add_lengths(tb_int_values(&lengths), edges - 1,
                                      PyArray_DATA(offsets), &error);
    if (status == TB_ERR_NEGATIVE) {
        tb_raise_length(&context, status, &error, 0);
    }
    else if (status != TB_OK) {
        tb_raise_at(&context, PyExc_OverflowError, error.row, -1,
                    "with length %lld the sum is more than int32 can hold (at most "
                    "%d); split the batch",
                    (long long)error.value, (int)INT32_MAX);
    }
    if (status != TB_OK) {
        Py_CLEAR(offsets);
    }
done:
    tb_clear_int_rows(&lengths);
    return (PyObject *)offsets;
}

/* --- ids and positions ------------------------------------------------------------ */

typedef void (*write_segments)(const int64_t *lengths, const ptrdiff_t *counts,
                               const ptrdiff_t *totals, ptrdiff_t packs,
                               const tb_layout *layout, int64_t *out);

/* int64 [packs, width], or [width] for a single pack. */
static PyArrayObject *
new_segments(const tb_context *context, const tb_int_rows *lengths,
             const tb_pad_options *options, write_segments write)
{
    tb_layout layout = {0};
    PyArrayObject *out = NULL, *totals = tb_sum_int_rows(context, lengths);

    if (totals == NULL ||
        (options->width >= 0 &&
         tb_check_totals(context, lengths, totals, options->width) < 0)) {
        goto done;
    }
    tb_column column = {.context = *context,
                        .count = PyArray_SIZE(totals),
                        .lengths = PyArray_DATA(totals),
                        .dtype = {TB_I64, 8, NULL}};
    if (tb_lay_out(&column, options, &layout) < 0) {
        goto done;
    }
    npy_intp dims[2] = {column.count, layout.width};
    int skipped = lengths->is_single;
    out = (PyArrayObject *)PyArray_SimpleNew(2 - skipped, dims + skipped, NPY_INT64);
    if (out != NULL) {
        PyThreadState *thread = tb_release_gil(PyArray_NBYTES(out));
        write(tb_int_values(lengths), tb_int_counts(lengths), column.lengths,
              column.count, &layout, PyArray_DATA(out));
        tb_restore_gil(thread);
    }
done:
    Py_XDECREF(totals);
    return out;
}

/* segment_ids(lengths, width, padding_side, pad_to_multiple_of) */
static PyObject *
wrap_segment_ids(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    static const tb_context context = {.function = "segment_ids",
                                       .argument = "lengths"};
    tb_pad_options options = {0};
    tb_int_rows lengths = {NULL, NULL, 0};
    PyArrayObject *ids = NULL;

    if (tb_check_count(context.function, nargs, 4) == 0 &&
        tb_read_mask_options(&context, args[1], args[2], args[3], &options) == 0 &&
        tb_read_int_rows(tb_state_of(module), &context, args[0], 1, &lengths) == 0) {
        ids = new_segments(&context, &lengths, &options, tb_segment_rows);
    }
    tb_clear_int_rows(&lengths);
    return (PyObject *)ids;
}

/* Positions, from a length for each row: int64 [rows, width], or [total] if flat. */
static PyArrayObject *
position_rows(const tb_context *context, PyArrayObject *lengths,
              const tb_pad_options *options, int flat)
{
    tb_layout layout = {.type = TB_I64, .item_size = 8};
    tb_column column = {.context = *context,
                        .count = PyArray_SIZE(lengths),
                        .lengths = (ptrdiff_t *)PyArray_DATA(lengths),
                        .dtype = {TB_I64, 8, NULL}};
    ptrdiff_t total;

    if (tb_check_row_lengths(context, lengths, options->width, &total) < 0 ||
        tb_lay_out(&column, options, &layout) < 0) {
        return NULL;
    }
    npy_intp dims[2] = {flat ? total : column.count, layout.width};
    PyArrayObject *positions =
        (PyArrayObject *)PyArray_SimpleNew(flat ? 1 : 2, dims, NPY_INT64);
    layout.flat = flat;
    if (positions != NULL) {
        PyThreadState *thread = tb_release_gil(PyArray_NBYTES(positions));
        tb_position_rows(column.lengths, column.count, &layout,
                         PyArray_DATA(positions));
        tb_restore_gil(thread);
    }
    return positions;
}

/* The segments of all packs, one after another, as those of one pack. */
static PyArrayObject *
position_line(const tb_context *context, const tb_int_rows *packs, Py_ssize_t width)
{
    const tb_pad_options options = {.width = -1, .max_length = -1, .multiple = 1};
    PyArrayObject *totals = tb_sum_int_rows(context, packs);
    npy_intp one = 1;
    tb_int_rows line = {packs->values, NULL, 1};
    PyArrayObject *positions = NULL;

    if (totals != NULL && width >= 0 &&
        tb_check_totals(context, packs, totals, width) < 0) {
        Py_CLEAR(totals);
    }
    line.counts =
        totals == NULL ? NULL : (PyArrayObject *)PyArray_SimpleNew(1, &one, NPY_INT64);
    if (line.counts != NULL) {
        *(int64_t *)PyArray_DATA(line.counts) = PyArray_SIZE(packs->values);
        positions = new_segments(context, &line, &options, tb_position_segments);
    }
    Py_XDECREF(line.counts);
    Py_XDECREF(totals);
    return positions;
}

/* position_ids(lengths, width, padding_side, pad_to_multiple_of, flat) */
static PyObject *
wrap_position_ids(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    static const tb_context context = {.function = "position_ids",
                                       .argument = "lengths"};
    tb_pad_options options = {0};
    tb_int_rows lengths = {NULL, NULL, 0};
    PyArrayObject *positions = NULL;
    int flat;

    if (tb_check_count(context.function, nargs, 5) < 0 ||
        tb_read_mask_options(&context, args[1], args[2], args[3], &options) < 0 ||
        tb_read_flag(&context, "flat", args[4], &flat) < 0 ||
        tb_read_int_rows(tb_state_of(module), &context, args[0], 1, &lengths) < 0) {
        goto done;
    }
    if (lengths.is_single) {
        positions = position_rows(&context, lengths.values, &options, flat);
    }
    else if (flat) {
        positions = position_line(&context, &lengths, options.width);
    }
    else {
        positions = new_segments(&context, &lengths, &options, tb_position_segments);
    }
done:
    tb_clear_int_rows(&lengths);
    return (PyObject *)positions;
}

/* --- the mask --------------------------------------------------------------------- */

static const tb_context mask_context = {.function = "segment_mask"};
static const tb_context ids_context = {.function = "segment_mask",
                                       .argument = "segment_ids"};
static const tb_context prefix_context = {.function = "segment_mask",
                                          .argument = "prefix"};

/* Checks that all rows of ids have one length: *width. */
static int
read_width(const tb_int_rows *ids, ptrdiff_t *width)
{
    const ptrdiff_t *counts = tb_int_counts(ids);

    *width = tb_count_int_rows(ids) > 0 ? counts[0] : 0;
    for (ptrdiff_t i = 1; i < tb_count_int_rows(ids); i++) {
        if (counts[i] != *width) {
            return tb_raise_at(&mask_context, PyExc_ValueError, i, -1,
                               "has %zd ids, row 0 has %zd; expected rows of one width",
                               (Py_ssize_t)counts[i], (Py_ssize_t)*width);
        }
    }
    return 0;
}

static int
check_prefix_rows(const tb_context *context, const tb_int_rows *prefixes,
                  const tb_int_rows *ids)
{
    tb_context own = *context;
    ptrdiff_t rows = tb_count_int_rows(ids);

    own.one_row = prefixes->is_single;
    if (prefixes->is_single != ids->is_single) {
        return tb_raise_at(
            context, PyExc_ValueError, -1, -1,
            ids->is_single
                ? "found rows of numbers; expected one number for each segment"
                : "found one row of numbers; expected one row for each of the %zd rows "
                  "of ids",
            (Py_ssize_t)rows);
    }
    if (tb_count_int_rows(prefixes) != rows) {
        return tb_raise_at(context, PyExc_ValueError, -1, -1,
                           "found %zd rows of numbers for %zd rows of ids",
                           (Py_ssize_t)tb_count_int_rows(prefixes), (Py_ssize_t)rows);
    }
    const int64_t *value = tb_int_values(prefixes);
    for (ptrdiff_t i = 0; i < rows; i++) {
        for (ptrdiff_t j = 0; j < tb_int_counts(prefixes)[i]; j++, value++) {
            if (*value < 0) {
                return tb_raise_at(&own, PyExc_ValueError, i, j, "%lld is negative",
                                   (long long)*value);
            }
        }
    }
    return 0;
}

/* prefix=: None, a number for all segments, or one for each. */
static int
read_prefix(tb_state *state, PyObject *prefix, const tb_int_rows *ids,
            tb_segment_rule *rule, tb_int_rows *prefixes)
{
    const tb_context *context = &prefix_context;

    if (prefix == Py_None || PyLong_Check(prefix) || PyFloat_Check(prefix) ||
        PyUnicode_Check(prefix) || PyArray_CheckScalar(prefix)) {
        return tb_read_size(&mask_context, "prefix", prefix, 0, -1, &rule->prefix);
    }
    if (tb_read_int_rows(state, context, prefix, 1, prefixes) < 0 ||
        check_prefix_rows(context, prefixes, ids) < 0) {
        return -1;
    }
    rule->prefixes = tb_int_values(prefixes);
    rule->prefix_counts = tb_int_counts(prefixes);
    return 0;
}

/* ValueError if the argument called `name` shares memory with out=. */
static int
check_apart(tb_state *state, PyObject *given, const char *name, PyArrayObject *mask)
{
    PyObject *rows = PyList_Check(given) ? PyList_AsTuple(given) : Py_NewRef(given);
    Py_ssize_t shared =
        rows == NULL ? -2 : tb_find_sharing(state, &mask_context, rows, mask);

    Py_XDECREF(rows);
    return shared < 0
               ? (shared == -1 ? 0 : -1)
               : tb_raise_at(&mask_context, PyExc_ValueError, -1, -1,
                             "%s shares memory with out=; expected separate memory",
                             name);
}

/* The mask's array: a new one, or out=. */
static PyArrayObject *
prepare_mask(tb_state *state, PyObject *out, int is_single, const npy_intp *dims,
             const tb_dtype *dtype)
{
    int ndim = 3 - is_single, is_bfloat16;
    PyArrayObject *mask = NULL;

    dims += is_single;
    if (out == Py_None) {
        PyArray_Descr *descr = tb_dtype_descr(state, dtype);
        return descr == NULL
                   ? NULL
                   : (PyArrayObject *)PyArray_SimpleNewFromDescr(ndim, dims, descr);
    }
    mask = tb_read_out(state, &mask_context, out, &is_bfloat16);
    if (mask != NULL &&
        tb_check_out(state, &mask_context, mask, is_bfloat16, dtype, ndim, dims) < 0) {
        Py_CLEAR(mask);
    }
    return mask;
}

static int
raise_id(tb_status status, const tb_int_rows *prefixes, const tb_error *error)
{
    if (status == TB_ERR_REPEATED) {
        return tb_raise_at(&mask_context, PyExc_ValueError, error->row, error->column,
                           "id %lld appears again after another id; with prefix= the "
                           "tokens of a segment must be next to each other",
                           (long long)error->value);
    }
    ptrdiff_t known = tb_int_counts(prefixes)[error->row];
    return tb_raise_at(
        &mask_context, PyExc_ValueError, error->row, error->column,
        "id %lld has no prefix: prefix= has %zd numbers, for ids 1 to %zd",
        (long long)error->value, (Py_ssize_t)known, (Py_ssize_t)known);
}

/* Writes the mask, without the GIL if it is large. */
static int
write_mask(const tb_int_rows *ids, ptrdiff_t width, const tb_segment_rule *rule,
           const tb_int_rows *prefixes, PyArrayObject *mask)
{
    ptrdiff_t rows = tb_count_int_rows(ids);
    const int64_t *values = tb_int_values(ids);
    tb_run *runs = PyMem_New(tb_run, (size_t)width + 1);
    void *out = PyArray_DATA(mask);
    tb_error error = {0, -1, 0};
    tb_status status;

    if (runs == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (PyArray_NBYTES(mask) < TB_WORTH_RELEASING) {
        status = tb_mask_segments(values, rows, width, rule, runs, out, &error);
    }
    else {
        Py_BEGIN_ALLOW_THREADS;
        status = tb_mask_segments(values, rows, width, rule, runs, out, &error);
        Py_END_ALLOW_THREADS;
    }
    PyMem_Free(runs);
    return status == TB_OK ? 0 : raise_id(status, prefixes, &error);
}

/* The sizes of the mask, [rows, width, width], or ValueError. */
static int
measure_mask(const tb_int_rows *ids, int item_size, npy_intp *dims)
{
    ptrdiff_t width, size;

    if (read_width(ids, &width) < 0) {
        return -1;
    }
    dims[0] = tb_count_int_rows(ids);
    dims[1] = dims[2] = width;
    if (tb_multiply_sizes(width, width, &size) != TB_OK ||
        tb_multiply_sizes(size, item_size, &size) != TB_OK ||
        tb_multiply_sizes(size, dims[0], &size) != TB_OK) {
        return tb_raise_at(
            &mask_context, PyExc_ValueError, -1, -1,
            "%zd masks of width %zd need more bytes than can be addressed",
            (Py_ssize_t)dims[0], (Py_ssize_t)width);
    }
    return 0;
}

/* segment_mask(segment_ids, causal, window, prefix, dtype, additive, out) */
static PyObject *
wrap_segment_mask(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_state *state = tb_state_of(module);
    tb_segment_rule rule = {.prefix = -1};
    tb_int_rows ids = {NULL, NULL, 0}, prefixes = {NULL, NULL, 0};
    tb_dtype dtype;
    PyArrayObject *mask = NULL;
    PyObject *answer = NULL;
    npy_intp dims[3];
    int additive;

    if (tb_check_count(mask_context.function, nargs, 7) < 0 ||
        tb_read_flag(&mask_context, "causal", args[1], &rule.causal) < 0 ||
        tb_read_size(&mask_context, "window", args[2], 1, PTRDIFF_MAX, &rule.window) <
            0 ||
        tb_read_flag(&mask_context, "additive", args[5], &additive) < 0) {
        return NULL;
    }
    dtype = additive ? (tb_dtype){TB_F32, 4, NULL} : (tb_dtype){TB_BOOL, 1, NULL};
    if (tb_dtype_from_object(state, &mask_context, args[4], &dtype) < 0 ||
        tb_read_mask_values(state, &mask_context, &dtype, additive, rule.shown,
                            rule.hidden) < 0 ||
        tb_read_int_rows(state, &ids_context, args[0], 0, &ids) < 0 ||
        read_prefix(state, args[3], &ids, &rule, &prefixes) < 0) {
        goto done;
    }
    rule.item_size = dtype.item_size;
    if (measure_mask(&ids, dtype.item_size, dims) == 0) {
        mask = prepare_mask(state, args[6], ids.is_single, dims, &dtype);
    }
    if (mask != NULL && args[6] != Py_None &&
        (check_apart(state, args[0], "segment_ids", mask) < 0 ||
         check_apart(state, args[3], "prefix", mask) < 0)) {
        goto done;
    }
    if (mask != NULL && write_mask(&ids, dims[1], &rule, &prefixes, mask) == 0) {
        answer = Py_NewRef(args[6] == Py_None ? (PyObject *)mask : args[6]);
    }
done:
    Py_XDECREF(mask);
    Py_XDECREF((PyObject *)dtype.descr);
    tb_clear_int_rows(&ids);
    tb_clear_int_rows(&prefixes);
    return answer;
}

PyMethodDef tb_segment_methods[] = {
    {"cu_seqlens", (PyCFunction)(void (*)(void))wrap_cu_seqlens, METH_FASTCALL, NULL},
    {"position_ids", (PyCFunction)(void (*)(void))wrap_position_ids, METH_FASTCALL,
     NULL},
    {"segment_ids", (PyCFunction)(void (*)(void))wrap_segment_ids, METH_FASTCALL, NULL},
    {"segment_mask", (PyCFunction)(void (*)(void))wrap_segment_mask, METH_FASTCALL,
     NULL},
    {NULL, NULL, 0, NULL},
};
