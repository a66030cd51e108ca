/*
 * Columns of the Arrow C data interface, read where they lie.
 *
 * Source: "The Arrow C data interface" and "The Arrow C stream interface",
 * https://arrow.apache.org/docs/format/CDataInterface.html. The three structs below
 * have the layout that these pages fix.
 *
 * The interface gives no sizes of buffers, so what can be checked is what one struct
 * says against another: offsets against the length of the child that they point into.
 */
#ifndef TB_ARROW_H
#define TB_ARROW_H

#include "core/cast/cast.h"

typedef struct tb_arrow_schema {
    const char *format;
    const char *name;
    const char *metadata;
    int64_t flags;
    int64_t n_children;
    struct tb_arrow_schema **children;
    struct tb_arrow_schema *dictionary;
    void (*release)(struct tb_arrow_schema *);
    void *private_data;
} tb_arrow_schema;

typedef struct tb_arrow_array {
    int64_t length;
    int64_t null_count;
    int64_t offset;
    int64_t n_buffers;
    int64_t n_children;
    const void **buffers;
    struct tb_arrow_array **children;
    struct tb_arrow_array *dictionary;
    void (*release)(struct tb_arrow_array *);
    void *private_data;
} tb_arrow_array;

typedef struct tb_arrow_stream {
    int (*get_schema)(struct tb_arrow_stream *, tb_arrow_schema *out);
    int (*get_next)(struct tb_arrow_stream *, tb_arrow_array *out);
    const char *(*get_last_error)(struct tb_arrow_stream *);
    void (*release)(struct tb_arrow_stream *);
    void *private_data;
} tb_arrow_stream;

/* How the rows of a column lie in its values. */
typedef enum {
    TB_ARROW_FLAT,   /* no rows: a number each */
    TB_ARROW_LIST32, /* int32 offsets, one more than rows */
    TB_ARROW_LIST64,
    TB_ARROW_VIEW32, /* int32 offsets and sizes, one a row */
    TB_ARROW_VIEW64,
    TB_ARROW_FIXED,  /* rows of one length */
    TB_ARROW_STRINGS /* views of bytes that lie anywhere: brought together in a copy */
} tb_arrow_form;

enum { TB_ARROW_MAX_TRAILING = 16 };

/* The type of a column: rows of elements, each position of shape trailing[:ndim]. */
typedef struct {
    tb_arrow_form form;
    tb_type type;   /* of an element; TB_BOOL: packed, eight a byte */
    int is_text;    /* the elements are bytes of UTF-8 */
    int has_child;  /* values are in a child array, not in a buffer of the column's own
                     */
    ptrdiff_t size; /* TB_ARROW_FIXED: positions in a row */
    ptrdiff_t positions; /* elements in a position: the product of `trailing` */
    int ndim;
    ptrdiff_t trailing[TB_ARROW_MAX_TRAILING];
} tb_arrow_kind;

/* Bits of a validity bitmap, from `first` on; bits NULL: everything is valid. */
typedef struct {
    const unsigned char *bits;
    ptrdiff_t first;
    ptrdiff_t count;
    ptrdiff_t elements; /* that each bit stands for */
} tb_arrow_valid;

/* One chunk of a column. */
typedef struct {
    ptrdiff_t count; /* rows; numbers where the form is FLAT */
    ptrdiff_t size;  /* positions in `values` */
    const void *values;
    ptrdiff_t first_bit; /* TB_BOOL: of the first element in `values` */
    const void *offsets; /* of the first row */
    const void *sizes;   /* views: of the first row */
    /* TB_ARROW_STRINGS: `offsets` are the views, and these what they point into. */
    const void *const *heap;
    int64_t heaps;
    const void *heap_sizes;
    tb_arrow_valid rows; /* whether a row is there; FLAT: whether a number is */
    /* Whether an element is there, at each depth from positions to elements. */
    tb_arrow_valid elements[TB_ARROW_MAX_TRAILING + 1];
    int depths;
} tb_arrow_chunk;

/* What is wrong, in words, and the row where there is one, else -1. */
typedef struct {
    const char *reason;
    ptrdiff_t row;
} tb_arrow_fault;

/* What a schema says a column is. TB_ERR_ARROW and a fault for a type that no row of
 * numbers or text is, and for a malformed schema. */
TB_MUST_CHECK tb_status tb_arrow_read_schema(const tb_arrow_schema *schema,
                                             tb_arrow_kind *kind,
                                             tb_arrow_fault *fault);

/* Where the rows `first` to first + count of an array of that kind lie (those of the
 * array's own offset on). */
TB_MUST_CHECK tb_status tb_arrow_read_chunk(const tb_arrow_kind *kind,
                                            const tb_arrow_array *array,
                                            ptrdiff_t first, ptrdiff_t count,
                                            tb_arrow_chunk *chunk,
                                            tb_arrow_fault *fault);

/* The rows' places, int64 [count] each: starts from `base` on, in positions. A row that
 * is not there gets length 0. Every row is checked to lie within the values. */
TB_MUST_CHECK tb_status tb_arrow_locate_rows(const tb_arrow_kind *kind,
                                             const tb_arrow_chunk *chunk,
                                             ptrdiff_t base, int64_t *starts,
                                             int64_t *lengths, tb_arrow_fault *fault);

/* TB_ARROW_STRINGS: how many bytes the rows have together, into chunk->size. Each view
 * is checked. */
TB_MUST_CHECK tb_status tb_arrow_measure_views(tb_arrow_chunk *chunk,
                                               tb_arrow_fault *fault);

/* And these bytes, chunk->size of them, into `out`; starts count from `base` on. */
void tb_arrow_copy_views(const tb_arrow_chunk *chunk, ptrdiff_t base, int64_t *starts,
                         int64_t *lengths, char *out);

static inline int
tb_arrow_is_valid(const tb_arrow_valid *valid, ptrdiff_t i)
{
    ptrdiff_t bit = valid->first + i;
    return valid->bits == NULL || (valid->bits[bit >> 3] >> (bit & 7) & 1);
}

/* Whether any of the bits is 0. */
int tb_arrow_has_null(const tb_arrow_valid *valid);

/* 1 where the bit is 0, else 0: `elements` bytes each bit. ORed into `out`. */
void tb_arrow_mark_nulls(const tb_arrow_valid *valid, unsigned char *out);

/* Bits as bytes of 0 and 1. */
void tb_arrow_unpack_bits(const void *bits, ptrdiff_t first, ptrdiff_t count,
                          unsigned char *out);

/* A child of a struct, checked: NULL and a fault where there is none. */
TB_MUST_CHECK const tb_arrow_array *tb_arrow_struct_child(const tb_arrow_array *array,
                                                          ptrdiff_t child,
                                                          ptrdiff_t children,
                                                          tb_arrow_fault *fault);

#endif
