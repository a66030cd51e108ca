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

/* The same for arrays that are read or written at random: of some MiB on, in huge pages,
 * where the system offers them. In pages of 4 KiB most accesses would look up an address
 * that the processor does not remember. */
void *tb_allocate_at_random(ptrdiff_t count, size_t item_size);

#endif
