/* block_mask(): FlexAttention's blocks from lengths. */
#include "py/base/tb_numpy.h"
#include "py/input/settings.h"
#include "core/base/size.h"
#include "core/layout/block_mask.h"
#include "py/input/lengths.h"

static const tb_context context = {.function = "block_mask", .argument = "lengths"};
static const tb_context setting_context = {.function = "block_mask"};

/* The tokens of a pack: width=, or those of the longest. */
static int
read_total(PyObject *given, const tb_int_rows *lengths, PyArrayObject *totals,
           ptrdiff_t *total)
{
    const ptrdiff_t *each = (const ptrdiff_t *)PyArray_DATA(totals);

    if (tb_read_size(&setting_context, "width", given, 0, -1, total) < 0) {
        return -1;
    }
    if (*total >= 0 && tb_check_totals(&context, lengths, totals, *total) < 0) {
        return -1;
    }
    for (npy_intp i = 0; given == Py_None && i < PyArray_SIZE(totals); i++) {
        *total = each[i] > *total ? each[i] : *total;
    }
    *total = *total < 0 ? 0 : *total;
    if (*total > INT32_MAX) {
        return tb_raise_at(&context, PyExc_OverflowError, -1, -1,
                           "%zd tokens are more than int32 can count (at most %d)",
                           (Py_ssize_t)*total, (int)INT32_MAX);
    }
    return 0;
}

/* The four arrays of the answer, in its order, as a tuple. */
static PyObject *
new_blocks(npy_intp packs, const tb_block_rule *rule)
{
    npy_intp dims[4] = {packs, 1, tb_divide_up(rule->total, rule->query_size),
                        tb_divide_up(rule->total, rule->key_size)};
    PyObject *arrays = PyTuple_New(4);
    ptrdiff_t size;

    /* Below 2**62 each: both are block counts of at most INT32_MAX tokens. */
    if (tb_multiply_sizes(dims[2] * dims[3], packs, &size) != TB_OK ||
        tb_multiply_sizes(size, (ptrdiff_t)sizeof(int32_t), &size) != TB_OK) {
        Py_XDECREF(arrays);
        tb_raise_at(&context, PyExc_ValueError, -1, -1,
                    "%zd masks of %zd by %zd blocks need more bytes than can be "
                    "addressed; pass a larger block_size=",
                    (Py_ssize_t)packs, (Py_ssize_t)dims[2], (Py_ssize_t)dims[3]);
        return NULL;
    }
    for (Py_ssize_t i = 0; arrays != NULL && i < 4; i++) {
        PyObject *array = PyArray_SimpleNew(i % 2 == 0 ? 3 : 4, dims, NPY_INT32);
        if (array == NULL) {
            Py_CLEAR(arrays);
        }
        else {
            PyTuple_SET_ITEM(arrays, i, array);
        }
    }
    return arrays;
}

static int32_t *
array_data(PyObject *arrays, Py_ssize_t i)
{
    return (int32_t *)PyArray_DATA((PyArrayObject *)PyTuple_GET_ITEM(arrays, i));
}

static void
write_packs(const tb_int_rows *lengths, const tb_block_rule *rule, tb_blocks blocks)
{
    ptrdiff_t query_blocks = tb_divide_up(rule->total, rule->query_size);
    ptrdiff_t all = query_blocks * tb_divide_up(rule->total, rule->key_size);
    const int64_t *values = tb_int_values(lengths);
    const ptrdiff_t *counts = tb_int_counts(lengths);

    for (ptrdiff_t i = 0; i < tb_count_int_rows(lengths); i++) {
        tb_mask_blocks(values, counts[i], rule, &blocks);
        values += counts[i];
        blocks.partial_counts += query_blocks;
        blocks.partial += all;
        blocks.full_counts += query_blocks;
        blocks.full += all;
    }
}

/* block_mask(lengths, query_size, key_size, causal, window, width) -> counts and
 * numbers of the blocks seen partly, and of those that are full */
static PyObject *
wrap_block_mask(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    tb_block_rule rule;
    tb_int_rows lengths = {NULL, NULL, 0};
    PyArrayObject *totals = NULL;
    PyObject *arrays = NULL;

    if (tb_check_count(context.function, nargs, 6) < 0 ||
        tb_read_size(&setting_context, "block_size", args[1], 1, TB_REQUIRED,
                     &rule.query_size) < 0 ||
        tb_read_size(&setting_context, "block_size", args[2], 1, TB_REQUIRED,
                     &rule.key_size) < 0 ||
        tb_read_flag(&setting_context, "causal", args[3], &rule.causal) < 0 ||
        tb_read_size(&setting_context, "window", args[4], 1, PTRDIFF_MAX,
                     &rule.window) < 0) {
        return NULL;
    }
    if (tb_read_int_rows(tb_state_of(module), &context, args[0], 1, &lengths) == 0) {
        totals = tb_sum_int_rows(&context, &lengths);
    }
    if (totals != NULL && read_total(args[5], &lengths, totals, &rule.total) == 0) {
        arrays = new_blocks(PyArray_SIZE(totals), &rule);
    }
    if (arrays != NULL) {
        tb_blocks blocks = {array_data(arrays, 0), array_data(arrays, 1),
                            array_data(arrays, 2), array_data(arrays, 3)};
        Py_BEGIN_ALLOW_THREADS;
        write_packs(&lengths, &rule, blocks);
        Py_END_ALLOW_THREADS;
    }
    Py_XDECREF(totals);
    tb_clear_int_rows(&lengths);
    return arrays;
}

PyMethodDef tb_block_mask_methods[] = {
    {"block_mask", (PyCFunction)(void (*)(void))wrap_block_mask, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
