/* What is settled before anything is laid out: masks that must be ones, the sequences
 * that packs are made of, and the line. */
#include "py/base/tb_numpy.h"
#include "py/output/flat_batch.h"

/* Whether all items are the int object 1, of which CPython has a single one, or True. A
 * look at addresses is enough for masks as tokenizers make them, and no code can run.
 */
static int
has_only_known_ones(PyObject *list, ptrdiff_t n)
{
    PyObject *one = PyLong_FromLong(1), *const *items = tb_list_items(list);
    ptrdiff_t i = tb_list_size(list) == n ? 0 : n;
    int found = one != NULL && i == 0;

    for (; i < n; i++) {
        found &= items[i] == one || items[i] == Py_True;
    }
    PyErr_Clear();
    Py_XDECREF(one);
    return found;
}

/* Whether row i of the mask, a list, holds but ones: 0 with *at set where not. */
static int
list_is_ones(tb_state *state, tb_column *mask, ptrdiff_t i, ptrdiff_t *at)
{
    ptrdiff_t n = mask->lengths[i];
    double *values = PyMem_Malloc((size_t)(n > 0 ? n : 1) * sizeof *values);
    tb_list_reader reader = {.state = state,
                             .context = &mask->context,
                             .dtype = {TB_F64, 8, NULL}, /* holds any one */
                             .row = i};

    if (values == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    tb_read read =
        tb_read_list(&reader, (PyObject *)(uintptr_t)mask->data[i], n, 0, n, values);
    *at = read == TB_READ_DONE ? tb_find_not_one(TB_F64, values, n) : 0;
    PyMem_Free(values);
    return read == TB_READ_DONE ? *at == n : -1;
}

int
tb_refuse_masked(tb_state *state, tb_column *mask)
{
    if (mask->ndim > 0) {
        return tb_raise_at(&mask->context, PyExc_ValueError, -1, -1,
                           "has %d dimensions a row: a padding-free batch has no mask; "
                           "expected one value a token, or no such column",
                           mask->ndim + 1);
    }
    for (ptrdiff_t i = 0; i < mask->count; i++) {
        ptrdiff_t n = mask->lengths[i], at = n;
        int ones = 1;
        if (mask->types[i] == TB_LIST) {
            if (has_only_known_ones((PyObject *)(uintptr_t)mask->data[i], n)) {
                continue;
            }
            ones = list_is_ones(state, mask, i, &at);
        }
        else if (n > 0 && mask->types[i] > TB_F64) {
            return tb_raise_at(&mask->context, PyExc_TypeError, i, -1,
                               "found a mask of neither integers nor bools");
        }
        else if (n > 0) {
            if (tb_verify_rows(mask) < 0) {
                return -1;
            }
            at = tb_find_not_one((tb_type)mask->types[i], mask->data[i], n);
            ones = at == n;
        }
        if (ones <= 0) {
            return ones < 0
                       ? -1
                       : tb_raise_at(&mask->context, PyExc_ValueError, i, at,
                                     "is not 1: a padding-free batch has no mask, and "
                                     "models would attend to this token; take padding "
                                     "out of the samples first");
        }
    }
    return 0;
}

/* Pieces of row i: their lengths are there, and sum to the row's. */
static int
check_pieces(const tb_flat_batch *batch, const tb_column *segments, ptrdiff_t i,
             const int64_t *pieces)
{
    const tb_column *main = &batch->jobs[batch->main].column;
    ptrdiff_t left = main->lengths[i];

    for (ptrdiff_t j = 0; j < segments->lengths[i]; j++) {
        if (pieces[j] < 0) {
            return tb_raise_at(&segments->context, PyExc_ValueError, i, j,
                               "is %lld; expected the length of a sequence",
                               (long long)pieces[j]);
        }
        if (pieces[j] > left) {
            return tb_raise_at(&segments->context, PyExc_ValueError, i, j,
                               "has come to more than the %zd tokens that key %R has "
                               "there",
                               (Py_ssize_t)main->lengths[i], main->context.key);
        }
        left -= pieces[j];
    }
    return left == 0 ? 0
                     : tb_raise_at(&segments->context, PyExc_ValueError, i, -1,
                                   "sums to %zd, but key %R has %zd tokens there",
                                   (Py_ssize_t)(main->lengths[i] - left),
                                   main->context.key, (Py_ssize_t)main->lengths[i]);
}

int
tb_read_segments(tb_flat_batch *batch, tb_column *segments)
{
    const tb_column *main = &batch->jobs[batch->main].column;
    const tb_dtype int64 = {TB_I64, 8, NULL};
    tb_pad_options options = {.width = -1, .max_length = -1, .multiple = 1, .flat = 1};
    tb_layout layout;

    if (segments->ndim > 0 || segments->count != main->count) {
        return tb_raise_at(&segments->context, PyExc_ValueError, -1, -1,
                           "expected a list of lengths for each row");
    }
    if (tb_settle_dtype(batch->state, segments, &options, &int64) < 0 ||
        tb_lay_out(segments, &options, &layout) < 0) {
        return -1;
    }
    npy_intp count = layout.width;
    batch->segments = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_INT64);
    batch->piece_rows = PyMem_Malloc(((size_t)count + 1) * sizeof *batch->piece_rows);
    if (batch->segments == NULL || batch->piece_rows == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int64_t *pieces = (int64_t *)PyArray_DATA(batch->segments);
    if (tb_fill_rows(batch->state, segments, &layout, pieces) != TB_READ_DONE) {
        return -1;
    }
    ptrdiff_t at = 0;
    for (ptrdiff_t i = 0; i < segments->count; i++) {
        if (check_pieces(batch, segments, i, pieces + at) < 0) {
            return -1;
        }
        for (ptrdiff_t j = 0; j < segments->lengths[i]; j++) {
            batch->piece_rows[at++] = i;
        }
    }
    batch->flat.pieces = count;
    batch->flat.lengths = (const ptrdiff_t *)PyArray_DATA(batch->segments);
    return 0;
}

static int
refuse_plan(const tb_flat_batch *batch, tb_status status, const tb_error *error)
{
    tb_context context = batch->context;

    context.rows = batch->piece_rows;
    if (status == TB_ERR_TOO_LONG) {
        return tb_raise_at(&context, PyExc_ValueError, error->row, -1,
                           "with it the batch has %zd positions, more than "
                           "max_tokens=%zd; a LengthBatchSampler with max_tokens= and "
                           "padding_free=True makes batches that fit",
                           (Py_ssize_t)error->value,
                           (Py_ssize_t)batch->flat.max_tokens);
    }
    return tb_raise_at(&context, PyExc_ValueError, error->row, -1,
                       "with it the batch has more positions than can be addressed");
}

int
tb_plan_batch(tb_flat_batch *batch)
{
    tb_flat *flat = &batch->flat;
    tb_context context = batch->context;
    tb_error error;
    tb_status status = tb_plan_flat(flat, &error);

    context.key = NULL;
    if (status != TB_OK) {
        return refuse_plan(batch, status, &error);
    }
    if (flat->width == 0) {
        return tb_raise_at(&context, PyExc_ValueError, -1, -1,
                           "no row of the batch has a token; filter empty rows out");
    }
    if (flat->max_sequences >= 0 && flat->sequences > flat->max_sequences) {
        return tb_raise_at(
            &context, PyExc_ValueError, -1, -1,
            "the batch has %zd sequences%s, more than max_seqs=%zd",
            (Py_ssize_t)flat->sequences,
            flat->used < flat->width ? ", its padded tail being one of them" : "",
            (Py_ssize_t)flat->max_sequences);
    }
    if (batch->longest_asked >= 0 && flat->longest > batch->longest_asked) {
        return tb_raise_at(
            &context, PyExc_ValueError, -1, -1,
            "the longest sequence%s has %zd positions, more than max_seqlen=%zd",
            flat->used < flat->width && flat->width - flat->used == flat->longest
                ? ", the padded tail,"
                : "",
            (Py_ssize_t)flat->longest, batch->longest_asked);
    }
    if (flat->width > INT32_MAX) {
        return tb_raise_at(&context, PyExc_OverflowError, -1, -1,
                           "%zd positions are more than cu_seqlens (int32) can count",
                           (Py_ssize_t)flat->width);
    }
    return 0;
}
