#include "core/arrow/views.h"

#include <string.h>

/* A view is 16 bytes:
 *
 *      0       4             8            12           16
 *      | length | up to 12 bytes, the string itself    |    length <= 12
 *      | length | 4 of them   | buffer     | offset     |    longer
 *
 * Source: https://arrow.apache.org/docs/format/Columnar.html, "Variable-size Binary
 * View Layout"; how many bytes each buffer has is the array's last buffer. */

enum { VIEW = 16, INLINE = 12 };

typedef struct {
    int32_t length;
    int32_t buffer;
    int32_t offset;
} view;

/* Row i's view, and where its bytes are: NULL if it points outside the buffers. */
static const char *
find_bytes(const tb_arrow_views *views, ptrdiff_t i, view *out)
{
    const char *at = (const char *)views->views + i * VIEW;

    memcpy(&out->length, at, 4);
    memcpy(&out->buffer, at + 8, 4);
    memcpy(&out->offset, at + 12, 4);
    if (out->length < 0) {
        return NULL;
    }
    if (out->length <= INLINE) {
        return at + 4;
    }
    int64_t size;
    if (out->buffer < 0 || out->buffer >= views->heaps || views->heap_sizes == NULL) {
        return NULL;
    }
    memcpy(&size,
           (const char *)views->heap_sizes + out->buffer * (ptrdiff_t)sizeof size,
           sizeof size);
    const char *heap = (const char *)views->heap[out->buffer];
    if (heap == NULL || out->offset < 0 || out->length > size ||
        out->offset > size - out->length) {
        return NULL;
    }
    return heap + out->offset;
}

tb_status
tb_arrow_measure_views(const tb_arrow_views *views, ptrdiff_t *size,
                       tb_arrow_fault *fault)
{
    view row;

    *size = 0;
    for (ptrdiff_t i = 0; i < views->count; i++) {
        if (!tb_arrow_is_valid(&views->rows, i)) {
            continue;
        }
        if (find_bytes(views, i, &row) == NULL) {
            return tb_arrow_refuse(fault, i,
                                   "has a string view that points outside its buffers");
        }
        if (row.length > PTRDIFF_MAX - *size) {
            return tb_arrow_refuse(fault, i, "has more values than can be addressed");
        }
        *size += row.length;
    }
    return TB_OK;
}

void
tb_arrow_copy_views(const tb_arrow_views *views, ptrdiff_t size, ptrdiff_t base,
                    int64_t *starts, int64_t *lengths, char *out)
{
    ptrdiff_t at = 0;
    view row;

    for (ptrdiff_t i = 0; i < views->count; i++) {
        const char *bytes =
            tb_arrow_is_valid(&views->rows, i) ? find_bytes(views, i, &row) : NULL;
        /* Lengths are checked again: another thread may write to the buffer
         * meanwhile. */
        if (bytes == NULL || row.length > size - at) {
            row.length = 0;
        }
        else if (row.length > 0) {
            memcpy(out + at, bytes, (size_t)row.length);
        }
        starts[i] = base + at;
        lengths[i] = row.length;
        at += row.length;
    }
}
