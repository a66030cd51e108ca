/* Memory that is freed before the call returns. */
#ifndef TB_MEMORY_H
#define TB_MEMORY_H

#include "core/base/size.h"

#include <stdlib.h>

/* Allocates count * item_size bytes, for free(). NULL where that is too much. */
static inline void *
tb_allocate_array(ptrdiff_t count, size_t item_size)
{
    ptrdiff_t bytes = 0;

    if (tb_multiply_sizes(count, (ptrdiff_t)item_size, &bytes) != TB_OK) {
        return NULL;
    }
    return malloc(bytes > 0 ? (size_t)bytes : 1);
}

/* Makes an array longer, or shorter; 0, or -1 where memory is lacking: it is as before
 * then. NULL is an empty array. */
static inline int
tb_resize_array(void **array, ptrdiff_t count, size_t item_size)
{
    ptrdiff_t bytes = 0;

    if (tb_multiply_sizes(count, (ptrdiff_t)item_size, &bytes) != TB_OK) {
        return -1;
    }
    void *moved = realloc(*array, bytes > 0 ? (size_t)bytes : 1);
    if (moved == NULL) {
        return -1;
    }
    *array = moved;
    return 0;
}

/* Allocates an array that is read or written at random: of some MiB on, in huge pages,
 * where the system offers them. In pages of 4 KiB most accesses would look up an address
 * that the processor does not remember. */
void *tb_allocate_at_random(ptrdiff_t count, size_t item_size);

#endif
