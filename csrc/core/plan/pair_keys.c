#include "core/plan/pair_keys.h"

#include "core/base/sort.h"

enum {
    EXACT_BITS = 6, /* kept of a length, behind its first bit */
    SIDE_BITS = 12  /* of a coordinate: 2**12 > (63 - EXACT_BITS + 1) << EXACT_BITS */
};

/* A logarithm, linear between powers of two. Lengths below 2**6 are themselves. */
static uint32_t
find_coordinate(int64_t length)
{
    int extra = tb_count_bits((uint64_t)length) - EXACT_BITS - 1;

    if (extra <= 0) {
        return (uint32_t)length;
    }
    return ((uint32_t)extra << EXACT_BITS) + (uint32_t)(length >> extra);
}

/* From the first bits to the last, the quarter that the point lies in; each quarter is
 * turned so that the curve leaves it where it enters the next. */
static int64_t
find_place(uint32_t x, uint32_t y)
{
    int64_t place = 0;

    for (uint32_t side = (uint32_t)1 << (SIDE_BITS - 1); side > 0; side >>= 1) {
        uint32_t right = (x & side) != 0, upper = (y & side) != 0;
        place += (int64_t)side * side * (int64_t)((3 * right) ^ upper);
        x &= side - 1;
        y &= side - 1;
        if (!upper) {
            uint32_t before = x;
            x = right ? side - 1 - y : y;
            y = right ? side - 1 - before : before;
        }
    }
    return place;
}

void
tb_find_pair_keys(const int64_t *pairs, ptrdiff_t n, int64_t *keys)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        keys[i] = find_place(find_coordinate(pairs[2 * i]),
                             find_coordinate(pairs[2 * i + 1]));
    }
}
