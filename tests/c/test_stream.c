/* Streamed copies and fills at every place in a line: these bytes, and none beside. */
#include "core/base/fill.h"
#include "core/layout/pad.h"
#include "core/base/stream.h"
#include "check.h"

#include <stdlib.h>
#include <string.h>

enum { LINE = 64, MOST = 5 * LINE, SPACE = MOST + 3 * LINE, UNTOUCHED = 0xEE };

/* `space` is written from `at` on, `n` bytes: all others are as they were. */
static void
check_written(const unsigned char *space, size_t at, size_t n,
              const unsigned char *wanted)
{
    CHECK(memcmp(space + at, wanted, n) == 0);
    for (size_t i = 0; i < SPACE; i++) {
        CHECK((i >= at && i < at + n) || space[i] == UNTOUCHED);
    }
}

static void
check_copies(unsigned char *space, const unsigned char *source)
{
    for (size_t at = LINE; at < 2 * LINE; at++) {
        for (size_t n = 0; n <= MOST; n += n < 2 * LINE ? 1 : 7) {
            /* exactly n bytes, so that a sanitizer sees a read beyond them */
            unsigned char *exact = (unsigned char *)malloc(n + 1);
            if (exact == NULL) {
                abort();
            }
            memcpy(exact + 1, source + at % 5, n);
            memset(space, UNTOUCHED, SPACE);
            tb_stream_copy(space + at, exact + 1, n);
            tb_stream_fence();
            check_written(space, at, n, source + at % 5);
            free(exact);
        }
    }
}

static void
check_fills(unsigned char *space, const unsigned char *source)
{
    unsigned char wanted[MOST];

    for (int item_size = 1; item_size <= 16; item_size *= 2) {
        for (size_t i = 0; i < MOST; i++) {
            wanted[i] = source[i % (size_t)item_size];
        }
        /* where such elements may lie */
        size_t step = item_size < 8 ? (size_t)item_size : 8;
        for (size_t at = LINE; at < 2 * LINE; at += step) {
            for (ptrdiff_t n = 0; n * item_size <= MOST; n++) {
                memset(space, UNTOUCHED, SPACE);
                tb_stream_fill(space + at, n, item_size, source);
                tb_stream_fence();
                check_written(space, at, (size_t)(n * item_size), wanted);
            }
        }
    }
}

int
main(void)
{
    unsigned char source[MOST + 8];
    unsigned char *held = (unsigned char *)malloc(SPACE + LINE);

    if (held == NULL) {
        abort();
    }
    for (size_t i = 0; i < sizeof source; i++) {
        source[i] = (unsigned char)(i * 7 + 1);
    }
    unsigned char *space = held + (size_t)(-(intptr_t)held & (LINE - 1));
    check_copies(space, source);
    check_fills(space, source);
    free(held);
    return check_report();
}
