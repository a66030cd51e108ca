/* Memory for what lives no longer than a call. */
#ifndef TB_MEMORY_H
#define TB_MEMORY_H

#include "core/base/size.h"

#include <stdlib.h>

/* count * item_size bytes, to be freed by free(); NULL where there is no such memory.
 */
static inline void *
tb_allocate_array(ptrdiff_t count, size_t item_size)
{
    ptrdiff_t bytes = 0;

    if (tb_multiply_sizes(count, (ptrdiff_t)item_size, &bytes) != TB_OK) {
        return NULL;
    }
    return malloc(bytes > 0 ? (size_t)bytes : 1);
}

#endif
