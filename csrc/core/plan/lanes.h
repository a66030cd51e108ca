/*
 * Costs and rooms, rounded down to 15 bits, four of them in a word: one subtraction
 * compares all four (L. Lamport, "Multiple byte processing with full-word instructions",
 * 1975). A row that fits fits by these too; the other way round it must be asked again.
 *
 *     a lane of rooms    1 r r r r r r r r r r r r r r r
 *   - a lane of costs    0 c c c c c c c c c c c c c c c
 *     the first bit stays where the room is at least the cost
 */
#ifndef TB_LANES_H
#define TB_LANES_H

#include "core/base/sort.h"

enum { TB_LANES = 4, TB_LANE_BITS = 16 };

#define TB_LANE_TOPS UINT64_C(0x8000800080008000)
#define TB_LANE_ONES UINT64_C(0x0001000100010001)

/* By how much numbers up to `cap` are shifted, so that one more fits into 15 bits. */
static inline int
tb_find_lane_shift(int64_t cap)
{
    int bits = tb_count_bits((uint64_t)cap) - 14;

    return bits > 0 ? bits : 0;
}

/* A cost, or a room: 0 where that is -1, for which no cost is small enough. */
static inline uint16_t
tb_make_lane(int64_t number, int shift)
{
    return (uint16_t)(number < 0 ? 0 : (number >> shift) + 1);
}

static inline uint64_t
tb_fill_lanes(uint16_t lane)
{
    return lane * TB_LANE_ONES;
}

/* The first bit of each lane: whether the room is at least the cost. */
static inline uint64_t
tb_compare_lanes(uint64_t rooms, uint64_t costs)
{
    return ((rooms | TB_LANE_TOPS) - costs) & TB_LANE_TOPS;
}

#endif
