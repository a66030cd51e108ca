#if defined(__linux__)
#    define _DEFAULT_SOURCE /* madvise() */
#    include <sys/mman.h>
#endif

#include "core/base/memory.h"

enum { HUGE_PAGE = 1 << 21 };

void *
tb_allocate_at_random(ptrdiff_t count, size_t item_size)
{
    char *memory = (char *)tb_allocate_array(count, item_size);

#if defined(__linux__) && defined(MADV_HUGEPAGE)
    /* The product fits, or there would be no memory. */
    size_t bytes = (size_t)count * item_size;
    if (memory != NULL && bytes >= 2 * (size_t)HUGE_PAGE) {
        size_t skipped =
            (HUGE_PAGE - (size_t)((uintptr_t)memory % HUGE_PAGE)) % HUGE_PAGE;
        size_t whole = (bytes - skipped) / HUGE_PAGE * HUGE_PAGE;
        /* Advice: where it is not taken, all is as before. */
        (void)madvise(memory + skipped, whole, MADV_HUGEPAGE);
    }
#endif
    return memory;
}
