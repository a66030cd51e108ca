/* Arrow structures out of arbitrary bytes, read as the binding reads them. `make fuzz`
 * builds it with libFuzzer; test_arrow.c feeds it random bytes, under any compiler.
 *
 * Sizes of buffers are not part of Arrow's interface, so each buffer is exactly as
 * large as its array says; the rest of the fields may be anything. */
#include "core/arrow/chunk.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_ROWS = 40, MOST_DEPTH = 5, MOST_NODES = 16 };

typedef struct {
    const uint8_t *data;
    size_t left;
    tb_arrow_schema schemas[MOST_NODES];
    tb_arrow_array arrays[MOST_NODES];
    tb_arrow_schema *schema_children[MOST_NODES][2];
    tb_arrow_array *array_children[MOST_NODES][2];
    const void *buffers[MOST_NODES][4];
    char formats[MOST_NODES][24];
    int nodes;
    void *owned[MOST_NODES * 4];
    int blocks;
} fuzz;

static void
release_schema(tb_arrow_schema *schema)
{
    schema->release = NULL;
}

static void
release_array(tb_arrow_array *array)
{
    array->release = NULL;
}

static unsigned
next_byte(fuzz *f)
{
    if (f->left == 0) {
        return 0;
    }
    f->left--;
    return *f->data++;
}

/* Mostly small; now and then what no size should be. */
static int64_t
next_size(fuzz *f)
{
    static const int64_t odd[] = {-1, INT64_MIN, INT64_MAX, INT64_MAX - 3,
                                  INT64_MAX / 2};
    unsigned byte = next_byte(f);

    return byte < 240 ? (int64_t)(byte % MOST_ROWS) : odd[byte % 5];
}

static int
is_small(int64_t size)
{
    return size >= 0 && size <= 2 * MOST_ROWS;
}

/* Random contents; NULL where nothing that large can be, or now and then. */
static void *
new_buffer(fuzz *f, int64_t bytes)
{
    if (bytes < 0 || bytes > 1 << 16 || next_byte(f) > 250) {
        return NULL;
    }
    unsigned char *block = malloc((size_t)bytes + (bytes == 0));
    if (block == NULL) {
        abort();
    }
    for (int64_t i = 0; i < bytes; i++) {
        /* Small little-endian numbers are likely to be good offsets. */
        block[i] = (unsigned char)(i % 4 == 0 ? next_byte(f) % (MOST_ROWS + 2)
                                              : (next_byte(f) > 250 ? 0xFF : 0));
    }
    f->owned[f->blocks++] = block;
    return block;
}

static const char *
next_format(fuzz *f, int node)
{
    static const char *const formats[] = {
        "+l",   "+L", "+vl", "+vL",   "+w:2", "i", "l",  "c",   "g",
        "e",    "b",  "u",   "U",     "z",    "Z", "+s", "+w:", "",
        "+w:0", "n",  "vu",  "+w:-1", "tdD",  "f", "C",  "d:5", "+w:99999999999",
        "+w:3", "+m", "+",   "w",     "+w:1"};
    unsigned pick = next_byte(f);

    if (pick == 255) {
        return NULL;
    }
    const char *format = formats[pick % (sizeof formats / sizeof *formats)];
    memcpy(f->formats[node], format, strlen(format) + 1);
    return f->formats[node];
}

static int64_t
right_or_not(fuzz *f, int64_t right)
{
    return next_byte(f) > 245 ? next_size(f) : right;
}

static int
buffers_of(const char *format)
{
    if (format == NULL || format[0] == '\0' || format[0] == 'n') {
        return 0;
    }
    if (format[0] == 'v') {
        return 4;
    }
    if (strchr("uUzZ", format[0]) != NULL || strncmp(format, "+v", 2) == 0) {
        return 3;
    }
    return strncmp(format, "+w", 2) == 0 || strncmp(format, "+s", 2) == 0 ? 1 : 2;
}

/* A view's sizes; of text the bytes, as many as the last offset says. */
static void *
new_third(fuzz *f, const char *format, int node, const tb_arrow_array *array)
{
    int64_t end = array->length + array->offset, bytes = 0;
    const char *offsets = (const char *)f->buffers[node][1];

    if (format != NULL && format[0] == 'v') {
        int64_t *sizes = new_buffer(f, 8);
        f->buffers[node][3] = sizes;
        return sizes == NULL ? NULL : new_buffer(f, *sizes);
    }
    if (buffers_of(format) < 3 || offsets == NULL) {
        return NULL;
    }
    if (format[0] == '+') {
        return new_buffer(f, end * 8);
    }
    int wide = format[0] == 'U' || format[0] == 'Z';
    memcpy(&bytes, offsets + end * (wide ? 8 : 4), wide ? 8 : 4);
    return new_buffer(f, bytes);
}

/* A schema and an array for it, and its children: 1 where lists nest, 2 in a struct. */
static int
build(fuzz *f, int depth)
{
    int node = f->nodes++;
    tb_arrow_schema *schema = &f->schemas[node];
    tb_arrow_array *array = &f->arrays[node];
    const char *format = next_format(f, node);
    int nested = format != NULL && format[0] == '+';
    int children = !nested || depth == MOST_DEPTH ? 0 : format[1] == 's' ? 2 : 1;
    int buffers = buffers_of(format);

    schema->format = format;
    schema->name = next_byte(f) > 250 ? NULL : "column";
    schema->release = next_byte(f) > 252 ? NULL : release_schema;
    schema->dictionary = next_byte(f) > 252 ? schema : NULL;
    array->release = next_byte(f) > 252 ? NULL : release_array;
    array->length = next_size(f);
    array->offset = next_byte(f) > 200 ? next_size(f) : 0;
    array->null_count = next_byte(f) > 128 ? 0 : (int64_t)(next_byte(f) % 5) - 2;
    for (int i = 0; i < 2; i++) {
        int child = i < children && f->nodes < MOST_NODES ? build(f, depth + 1) : -1;
        int lost = child < 0 || next_byte(f) > 252;
        f->schema_children[node][i] = lost ? NULL : &f->schemas[child];
        f->array_children[node][i] = lost ? NULL : &f->arrays[child];
    }
    schema->n_children = right_or_not(f, children);
    array->n_children = right_or_not(f, children);
    schema->n_children = schema->n_children > 2 ? 2 : schema->n_children;
    array->n_children = array->n_children > 2 ? 2 : array->n_children;
    schema->children = next_byte(f) > 252 ? NULL : f->schema_children[node];
    array->children = next_byte(f) > 252 ? NULL : f->array_children[node];

    int64_t end = is_small(array->length) && is_small(array->offset)
                      ? array->length + array->offset
                      : -1;
    f->buffers[node][0] =
        end < 0 || next_byte(f) > 128 ? NULL : new_buffer(f, (end + 7) / 8);
    f->buffers[node][1] = end < 0 ? NULL : new_buffer(f, (end + 1) * 16);
    f->buffers[node][2] = end < 0 ? NULL : new_third(f, format, node, array);
    array->n_buffers = right_or_not(f, buffers);
    array->n_buffers = array->n_buffers > 4 ? 4 : array->n_buffers;
    array->buffers = next_byte(f) > 252 ? NULL : f->buffers[node];
    return node;
}

static volatile unsigned sink;

static void
touch(const void *bytes, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        sink += ((const unsigned char *)bytes)[i];
    }
}

static void
mark_nulls(const tb_arrow_valid *valid)
{
    ptrdiff_t n = valid->count * valid->elements;
    unsigned char *marks = calloc((size_t)n + 1, 1);

    if (marks != NULL) {
        tb_arrow_mark_nulls(valid, marks);
        sink += (unsigned)tb_arrow_has_null(valid) + marks[0];
    }
    free(marks);
}

/* What the binding does with a chunk. */
static void
use_chunk(const tb_arrow_kind *kind, const tb_arrow_chunk *chunk)
{
    tb_arrow_fault fault;
    int64_t starts[2 * MOST_ROWS], lengths[2 * MOST_ROWS];
    ptrdiff_t elements = chunk->size * kind->positions;

    mark_nulls(&chunk->rows);
    if (kind->form == TB_ARROW_STRINGS) {
        char *bytes = malloc((size_t)chunk->size + 1);
        if (bytes != NULL) {
            tb_arrow_copy_views(&chunk->views, chunk->size, 0, starts, lengths, bytes);
            touch(bytes, chunk->size);
        }
        free(bytes);
        return;
    }
    for (int d = 0; d < chunk->depths; d++) {
        mark_nulls(&chunk->elements[d]);
    }
    if (kind->store == TB_ARROW_BITS && elements > 0) {
        unsigned char *bytes = malloc((size_t)elements);
        if (bytes != NULL) {
            tb_arrow_unpack_bits(chunk->values, chunk->first_bit, elements, bytes);
        }
        free(bytes);
    }
    else {
        touch(chunk->values, elements * tb_type_size(kind->type));
    }
    if (kind->form != TB_ARROW_NUMBERS &&
        tb_arrow_locate_rows(kind, chunk, 0, starts, lengths, &fault) == TB_OK) {
        for (ptrdiff_t i = 0; i < chunk->count; i++) {
            if (starts[i] < 0 || lengths[i] < 0 ||
                starts[i] + lengths[i] > chunk->size) {
                abort();
            }
        }
    }
}

static void
read_column(const tb_arrow_schema *schema, const tb_arrow_array *array, int64_t first,
            int64_t count)
{
    tb_arrow_kind kind;
    tb_arrow_chunk chunk;
    tb_arrow_fault fault = {NULL, -1};

    if (tb_arrow_read_schema(schema, &kind, &fault) != TB_OK ||
        tb_arrow_read_chunk(&kind, array, first, count, &chunk, &fault) != TB_OK) {
        if (fault.reason == NULL) {
            abort(); /* a refusal says why */
        }
        return;
    }
    /* Larger ones fail when the binding allocates their rows. */
    if (is_small(chunk.count) && chunk.size <= 1 << 12 && kind.positions <= 64) {
        use_chunk(&kind, &chunk);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz f;
    tb_arrow_fault fault;

    memset(&f, 0, sizeof f);
    f.data = data;
    f.left = size;
    int root = build(&f, 0);
    const tb_arrow_schema *schema = &f.schemas[root];
    const tb_arrow_array *array = &f.arrays[root];
    if (array->release != NULL) {
        if (schema->format != NULL && strcmp(schema->format, "+s") == 0) {
            for (int i = 0; i < 2 && schema->children != NULL; i++) {
                const tb_arrow_array *child =
                    tb_arrow_struct_child(array, i, 2, &fault);
                if (child != NULL) {
                    read_column(schema->children[i], child, array->offset,
                                array->length);
                }
            }
        }
        else {
            read_column(schema, array, 0, array->length);
        }
    }
    for (int i = 0; i < f.blocks; i++) {
        free(f.owned[i]);
    }
    return 0;
}
