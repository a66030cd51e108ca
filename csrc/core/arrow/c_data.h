/*
 * The structs of the Arrow C data interface, and what is wrong with one.
 *
 * Source: "The Arrow C data interface" and "The Arrow C stream interface",
 * https://arrow.apache.org/docs/format/CDataInterface.html. The three structs have the
 * layout that these pages fix.
 */
#ifndef TB_C_DATA_H
#define TB_C_DATA_H

#include "core/base/macros.h"
#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

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

/* What is wrong, in words, and the row where there is one, else -1. */
typedef struct {
    const char *reason;
    ptrdiff_t row;
} tb_arrow_fault;

static inline tb_status
tb_arrow_refuse(tb_arrow_fault *fault, ptrdiff_t row, const char *reason)
{
    fault->reason = reason;
    fault->row = row;
    return TB_ERR_ARROW;
}

#endif
