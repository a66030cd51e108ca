/*
 * One chunk of an Arrow column, read where it lies.
 *
 * The interface does not give the sizes of buffers. So only structs can be checked
 * against each other: offsets against the length of the child that they point into.
 */
#ifndef TB_CHUNK_H
#define TB_CHUNK_H

#include "core/arrow/bits.h"
#include "core/arrow/kind.h"
#include "core/arrow/views.h"

typedef struct {
    ptrdiff_t count;     /* rows, or numbers */
    ptrdiff_t size;      /* positions in `values` */
    const void *values;  /* not of TB_ARROW_STRINGS */
    ptrdiff_t first_bit; /* TB_ARROW_BITS: of the first element in `values` */
    const void *offsets; /* of the first row */
    const void *sizes;   /* list views: of the first row */
    tb_arrow_views views;
    tb_arrow_valid rows; /* which rows, or numbers, are not null */
    /* Which elements are not null, at each depth from positions to elements. */
    tb_arrow_valid elements[TB_ARROW_MAX_TRAILING + 1];
    int depths;
} tb_arrow_chunk;

/* Finds where the rows `first` to first + count of an array of that kind lie,
 * counted from the array's own offset. */
TB_MUST_CHECK tb_status tb_arrow_read_chunk(const tb_arrow_kind *kind,
                                            const tb_arrow_array *array,
                                            ptrdiff_t first, ptrdiff_t count,
                                            tb_arrow_chunk *chunk,
                                            tb_arrow_fault *fault);

/* Writes the rows' starts and lengths in positions, int64 [count] each; starts count
 * from `base` on. A null row gets length 0. Every row is checked to lie within the
 * values. */
TB_MUST_CHECK tb_status tb_arrow_locate_rows(const tb_arrow_kind *kind,
                                             const tb_arrow_chunk *chunk,
                                             ptrdiff_t base, int64_t *starts,
                                             int64_t *lengths, tb_arrow_fault *fault);

/* A child of a struct, checked; NULL and a fault if there is none. */
TB_MUST_CHECK const tb_arrow_array *tb_arrow_struct_child(const tb_arrow_array *array,
                                                          ptrdiff_t child,
                                                          ptrdiff_t children,
                                                          tb_arrow_fault *fault);

#endif
