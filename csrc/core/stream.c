#include "stream.h"

#include "pad.h"

#include <string.h>

#if defined(__x86_64__) || defined(_M_X64)

#    include <emmintrin.h>

/* Bytes from dst to the next multiple of 16, at most n. */
static size_t
bytes_to_boundary(const void *dst, size_t n)
{
    size_t head = (size_t)(-(intptr_t)dst & 15);
    return head < n ? head : n;
}

void
tb_stream_copy(void *dst, const void *src, size_t n)
{
    char *to = (char *)dst;
    const char *from = (const char *)src;
    size_t head = bytes_to_boundary(to, n);

    memcpy(to, from, head);
    for (to += head, from += head, n -= head; n >= 64; to += 64, from += 64, n -= 64) {
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
    size_t head = bytes_to_boundary(to, left);
    unsigned char pattern[16];

    if (head % (size_t)item_size != 0) {
        /* No element begins at the boundary, so the pattern would be out of step. */
        tb_fill_elements(dst, n, item_size, value);
        return;
    }
    for (int i = 0; i < 16; i++) {
        pattern[i] = value[i % item_size];
    }
    __m128i stored = _mm_loadu_si128((const __m128i *)(const void *)pattern);
    memcpy(to, pattern, head);
    for (to += head, left -= head; left >= 16; to += 16, left -= 16) {
        _mm_stream_si128((__m128i *)(void *)to, stored);
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
