/* Arithmetic with sizes, which are never negative. Functions that may overflow
 * return a status. */
#ifndef TB_SIZE_H
#define TB_SIZE_H

#include "core/base/status.h"

static inline int64_t
tb_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t
tb_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* a * b, or TB_ERR_SIZE. */
static inline tb_status
tb_multiply_sizes(ptrdiff_t a, ptrdiff_t b, ptrdiff_t *product)
{
    if (a != 0 && b > PTRDIFF_MAX / a) {
        return TB_ERR_SIZE;
    }
    *product = a * b;
    return TB_OK;
}

/* n / size, rounded up; size >= 1. */
static inline int64_t
tb_divide_up(int64_t n, int64_t size)
{
    return n / size + (n % size != 0);
}

/* What must be added to n to make it a multiple of `multiple`; 0 if that is 1 or
 * less. */
static inline int64_t
tb_find_missing(int64_t n, int64_t multiple)
{
    int64_t rest = multiple > 1 ? n % multiple : 0;

    return rest == 0 ? 0 : multiple - rest;
}

/* n rounded up to a multiple of `multiple`, or TB_ERR_SIZE. */
static inline tb_status
tb_round_up(int64_t n, int64_t multiple, int64_t *rounded)
{
    int64_t missing = tb_find_missing(n, multiple);

    if (n > INT64_MAX - missing) {
        return TB_ERR_SIZE;
    }
    *rounded = n + missing;
    return TB_OK;
}

/* The place of the first of `count` ascending numbers that is at least n; `count` where
 * there is none. */
static inline ptrdiff_t
tb_find_at_least(const int64_t *ascending, ptrdiff_t count, int64_t n)
{
    ptrdiff_t low = 0, high = count;

    while (low < high) {
        ptrdiff_t middle = low + (high - low) / 2;
        if (ascending[middle] < n) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

/* That number itself; -1 where there is none. */
static inline int64_t
tb_find_boundary(const int64_t *boundaries, ptrdiff_t count, int64_t n)
{
    ptrdiff_t place = tb_find_at_least(boundaries, count, n);

    return place < count ? boundaries[place] : -1;
}

#endif
