/* Memory that is freed before the call returns. */
#ifndef TB_MEMORY_H
#define TB_MEMORY_H

#include "core/base/macros.h"
#include "core/base/size.h"

#include <stdlib.h>
#include <string.h>

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

/* TB_RESIZE(array, count): makes an array of malloc() longer, or shorter, and writes to
 * `array` where it is then. TB_ERR_MEMORY where memory is lacking: all is as before.
 * NULL is an empty array. */
#define TB_RESIZE(array, count) tb_resize_array(&(array), (count), sizeof *(array))

/* `pointer` is the address of a pointer, of any type. */
static inline TB_MUST_CHECK tb_status
tb_resize_array(void *pointer, ptrdiff_t count, size_t item_size)
{
    ptrdiff_t bytes = 0;
    void *array;

    if (tb_multiply_sizes(count, (ptrdiff_t)item_size, &bytes) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    memcpy(&array, pointer, sizeof array);
    array = realloc(array, bytes > 0 ? (size_t)bytes : 1);
    if (array == NULL) {
        return TB_ERR_MEMORY;
    }
    memcpy(pointer, &array, sizeof array);
    return TB_OK;
}

/* Allocates an array that is read or written at random: of some MiB on, in huge pages,
 * where the system offers them. In pages of 4 KiB most accesses would look up an address
 * that the processor does not remember. */
void *tb_allocate_at_random(ptrdiff_t count, size_t item_size);

#endif
