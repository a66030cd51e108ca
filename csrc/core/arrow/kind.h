/* What an Arrow schema says a column is. */
#ifndef TB_KIND_H
#define TB_KIND_H

#include "core/arrow/c_data.h"
#include "core/cast/type.h"

/* How the rows of a column lie in its values. */
typedef enum {
    TB_ARROW_NUMBERS, /* no rows: one number each */
    TB_ARROW_LIST32,  /* int32 offsets, one more than rows */
    TB_ARROW_LIST64,
    TB_ARROW_VIEW32, /* int32 offsets and sizes, one a row */
    TB_ARROW_VIEW64,
    TB_ARROW_FIXED,  /* rows of one length */
    TB_ARROW_STRINGS /* views of bytes that lie anywhere: copied one after another */
} tb_arrow_form;

enum { TB_ARROW_MAX_TRAILING = 16 };

/* How bools are stored. */
typedef enum {
    TB_ARROW_PLAIN, /* no bools: the elements are stored as their type is */
    TB_ARROW_BITS,  /* eight a byte */
    TB_ARROW_BYTES  /* one a byte, any but 0 is true: the extension type arrow.bool8 */
} tb_arrow_store;

/* The type of a column: rows of elements, each position of shape trailing[:ndim]. */
typedef struct {
    tb_arrow_form form;
    tb_type type;         /* of an element */
    tb_arrow_store store; /* other than PLAIN for TB_BOOL */
    int is_text;          /* the elements are bytes of UTF-8 */
    int has_child;        /* values are in a child array, not in the column's buffer */
    ptrdiff_t size;       /* TB_ARROW_FIXED: positions in a row */
    ptrdiff_t positions;  /* elements in a position: the product of `trailing` */
    int ndim;
    ptrdiff_t trailing[TB_ARROW_MAX_TRAILING];
} tb_arrow_kind;

/* TB_ERR_ARROW and a fault for a type that is not rows of numbers or text, and for a
 * malformed schema. */
TB_MUST_CHECK tb_status tb_arrow_read_schema(const tb_arrow_schema *schema,
                                             tb_arrow_kind *kind,
                                             tb_arrow_fault *fault);

/* The format of numbers of a type; NULL if Arrow has no such type. */
const char *tb_arrow_format(tb_type type);

#endif
