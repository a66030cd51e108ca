/* Which form each column has: a number for each token, a list, or a square. */
#include "core/base/memory.h"
#include "core/cast/cast.h"
#include "core/check/scan.h"
#include "core/check/story.h"

#include <string.h>

/* What a float that is neither 0 nor 1 becomes: a value that no mask has. */
enum { NO_MASK_VALUE = -1 };

/* Elements of all dimensions. They are in memory, so that their number is a size. */
static ptrdiff_t
count_elements(const tb_check_column *column)
{
    ptrdiff_t size = 1;

    for (int d = 0; d < column->ndim; d++) {
        if (column->shape[d] == 0) {
            return 0;
        }
    }
    for (int d = 0; d < column->ndim; d++) {
        size *= column->shape[d];
    }
    return size;
}

static void
widen_floats(const double *from, ptrdiff_t n, int64_t *to)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        to[i] = from[i] == 0 ? 0 : from[i] == 1 ? 1 : NO_MASK_VALUE;
    }
}

static void
widen_integers(const void *from, tb_type type, ptrdiff_t n, int64_t *to)
{
    if (type == TB_I32) {
        const int32_t *p = (const int32_t *)from;
        for (ptrdiff_t i = 0; i < n; i++) {
            to[i] = p[i];
        }
        return;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        to[i] = tb_read_element(from, type, i);
    }
}

const int64_t *
tb_widen(tb_check_column *column)
{
    static const int64_t nothing = 0;

    if (column->wide != NULL) {
        return column->wide;
    }
    if (column->size == 0) {
        return column->wide = &nothing; /* empty tensors have no memory */
    }
    if (column->type == TB_I64) {
        return column->wide = (const int64_t *)column->data;
    }
    int64_t *wide = (int64_t *)tb_allocate_array(column->size, sizeof *wide);
    if (wide == NULL) {
        return NULL;
    }
    if (tb_type_is_float(column->type)) {
        /* A double has as many bytes: the numbers are converted where they are. */
        ptrdiff_t bad;
        double *floats = (double *)tb_allocate_array(column->size, sizeof *floats);
        if (floats == NULL || tb_cast_elements(column->type, TB_F64, column->data,
                                               column->size, floats, &bad) != TB_OK) {
            free(floats);
            free(wide);
            return NULL;
        }
        widen_floats(floats, column->size, wide);
        free(floats);
    }
    else {
        widen_integers(column->data, column->type, column->size, wide);
    }
    column->owned = wide;
    return column->wide = wide;
}

/* Roles whose shape is the batch's, the most telling first. */
static const tb_role shapes[] = {TB_ROLE_IDS,
                                 TB_ROLE_MASK,
                                 TB_ROLE_POSITIONS,
                                 TB_ROLE_SEQ_IDX,
                                 TB_ROLE_SEGMENT_IDS,
                                 TB_ROLE_EMBEDS,
                                 TB_ROLE_SHIFTED_LABELS,
                                 TB_ROLE_LABELS,
                                 TB_ROLE_TARGETS,
                                 TB_ROLE_DECODER_LABELS,
                                 TB_ROLE_LOSS_MASK};

/* Whether a column alone says how many rows and tokens there are. */
static int
tells_shape(const tb_check_column *column)
{
    if (column->role == TB_ROLE_IDS) {
        return column->ndim >= 1;
    }
    if (column->role == TB_ROLE_EMBEDS) {
        return column->ndim == 3;
    }
    return column->ndim == 2 &&
           (column->role != TB_ROLE_POSITIONS || column->shape[0] > 0);
}

/* Ids [rows, choices, width] with a mask of the same shape: each choice is a row. */
static int
has_choices(const tb_check *check, const tb_check_column *ids)
{
    for (int i = 0; i < check->count; i++) {
        const tb_check_column *mask = &check->columns[i];
        if (ids->ndim == 3 && mask->role == TB_ROLE_MASK && mask->ndim == 3 &&
            memcmp(mask->shape, ids->shape, 3 * sizeof *ids->shape) == 0) {
            return 1;
        }
    }
    return 0;
}

/* Gives columns [rows, choices, width] the shape [rows * choices, width]. */
static void
flatten_choices(tb_check *check, const tb_check_column *ids)
{
    const ptrdiff_t shape[] = {ids->shape[0], ids->shape[1], ids->shape[2]};

    for (int i = 0; i < check->count; i++) {
        tb_check_column *column = &check->columns[i];
        if (column->ndim == 3 && memcmp(column->shape, shape, sizeof shape) == 0) {
            column->ndim = 2;
            column->shape[0] = shape[0] * shape[1];
            column->shape[1] = shape[2];
        }
    }
    check->choices = shape[1];
}

/* Whether a column is beside others' tokens: their boundaries may be these tokens' too. */
static int
is_lent(const tb_check *check, int i)
{
    return check->lent_from > 0 && i >= check->lent_from;
}

static void
find_grid(tb_check *check)
{
    check->grid_from = check->ids = -1;
    check->choices = 1;
    for (int i = 0; i < check->count; i++) {
        if (check->columns[i].role == TB_ROLE_IDS &&
            has_choices(check, &check->columns[i])) {
            flatten_choices(check, &check->columns[i]);
        }
    }
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        for (int i = 0; i < check->count; i++) {
            const tb_check_column *column = &check->columns[i];
            if (column->role == shapes[k] && !is_lent(check, i) &&
                tells_shape(column)) {
                check->grid_from = i;
                check->rows = column->ndim == 1 ? 1 : column->shape[0];
                check->width = column->shape[column->ndim == 1 ? 0 : 1];
                if (tb_multiply_sizes(check->rows, check->width, &check->total) ==
                    TB_OK) {
                    return;
                }
                check->grid_from = -1; /* of no elements: another dimension is 0 */
            }
        }
    }
}

static int
is_grid(const tb_check *check, const tb_check_column *column)
{
    return (column->ndim == 2 && column->shape[0] == check->rows &&
            column->shape[1] == check->width) ||
           (column->ndim == 1 && check->rows == 1 && column->shape[0] == check->width);
}

/* One row that stands for all, as models take positions. */
static int
is_broadcast(const tb_check *check, const tb_check_column *column)
{
    return (column->ndim == 1 || (column->ndim == 2 && column->shape[0] == 1)) &&
           column->size == check->width && check->width > 0;
}

/* Positions [rows, width, k], or [k, rows, width] as Qwen2-VL has them. */
static int
find_axes(const tb_check *check, tb_check_column *column)
{
    const ptrdiff_t *shape = column->shape;

    if (column->ndim != 3) {
        return 0;
    }
    if (shape[1] == check->rows && shape[2] == check->width) {
        column->axes = shape[0];
        column->axis_step = check->total;
        column->token_step = 1;
        return column->axes > 0;
    }
    if (shape[0] == check->rows && shape[1] == check->width) {
        column->axes = shape[2];
        column->axis_step = 1;
        column->token_step = shape[2];
        return column->axes > 0;
    }
    return 0;
}

/* [rows, heads, queries, keys], [heads, queries, keys] of one row, [rows, queries,
 * keys]. A mask of fewer queries or of other keys belongs to a cache. */
static int
is_square(const tb_check *check, const tb_check_column *column)
{
    int last = column->ndim - 1;

    return column->ndim >= 3 && column->ndim <= 4 && column->size > 0 &&
           column->shape[last] == check->width &&
           (column->shape[last - 1] == check->width || column->shape[last - 1] == 1) &&
           (column->shape[0] == check->rows || column->shape[0] == 1);
}

static int
holds_integers(const tb_check_column *column)
{
    return tb_type_is_integer(column->type) || column->type == TB_BOOL;
}

/* The form of a column that should have one number for each token. */
static tb_form
form_of_grid(tb_check *check, int i)
{
    tb_check_column *column = &check->columns[i];
    int is_mask = column->role == TB_ROLE_MASK;

    if (is_grid(check, column)) {
        return TB_FORM_GRID;
    }
    if (is_mask && is_square(check, column)) {
        return TB_FORM_SQUARE;
    }
    if (column->role == TB_ROLE_POSITIONS) {
        if (find_axes(check, column)) {
            return TB_FORM_AXES;
        }
        if (is_broadcast(check, column)) {
            column->row_step = 0;
            return TB_FORM_GRID;
        }
    }
    if (column->ndim == 2 || (column->ndim == 1 && check->rows == 1)) {
        tb_note(check, TB_FOUND_SHAPE, i, check->grid_from, -1, -1, column->shape[0],
                column->ndim == 2 ? column->shape[1] : -1);
    }
    return TB_FORM_NONE;
}

/* Labels: of tokens if they have the shape of the tokens, else of rows. */
static tb_form
form_of_labels(tb_check *check, tb_check_column *column)
{
    if (column->role != TB_ROLE_ROW_LABELS && is_grid(check, column) &&
        check->grid_from >= 0) {
        return TB_FORM_GRID;
    }
    if (column->role != TB_ROLE_SHIFTED_LABELS && column->ndim <= 2) {
        column->role = TB_ROLE_ROW_LABELS;
        return TB_FORM_LIST;
    }
    return TB_FORM_NONE;
}

/* Lengths of segments: a list for each row, or one list for all if there is one row. */
static tb_form
form_of_lengths(const tb_check *check, tb_check_column *column)
{
    if (check->rows == 1 && (column->ndim == 1 || column->ndim == 2)) {
        column->shape[0] = 1;
        column->shape[1] = column->size;
        return TB_FORM_LIST;
    }
    if (column->ndim == 1) {
        column->role = TB_ROLE_LENGTHS;
    }
    return column->ndim == 1 || column->ndim == 2 ? TB_FORM_LIST : TB_FORM_NONE;
}

static tb_form
form_of(tb_check *check, int i)
{
    tb_check_column *column = &check->columns[i];
    int is_float = !holds_integers(column);

    switch (column->role) {
        case TB_ROLE_IDS:
            return is_float ? TB_FORM_NONE : TB_FORM_GRID;
        case TB_ROLE_EMBEDS:
            return TB_FORM_NONE;
        case TB_ROLE_LABELS:
        case TB_ROLE_SHIFTED_LABELS:
        case TB_ROLE_TARGETS:
        case TB_ROLE_DECODER_LABELS:
        case TB_ROLE_ROW_LABELS:
            return is_float ? TB_FORM_NONE : form_of_labels(check, column);
        case TB_ROLE_BOUNDARIES:
        case TB_ROLE_PADDED_BOUNDARIES:
            return !is_float && (column->ndim == 1 ||
                                 (column->ndim == 2 && column->shape[0] == 1))
                       ? TB_FORM_LIST
                       : TB_FORM_NONE;
        case TB_ROLE_LONGEST:
            return !is_float && column->size == 1 ? TB_FORM_LIST : TB_FORM_NONE;
        case TB_ROLE_LENGTHS:
            return !is_float && column->ndim == 1 ? TB_FORM_LIST : TB_FORM_NONE;
        case TB_ROLE_SEQ_LENGTHS:
            return is_float ? TB_FORM_NONE : form_of_lengths(check, column);
        case TB_ROLE_POSITIONS:
        case TB_ROLE_SEQ_IDX:
        case TB_ROLE_SEGMENT_IDS:
            return is_float ? TB_FORM_NONE : form_of_grid(check, i);
        case TB_ROLE_LOSS_MASK:
            column->is_weights = is_float; /* which may be anything but all 0 */
            return is_float && !is_grid(check, column) ? TB_FORM_NONE
                                                       : form_of_grid(check, i);
        case TB_ROLE_MASK:
        case TB_ROLE_OTHER:
            break;
    }
    return column->type == TB_NUMPY_ONLY ? TB_FORM_NONE : form_of_grid(check, i);
}

/* Whether a lent column has the shape of the tokens: all rows in one, one after another. */
static int
may_fit(const tb_check *check, const tb_check_column *column)
{
    int is_list = column->role == TB_ROLE_BOUNDARIES ||
                  column->role == TB_ROLE_PADDED_BOUNDARIES ||
                  column->role == TB_ROLE_LONGEST;

    return check->rows == 1 && (is_list || is_grid(check, column));
}

/* Leaves out lent boundaries of another number of tokens, and the longest rows of them. */
static void
leave_out_lent(tb_check *check)
{
    for (int pass = 0; pass < 2 && check->lent_from > 0; pass++) {
        for (int i = check->lent_from; i < check->count; i++) {
            tb_check_column *column = &check->columns[i];
            if (column->form != TB_FORM_LIST) {
                continue;
            }
            int fits = pass == 0
                           ? column->role == TB_ROLE_LONGEST ||
                                 (column->size > 1 &&
                                  column->wide[column->size - 1] == check->total)
                           : column->role != TB_ROLE_LONGEST ||
                                 (column->partner >= 0 &&
                                  check->columns[column->partner].form == TB_FORM_LIST);
            if (!fits) {
                column->form = TB_FORM_NONE;
            }
        }
    }
}

/* What is read as raw memory, if it holds integers, is not widened. */
static int
is_read_raw(const tb_check_column *column)
{
    return column->form == TB_FORM_SQUARE ||
           (column->form == TB_FORM_GRID && holds_integers(column) &&
            (column->role == TB_ROLE_MASK || column->role == TB_ROLE_SEQ_IDX ||
             column->role == TB_ROLE_SEGMENT_IDS));
}

tb_status
tb_settle_forms(tb_check *check)
{
    for (int i = 0; i < check->count; i++) {
        check->columns[i].size = count_elements(&check->columns[i]);
        check->columns[i].form = TB_FORM_NONE;
    }
    find_grid(check);
    if (check->grid_from < 0) {
        return TB_OK;
    }
    for (int i = 0; i < check->count; i++) {
        tb_check_column *column = &check->columns[i];
        column->row_step = check->width;
        if (is_lent(check, i) && !may_fit(check, column)) {
            continue;
        }
        column->form = form_of(check, i);
        if (column->form == TB_FORM_NONE || column->role == TB_ROLE_OTHER) {
            column->form = TB_FORM_NONE;
            continue;
        }
        if (!is_read_raw(column)) {
            if (tb_widen(column) == NULL) {
                return TB_ERR_MEMORY;
            }
            column->data = column->wide;
            column->type = TB_I64;
        }
        if (column->role == TB_ROLE_IDS && check->ids < 0 &&
            column->size == check->total) {
            check->ids = i;
        }
    }
    leave_out_lent(check);
    return TB_OK;
}
