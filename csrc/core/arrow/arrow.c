#include "core/arrow/arrow.h"

#include "core/base/size.h"

#include <limits.h>
#include <string.h>

static tb_status
refuse(tb_arrow_fault *fault, ptrdiff_t row, const char *reason)
{
    fault->reason = reason;
    fault->row = row;
    return TB_ERR_ARROW;
}

/* --- schemas ---------------------------------------------------------------------- */

static int
read_number_format(const char *format, tb_type *type)
{
    static const char codes[] = "bcsilCSILfge";
    static const unsigned char types[] = {TB_BOOL, TB_I8,  TB_I16, TB_I32,
                                          TB_I64,  TB_U8,  TB_U16, TB_U32,
                                          TB_U64,  TB_F32, TB_F64, TB_F16};
    const char *found = strchr(codes, format[0]);

    if (format[0] == '\0' || format[1] != '\0' || found == NULL) {
        return 0;
    }
    *type = (tb_type)types[found - codes];
    return 1;
}

static const char *
name_refused(const char *format)
{
    if (strncmp(format, "+s", 2) == 0) {
        return "holds structs; expected numbers, text or lists of numbers";
    }
    if (format[0] == 't') {
        return "holds dates or times; expected numbers, text or lists of numbers";
    }
    if (format[0] == 'd') {
        return "holds decimals; expected numbers, text or lists of numbers";
    }
    if (format[0] == 'n') {
        return "holds nothing but nulls; expected numbers, text or lists of numbers";
    }
    return "is of a type that is neither numbers, text nor lists of numbers";
}

/* The n of "+w:n"; -1 where there is none. */
static ptrdiff_t
read_fixed_size(const char *format)
{
    ptrdiff_t size = 0;
    const char *digit = format + 3;

    if (strncmp(format, "+w:", 3) != 0 || *digit == '\0') {
        return -1;
    }
    for (; *digit != '\0'; digit++) {
        if (*digit < '0' || *digit > '9' || size > INT32_MAX) {
            return -1;
        }
        size = size * 10 + (*digit - '0');
    }
    return size > INT32_MAX ? -1 : size;
}

static tb_status
check_schema(const tb_arrow_schema *schema, tb_arrow_fault *fault)
{
    if (schema == NULL || schema->release == NULL || schema->format == NULL) {
        return refuse(fault, -1, "has a schema that was released or is malformed");
    }
    if (schema->dictionary != NULL) {
        return refuse(fault, -1,
                      "is dictionary-encoded; decode it first (dictionary_decode())");
    }
    return TB_OK;
}

static tb_status
only_child(const tb_arrow_schema *schema, const tb_arrow_schema **child,
           tb_arrow_fault *fault)
{
    if (schema->n_children != 1 || schema->children == NULL) {
        return refuse(fault, -1, "is a list whose schema has not one child");
    }
    *child = schema->children[0];
    return check_schema(*child, fault);
}

/* What a list holds: numbers, or fixed-size lists of them, to any depth. */
static tb_status
read_elements(const tb_arrow_schema *schema, tb_arrow_kind *kind, tb_arrow_fault *fault)
{
    while (!read_number_format(schema->format, &kind->type)) {
        ptrdiff_t size = read_fixed_size(schema->format);
        if (size < 0) {
            return refuse(fault, -1,
                          schema->format[0] == '+' && schema->format[1] != 's'
                              ? "holds lists of lists of different lengths; expected "
                                "lists of numbers, or of fixed-size lists of them"
                              : "holds lists of something else than numbers");
        }
        if (kind->ndim == TB_ARROW_MAX_TRAILING) {
            return refuse(fault, -1, "is nested too deeply");
        }
        kind->trailing[kind->ndim++] = size;
        if (tb_multiply_sizes(kind->positions, size, &kind->positions) != TB_OK) {
            return refuse(fault, -1, "has positions of more elements than can be");
        }
        tb_status status = only_child(schema, &schema, fault);
        if (status != TB_OK) {
            return status;
        }
    }
    return TB_OK;
}

/* Bytes: a list of uint8 without a child. */
static int
read_bytes_format(const char *format, tb_arrow_kind *kind)
{
    int large = format[0] == 'U' || format[0] == 'Z';

    if (strcmp(format, "vu") == 0 || strcmp(format, "vz") == 0) {
        kind->form = TB_ARROW_STRINGS;
        kind->type = TB_U8;
        kind->is_text = format[1] == 'u';
        return 1;
    }
    if (format[0] == '\0' || strchr("uUzZ", format[0]) == NULL || format[1] != '\0') {
        return 0;
    }
    kind->form = large ? TB_ARROW_LIST64 : TB_ARROW_LIST32;
    kind->type = TB_U8;
    kind->is_text = format[0] == 'u' || format[0] == 'U';
    return 1;
}

tb_status
tb_arrow_read_schema(const tb_arrow_schema *schema, tb_arrow_kind *kind,
                     tb_arrow_fault *fault)
{
    static const struct {
        const char *format;
        tb_arrow_form form;
    } lists[] = {{"+l", TB_ARROW_LIST32},
                 {"+L", TB_ARROW_LIST64},
                 {"+vl", TB_ARROW_VIEW32},
                 {"+vL", TB_ARROW_VIEW64}};
    tb_status status = check_schema(schema, fault);
    int is_list = 0;

    memset(kind, 0, sizeof *kind);
    kind->positions = 1;
    if (status != TB_OK || read_number_format(schema->format, &kind->type) ||
        read_bytes_format(schema->format, kind)) {
        return status;
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        if (strcmp(schema->format, lists[i].format) == 0) {
            kind->form = lists[i].form;
            is_list = 1;
        }
    }
    kind->size = read_fixed_size(schema->format);
    if (kind->size >= 0) {
        kind->form = TB_ARROW_FIXED;
        is_list = 1;
    }
    if (!is_list) {
        return refuse(fault, -1, name_refused(schema->format));
    }
    kind->has_child = 1;
    status = only_child(schema, &schema, fault);
    return status == TB_OK ? read_elements(schema, kind, fault) : status;
}

/* --- arrays ----------------------------------------------------------------------- */

/* `buffers` buffers and `children` children, and sizes that can be added up. */
static tb_status
check_array(const tb_arrow_array *array, int64_t buffers, int64_t children,
            tb_arrow_fault *fault)
{
    if (array == NULL || array->release == NULL) {
        return refuse(fault, -1, "has an array that was released");
    }
    if (array->length < 0 || array->offset < 0 ||
        array->length > INT64_MAX - array->offset || array->null_count < -1) {
        return refuse(fault, -1, "has an array of negative or too large size");
    }
    if (array->n_buffers != buffers || (buffers > 0 && array->buffers == NULL) ||
        array->n_children != children || (children > 0 && array->children == NULL)) {
        return refuse(fault, -1,
                      "has an array whose buffers or children are not those of its "
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
        (void)refuse(fault, -1, "has fewer rows than its table");
        return NULL;
    }
    tb_arrow_valid valid = validity_of(array, array->offset, array->length, 1);
    if (tb_arrow_has_null(&valid)) {
        (void)refuse(fault, -1, "is in a table of which whole rows are null");
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
            return refuse(fault, -1, "has fewer values than its lists need");
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
            return refuse(fault, -1, "has more values than can be addressed");
        }
        elements = inner == 0 ? 0 : elements / inner;
        array = array->children[0];
    }
    const char *values = (const char *)array->buffers[1];
    if (values == NULL && count > 0) {
        return refuse(fault, -1, "has values but no buffer of them");
    }
    chunk->size = size;
    if (kind->type == TB_BOOL) {
        chunk->values = values;
        chunk->first_bit = first;
        return TB_OK;
    }
    ptrdiff_t at = 0, bytes = 0;
    if (tb_multiply_sizes(first, tb_type_size(kind->type), &at) != TB_OK ||
        tb_multiply_sizes(count, tb_type_size(kind->type), &bytes) != TB_OK ||
        at > PTRDIFF_MAX - bytes) {
        return refuse(fault, -1, "has more values than can be addressed");
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

/* Text and bytes have their values in a third buffer, whose length nothing but the last
 * offset of the whole array tells. */
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
        return refuse(fault, -1, "has values but no buffer of them");
    }
    return TB_OK;
}

/* Views, their buffers, and last how large these are. */
static tb_status
read_views(const tb_arrow_array *array, ptrdiff_t first, ptrdiff_t count,
           tb_arrow_chunk *chunk, tb_arrow_fault *fault)
{
    chunk->count = count;
    chunk->rows = validity_of(array, array->offset + first, count, 1);
    if (count > 0 && array->buffers[1] == NULL) {
        return refuse(fault, -1, "has rows but no views");
    }
    if (count > 0) {
        chunk->offsets = (const char *)array->buffers[1] + (array->offset + first) * 16;
    }
    chunk->heap = (const void *const *)array->buffers + 2;
    chunk->heaps = array->n_buffers - 3;
    chunk->heap_sizes = array->buffers[array->n_buffers - 1];
    return tb_arrow_measure_views(chunk, fault);
}

tb_status
tb_arrow_read_chunk(const tb_arrow_kind *kind, const tb_arrow_array *array,
                    ptrdiff_t first, ptrdiff_t count, tb_arrow_chunk *chunk,
                    tb_arrow_fault *fault)
{
    static const unsigned char buffers[] = {2, 2, 2, 3, 3, 1, 2};
    int wide = kind->form == TB_ARROW_LIST64 || kind->form == TB_ARROW_VIEW64;
    int is_bytes = kind->form != TB_ARROW_FLAT && !kind->has_child;
    int64_t expected = buffers[kind->form] + is_bytes;
    if (kind->form == TB_ARROW_STRINGS && array != NULL &&
        array->n_buffers > expected) {
        expected = array->n_buffers; /* as many as it likes */
    }
    tb_status status = check_array(array, expected, kind->has_child, fault);

    memset(chunk, 0, sizeof *chunk);
    if (status != TB_OK) {
        return status;
    }
    if (first > array->length || count > array->length - first) {
        return refuse(fault, -1, "has fewer rows than its table");
    }
    chunk->count = count;
    if (kind->form == TB_ARROW_STRINGS) {
        return read_views(array, first, count, chunk, fault);
    }
    if (kind->form == TB_ARROW_FLAT) {
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
            return refuse(fault, -1, "has more values than can be addressed");
        }
        return read_values(kind, array->children[0], start, size, chunk, fault);
    }
    if (count > 0 && array->buffers[1] == NULL) {
        return refuse(fault, -1, "has rows but no offsets");
    }
    if (count > 0) {
        chunk->offsets = (const char *)array->buffers[1] + first * (wide ? 8 : 4);
    }
    if (kind->form == TB_ARROW_VIEW32 || kind->form == TB_ARROW_VIEW64) {
        if (count > 0 && array->buffers[2] == NULL) {
            return refuse(fault, -1, "has rows but no sizes");
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
        return refuse(fault, i, "has an offset outside the values");
    }
    if (chunk->sizes != NULL) {
        *length = read_offset(chunk->sizes, i, wide);
        if (*length < 0 || *length > chunk->size - *start) {
            return refuse(fault, i, "has a size that goes past the values");
        }
        return TB_OK;
    }
    int64_t end = read_offset(chunk->offsets, i + 1, wide);
    if (end < *start) {
        return refuse(fault, i, "has offsets that go backwards");
    }
    if (end > chunk->size) {
        return refuse(fault, i, "has an offset past the values");
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
        return refuse(fault, -1, "has more values than can be addressed");
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

/* --- bits ------------------------------------------------------------------------- */

int
tb_arrow_has_null(const tb_arrow_valid *valid)
{
    ptrdiff_t i = 0;

    if (valid->bits == NULL) {
        return 0;
    }
    while (i < valid->count) {
        ptrdiff_t bit = valid->first + i;
        if ((bit & 7) == 0 && valid->count - i >= 8) {
            if (valid->bits[bit >> 3] != 0xFF) {
                return 1;
            }
            i += 8;
        }
        else {
            if (!tb_arrow_is_valid(valid, i)) {
                return 1;
            }
            i++;
        }
    }
    return 0;
}

void
tb_arrow_mark_nulls(const tb_arrow_valid *valid, unsigned char *out)
{
    for (ptrdiff_t i = 0; valid->bits != NULL && i < valid->count; i++) {
        if (!tb_arrow_is_valid(valid, i)) {
            memset(out + i * valid->elements, 1, (size_t)valid->elements);
        }
    }
}

void
tb_arrow_unpack_bits(const void *bits, ptrdiff_t first, ptrdiff_t count,
                     unsigned char *out)
{
    const unsigned char *bytes = (const unsigned char *)bits;

    for (ptrdiff_t i = 0; i < count; i++) {
        ptrdiff_t bit = first + i;
        out[i] = bytes[bit >> 3] >> (bit & 7) & 1;
    }
}
