/* The whole test framework: CHECK counts, and main() ends with `return
 * check_report();`. */
#ifndef TB_CHECK_H
#define TB_CHECK_H

#include <stdio.h>

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

static inline int
check_report(void)
{
    printf("%d passed, %d failed\n", checks_passed, checks_failed);
    return checks_failed != 0;
}

#endif
