#include "core/base/stream.h"

#include "core/base/fill.h"
#include "core/base/macros.h"

#include <string.h>

#if TB_X86

#    include <emmintrin.h>

/* Only whole lines are streamed. A store of less than a line would be written to memory
 * by itself, which takes as long as several lines. A line that two rows share goes
 * through the cache. */
enum { LINE = 64 };

/* Bytes from dst to the next line, at most n. */
static size_t
bytes_to_line(const void *dst, size_t n)
{
    size_t head = (size_t)(-(intptr_t)dst & (LINE - 1));
    return head < n ? head : n;
}

void
tb_stream_copy(void *dst, const void *src, size_t n)
{
    char *to = (char *)dst;
    const char *from = (const char *)src;
    size_t head = bytes_to_line(to, n);

    memcpy(to, from, head);
    for (to += head, from += head, n -= head; n >= LINE;
         to += LINE, from += LINE, n -= LINE) {
        __m128i a = _mm_loadu_si128((const __m128i *)(const void *)from);
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(from + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(from + 32));
        __m128i d = _mm_loadu_si128((const __m128i *)(const void *)(from + 48));
        _mm_stream_si128((__m128i *)(void *)to, a);
        _mm_stream_si128((__m128i *)(void *)(to + 16), b);
        _mm_stream_si128((__m128i *)(void *)(to + 32), c);
        _mm_stream_si128((__m128i *)(void *)(to + 48), d);
    }
    memcpy(to, from, n);
}

void
tb_stream_fill(void *dst, ptrdiff_t n, int item_size, const unsigned char *value)
{
    char *to = (char *)dst;
    size_t left = (size_t)n * (size_t)item_size;
    size_t head = bytes_to_line(to, left);
    unsigned char pattern[LINE];

    if (head % (size_t)item_size != 0) {
        /* No element begins at the boundary, so the pattern would be out of step. */
        tb_fill_elements(dst, n, item_size, value);
        return;
    }
    for (int i = 0; i < LINE; i++) {
        pattern[i] = value[i % item_size];
    }
    __m128i stored = _mm_loadu_si128((const __m128i *)(const void *)pattern);
    memcpy(to, pattern, head);
    for (to += head, left -= head; left >= LINE; to += LINE, left -= LINE) {
        for (int i = 0; i < LINE; i += 16) {
            _mm_stream_si128((__m128i *)(void *)(to + i), stored);
        }
    }
    memcpy(to, pattern, left);
}

void
tb_stream_fence(void)
{
    _mm_sfence();
}

#else

void
tb_stream_copy(void *dst, const void *src, size_t n)
{
    memcpy(dst, src, n);
}

void
tb_stream_fill(void *dst, ptrdiff_t n, int item_size, const unsigned char *value)
{
    tb_fill_elements(dst, n, item_size, value);
}

void
tb_stream_fence(void)
{
}

#endif
