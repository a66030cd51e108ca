/* The whole test framework: CHECK counts, and main() ends with `return
 * check_report();`. */
#ifndef TB_CHECK_H
#define TB_CHECK_H

#include <stdio.h>
#include <stdlib.h>

static int checks_passed, checks_failed;

#define CHECK(condition)                                                    \
    do {                                                                    \
        if (condition) {                                                    \
            checks_passed++;                                                \
        }                                                                   \
        else {                                                              \
            checks_failed++;                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
        }                                                                   \
    } while (0)

/* Memory that runs out: the check_starve_at-th allocation from now on fails, once; 0: none
 * does. Where the Makefile calls check_malloc() what the core knows as malloc(). */
static long check_starve_at, check_allocations;

static inline void
check_starve(long at)
{
    check_starve_at = at;
    check_allocations = 0;
}

#ifdef CHECK_MEMORY
#    undef malloc
#    undef realloc
void *malloc(size_t size);
void *realloc(void *memory, size_t size);

void *
check_malloc(size_t size)
{
    return ++check_allocations == check_starve_at ? NULL : malloc(size);
}

void *
check_realloc(void *memory, size_t size)
{
    return ++check_allocations == check_starve_at ? NULL : realloc(memory, size);
}
#endif

static inline int
check_report(void)
{
    printf("%d passed, %d failed\n", checks_passed, checks_failed);
    return checks_failed != 0;
}

#endif
