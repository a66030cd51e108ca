#include "core/arrow/chunk.h"

#include "core/base/size.h"

#include <string.h>

/* --- arrays ----------------------------------------------------------------------- */

/* `buffers` buffers and `children` children, and sizes that can be added up. */
static tb_status
check_array(const tb_arrow_array *array, int64_t buffers, int64_t children,
            tb_arrow_fault *fault)
{
    if (array == NULL || array->release == NULL) {
        return tb_arrow_refuse(fault, -1, "has an array that was released");
    }
    if (array->length < 0 || array->offset < 0 ||
        array->length > INT64_MAX - array->offset || array->null_count < -1) {
        return tb_arrow_refuse(fault, -1, "has an array of negative or too large size");
    }
    if (array->n_buffers != buffers || (buffers > 0 && array->buffers == NULL) ||
        array->n_children != children || (children > 0 && array->children == NULL)) {
        return tb_arrow_refuse(
            fault, -1,
            "has an array with other buffers or children than those of its "
            "type");
    }
    return TB_OK;
}

static tb_arrow_valid
validity_of(const tb_arrow_array *array, ptrdiff_t first, ptrdiff_t count,
            ptrdiff_t elements)
{
    int none = array->null_count == 0 || array->n_buffers == 0;
    tb_arrow_valid valid = {none ? NULL : (const unsigned char *)array->buffers[0],
                            first, count, elements};
    return valid;
}

const tb_arrow_array *
tb_arrow_struct_child(const tb_arrow_array *array, ptrdiff_t child, ptrdiff_t children,
                      tb_arrow_fault *fault)
{
    if (check_array(array, 1, children, fault) != TB_OK) {
        return NULL;
    }
    const tb_arrow_array *column = array->children[child];
    if (column == NULL || column->length < array->offset + array->length) {
        (void)tb_arrow_refuse(fault, -1, "has fewer rows than its table");
        return NULL;
    }
    tb_arrow_valid valid = validity_of(array, array->offset, array->length, 1);
    if (tb_arrow_has_null(&valid)) {
        (void)tb_arrow_refuse(fault, -1, "is in a table that has null rows");
        return NULL;
    }
    return column;
}

/* The values: `size` positions from position `first` of `array` on, which has `nested`
 * levels of fixed-size lists above its numbers. */
static tb_status
read_values(const tb_arrow_kind *kind, const tb_arrow_array *array, ptrdiff_t first,
            ptrdiff_t size, tb_arrow_chunk *chunk, tb_arrow_fault *fault)
{
    ptrdiff_t elements = kind->positions, count = size;

    for (int d = 0;; d++) {
        int is_last = d == kind->ndim;
        tb_status status = check_array(array, is_last ? 2 : 1, is_last ? 0 : 1, fault);
        if (status != TB_OK) {
            return status;
        }
        if (first > array->length || count > array->length - first) {
            return tb_arrow_refuse(fault, -1, "has fewer values than its lists need");
        }
        first += array->offset;
        chunk->elements[d] = validity_of(array, first, count, elements);
        chunk->depths = d + 1;
        if (is_last) {
            break;
        }
        ptrdiff_t inner = kind->trailing[d];
        if (tb_multiply_sizes(first, inner, &first) != TB_OK ||
            tb_multiply_sizes(count, inner, &count) != TB_OK) {
            return tb_arrow_refuse(fault, -1, "has more values than can be addressed");
        }
        elements = inner == 0 ? 0 : elements / inner;
        array = array->children[0];
    }
    const char *values = (const char *)array->buffers[1];
    if (values == NULL && count > 0) {
        return tb_arrow_refuse(fault, -1, "has values but no buffer that holds them");
    }
    chunk->size = size;
    if (kind->store == TB_ARROW_BITS) {
        chunk->values = values;
        chunk->first_bit = first;
        return TB_OK;
    }
    ptrdiff_t at = 0, bytes = 0;
    if (tb_multiply_sizes(first, tb_type_size(kind->type), &at) != TB_OK ||
        tb_multiply_sizes(count, tb_type_size(kind->type), &bytes) != TB_OK ||
        at > PTRDIFF_MAX - bytes) {
        return tb_arrow_refuse(fault, -1, "has more values than can be addressed");
    }
    chunk->values = values == NULL ? NULL : values + at;
    return TB_OK;
}

/* Offsets may lie at any address. */
static int64_t
read_offset(const void *offsets, ptrdiff_t i, int wide)
{
    if (wide) {
        int64_t value;
        memcpy(&value, (const char *)offsets + i * 8, sizeof value);
        return value;
    }
    int32_t value;
    memcpy(&value, (const char *)offsets + i * 4, sizeof value);
    return value;
}

/* Text and bytes have their values in a third buffer. Only the last offset of the
 * whole array tells its length. */
static tb_status
read_byte_values(const tb_arrow_kind *kind, const tb_arrow_array *array,
                 tb_arrow_chunk *chunk, tb_arrow_fault *fault)
{
    int wide = kind->form == TB_ARROW_LIST64;

    chunk->values = array->buffers[2];
    chunk->size =
        chunk->count == 0 || chunk->offsets == NULL
            ? 0
            : read_offset(array->buffers[1], array->offset + array->length, wide);
    if (chunk->size < 0 || (chunk->size > 0 && chunk->values == NULL)) {
        return tb_arrow_refuse(fault, -1, "has values but no buffer that holds them");
    }
    return TB_OK;
}

/* Views, their buffers, and last the sizes of these. */
static tb_status
read_views(const tb_arrow_array *array, ptrdiff_t first, ptrdiff_t count,
           tb_arrow_chunk *chunk, tb_arrow_fault *fault)
{
    tb_arrow_views *views = &chunk->views;

    chunk->rows = validity_of(array, array->offset + first, count, 1);
    if (count > 0 && array->buffers[1] == NULL) {
        return tb_arrow_refuse(fault, -1, "has rows but no views");
    }
    if (count > 0) {
        views->views = (const char *)array->buffers[1] + (array->offset + first) * 16;
    }
    views->count = count;
    views->rows = chunk->rows;
    views->heap = (const void *const *)array->buffers + 2;
    views->heaps = array->n_buffers - 3;
    views->heap_sizes = array->buffers[array->n_buffers - 1];
    return tb_arrow_measure_views(views, &chunk->size, fault);
}

tb_status
tb_arrow_read_chunk(const tb_arrow_kind *kind, const tb_arrow_array *array,
                    ptrdiff_t first, ptrdiff_t count, tb_arrow_chunk *chunk,
                    tb_arrow_fault *fault)
{
    static const unsigned char buffers[] = {2, 2, 2, 3, 3, 1, 2};
    int wide = kind->form == TB_ARROW_LIST64 || kind->form == TB_ARROW_VIEW64;
    int is_bytes = kind->form != TB_ARROW_NUMBERS && !kind->has_child;
    int64_t expected = buffers[kind->form] + is_bytes;
    if (kind->form == TB_ARROW_STRINGS && array != NULL &&
        array->n_buffers > expected) {
        expected = array->n_buffers; /* any number */
    }
    tb_status status = check_array(array, expected, kind->has_child, fault);

    memset(chunk, 0, sizeof *chunk);
    if (status != TB_OK) {
        return status;
    }
    if (first > array->length || count > array->length - first) {
        return tb_arrow_refuse(fault, -1, "has fewer rows than its table");
    }
    chunk->count = count;
    if (kind->form == TB_ARROW_STRINGS) {
        return read_views(array, first, count, chunk, fault);
    }
    if (kind->form == TB_ARROW_NUMBERS) {
        status = read_values(kind, array, first, count, chunk, fault);
        chunk->rows = chunk->elements[0];
        chunk->depths = 0;
        return status;
    }
    first += array->offset;
    chunk->rows = validity_of(array, first, count, 1);
    if (kind->form == TB_ARROW_FIXED) {
        ptrdiff_t start, size;
        if (tb_multiply_sizes(first, kind->size, &start) != TB_OK ||
            tb_multiply_sizes(count, kind->size, &size) != TB_OK) {
            return tb_arrow_refuse(fault, -1, "has more values than can be addressed");
        }
        return read_values(kind, array->children[0], start, size, chunk, fault);
    }
    if (count > 0 && array->buffers[1] == NULL) {
        return tb_arrow_refuse(fault, -1, "has rows but no offsets");
    }
    if (count > 0) {
        chunk->offsets = (const char *)array->buffers[1] + first * (wide ? 8 : 4);
    }
    if (kind->form == TB_ARROW_VIEW32 || kind->form == TB_ARROW_VIEW64) {
        if (count > 0 && array->buffers[2] == NULL) {
            return tb_arrow_refuse(fault, -1, "has rows but no sizes");
        }
        chunk->sizes = count == 0
                           ? NULL
                           : (const char *)array->buffers[2] + first * (wide ? 8 : 4);
    }
    if (is_bytes) {
        return read_byte_values(kind, array, chunk, fault);
    }
    const tb_arrow_array *child = array->children[0];
    return read_values(kind, child, 0, child == NULL ? 0 : child->length, chunk, fault);
}

/* --- rows ------------------------------------------------------------------------- */

/* Row i is positions start to end of the values, or the offsets are wrong. */
static tb_status
find_row(const tb_arrow_kind *kind, const tb_arrow_chunk *chunk, ptrdiff_t i,
         int64_t *start, int64_t *length, tb_arrow_fault *fault)
{
    int wide = kind->form == TB_ARROW_LIST64 || kind->form == TB_ARROW_VIEW64;

    if (kind->form == TB_ARROW_FIXED) {
        *start = i * kind->size;
        *length = kind->size;
        return TB_OK;
    }
    *start = read_offset(chunk->offsets, i, wide);
    if (*start < 0 || *start > chunk->size) {
        return tb_arrow_refuse(fault, i, "has an offset outside the values");
    }
    if (chunk->sizes != NULL) {
        *length = read_offset(chunk->sizes, i, wide);
        if (*length < 0 || *length > chunk->size - *start) {
            return tb_arrow_refuse(fault, i, "has a size that goes past the values");
        }
        return TB_OK;
    }
    int64_t end = read_offset(chunk->offsets, i + 1, wide);
    if (end < *start) {
        return tb_arrow_refuse(fault, i, "has offsets that go backwards");
    }
    if (end > chunk->size) {
        return tb_arrow_refuse(fault, i, "has an offset past the values");
    }
    *length = end - *start;
    return TB_OK;
}

tb_status
tb_arrow_locate_rows(const tb_arrow_kind *kind, const tb_arrow_chunk *chunk,
                     ptrdiff_t base, int64_t *starts, int64_t *lengths,
                     tb_arrow_fault *fault)
{
    if (base > PTRDIFF_MAX - chunk->size) {
        return tb_arrow_refuse(fault, -1, "has more values than can be addressed");
    }
    for (ptrdiff_t i = 0; i < chunk->count; i++) {
        int64_t start = 0, length = 0;
        if (tb_arrow_is_valid(&chunk->rows, i)) {
            tb_status status = find_row(kind, chunk, i, &start, &length, fault);
            if (status != TB_OK) {
                return status;
            }
        }
        starts[i] = base + start;
        lengths[i] = length;
    }
    return TB_OK;
}
