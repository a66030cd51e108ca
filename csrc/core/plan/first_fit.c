#include "core/plan/first_fit.h"

#include "core/base/memory.h"
#include "core/base/random.h"
#include "core/plan/lanes.h"
#include "core/plan/limits.h"

#include <string.h>

enum {
    DIGIT_BITS = 4,
    BRANCHES = 1 << DIGIT_BITS,
    DIGIT_MASK = BRANCHES - 1,
    WORDS = BRANCHES / TB_LANES
};

tb_status
tb_start_first_fit(tb_first_fit *fit, const tb_limits *limits, ptrdiff_t most)
{
    ptrdiff_t blocks = most, numbers = 0;

    memset(fit, 0, sizeof *fit);
    fit->limits = limits;
    fit->width = limits->count + (limits->max_rows != INT64_MAX);
    for (ptrdiff_t k = 0; k < limits->count; k++) {
        fit->shifts[k] = tb_find_lane_shift(limits->all[k].cap);
    }
    fit->shifts[limits->count] = tb_find_lane_shift(limits->max_rows);
    fit->is_exact = 1;
    for (ptrdiff_t k = 0; k < fit->width; k++) {
        fit->is_exact = fit->is_exact && fit->shifts[k] == 0;
    }
    fit->rows = (uint32_t *)tb_allocate_array(most, sizeof *fit->rows);
    if (fit->rows == NULL ||
        tb_multiply_sizes(most, limits->count, &numbers) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    fit->costs = (int64_t *)tb_allocate_array(numbers, sizeof *fit->costs);
    if (fit->costs == NULL) {
        return TB_ERR_MEMORY;
    }
    do {
        blocks = (ptrdiff_t)tb_divide_up(blocks, BRANCHES);
        if (fit->levels == TB_FIRST_FIT_LEVELS ||
            tb_multiply_sizes(blocks, WORDS * fit->width, &numbers) != TB_OK) {
            return TB_ERR_SIZE;
        }
        uint64_t *rooms = (uint64_t *)tb_allocate_array(numbers, sizeof *rooms);
        if (rooms == NULL) {
            return TB_ERR_MEMORY;
        }
        fit->rooms[fit->levels++] = rooms;
    } while (blocks > 1);
    return TB_OK;
}

void
tb_restart_first_fit(tb_first_fit *fit)
{
    fit->count = 0;
}

void
tb_free_first_fit(tb_first_fit *fit)
{
    for (int level = 0; level < fit->levels; level++) {
        free(fit->rooms[level]);
    }
    free(fit->costs);
    free(fit->rows);
    memset(fit, 0, sizeof *fit);
}

static uint64_t *
find_block(const tb_first_fit *fit, int level, ptrdiff_t block)
{
    return fit->rooms[level] + block * fit->width * WORDS;
}

static uint16_t
read_lane(const uint64_t *words, ptrdiff_t lane)
{
    return (uint16_t)(words[lane / TB_LANES] >> (lane % TB_LANES * TB_LANE_BITS));
}

static void
write_lane(uint64_t *words, ptrdiff_t lane, uint16_t value)
{
    int shift = (int)(lane % TB_LANES) * TB_LANE_BITS;
    uint64_t *word = &words[lane / TB_LANES];

    *word = (*word & ~((uint64_t)UINT16_MAX << shift)) | (uint64_t)value << shift;
}

/* Which branches of a block have room for a row, by every limit on its own. */
static TB_ALWAYS_INLINE uint32_t
find_branches_of(const uint64_t *block, const uint64_t *needs, ptrdiff_t width)
{
    uint64_t tops[WORDS];
    uint32_t found = 0;

    for (int j = 0; j < WORDS; j++) {
        tops[j] = tb_compare_lanes(block[j], needs[0]);
    }
    for (ptrdiff_t k = 1; k < width; k++) {
        block += WORDS;
        for (int j = 0; j < WORDS; j++) {
            tops[j] &= tb_compare_lanes(block[j], needs[k]);
        }
    }
    for (int j = 0; j < WORDS; j++) {
        /* The first bits of the four lanes, side by side: each of them times a power of
         * two of its own goes to bits 48 to 51, and nothing else does. */
        uint64_t ones = tops[j] >> (TB_LANE_BITS - 1);
        found |= (uint32_t)(ones * UINT64_C(0x0001000200040008) >> 48 & 15)
                 << (j * TB_LANES);
    }
    return found;
}

/* The same; two limits, which are most plans, without a loop. */
static uint32_t
find_branches(const uint64_t *block, const uint64_t *needs, ptrdiff_t width)
{
    return width == 2 ? find_branches_of(block, needs, 2)
                      : find_branches_of(block, needs, width);
}

/* Whether the pack has room indeed. */
static int
has_room(const tb_first_fit *fit, ptrdiff_t pack, ptrdiff_t row)
{
    const tb_limits *limits = fit->limits;
    const int64_t *costs = fit->costs + pack * limits->count;

    for (ptrdiff_t k = 0; k < limits->count; k++) {
        const tb_limit *limit = &limits->all[k];
        if (limit->costs[row] > tb_find_room(limit, costs[k], fit->rows[pack])) {
            return 0;
        }
    }
    return fit->rows[pack] < limits->max_rows;
}

/* The first pack with room, or -1. */
static ptrdiff_t
find_first(const tb_first_fit *fit, const uint64_t *needs, ptrdiff_t row)
{
    uint32_t left[TB_FIRST_FIT_LEVELS]; /* branches still to be tried, by level */
    ptrdiff_t block = 0;
    int top = 0, level;

    while (fit->count > (ptrdiff_t)1 << ((top + 1) * DIGIT_BITS)) {
        top++;
    }
    level = top;
    left[level] = find_branches(find_block(fit, level, 0), needs, fit->width);
    for (;;) {
        while (left[level] == 0) {
            if (level == top) {
                return -1;
            }
            block >>= DIGIT_BITS;
            level++;
        }
        int branch = tb_find_lowest_bit(left[level]);
        left[level] &= left[level] - 1;
        if (level == 0) {
            ptrdiff_t pack = block << DIGIT_BITS | branch;
            if (fit->is_exact || has_room(fit, pack, row)) {
                return pack;
            }
            continue;
        }
        block = block << DIGIT_BITS | branch;
        level--;
        left[level] = find_branches(find_block(fit, level, block), needs, fit->width);
    }
}

static uint16_t
find_most(const uint64_t *words)
{
    uint16_t most = 0;

    for (ptrdiff_t j = 0; j < BRANCHES; j++) {
        uint16_t lane = read_lane(words, j);
        most = lane > most ? lane : most;
    }
    return most;
}

/* Tells the tree of a pack's room by one limit: at each level, that of the branch with
 * the most. */
static void
write_room(tb_first_fit *fit, ptrdiff_t pack, ptrdiff_t limit, int64_t room)
{
    uint16_t lane = tb_make_lane(room, fit->shifts[limit]);

    for (int level = 0; level < fit->levels; level++) {
        ptrdiff_t block = pack >> DIGIT_BITS, branch = pack & DIGIT_MASK;
        uint64_t *words = find_block(fit, level, block) + limit * WORDS;
        uint16_t before = read_lane(words, branch);
        write_lane(words, branch, lane);
        if (level + 1 == fit->levels) {
            return;
        }
        uint16_t most =
            read_lane(find_block(fit, level + 1, block >> DIGIT_BITS) + limit * WORDS,
                      block & DIGIT_MASK);
        if (lane <= most && (before < most || before == lane)) {
            return; /* another branch has the most, as before */
        }
        lane = lane > most ? lane : find_most(words);
        pack = block;
    }
}

/* A block gets no room when its first branch begins. */
static ptrdiff_t
begin_pack(tb_first_fit *fit)
{
    ptrdiff_t pack = fit->count++, at = pack;

    for (int level = 0; level < fit->levels && (at & DIGIT_MASK) == 0; level++) {
        memset(find_block(fit, level, at >> DIGIT_BITS), 0,
               (size_t)fit->width * WORDS * sizeof(uint64_t));
        at >>= DIGIT_BITS;
    }
    fit->rows[pack] = 0;
    memset(fit->costs + pack * fit->limits->count, 0,
           (size_t)fit->limits->count * sizeof *fit->costs);
    return pack;
}

ptrdiff_t
tb_put_first_fit(tb_first_fit *fit, ptrdiff_t row)
{
    const tb_limits *limits = fit->limits;
    uint64_t needs[TB_MOST_LIMITS + 1];

    for (ptrdiff_t k = 0; k < limits->count; k++) {
        needs[k] =
            tb_fill_lanes(tb_make_lane(limits->all[k].costs[row], fit->shifts[k]));
    }
    needs[limits->count] = tb_fill_lanes(tb_make_lane(1, fit->shifts[limits->count]));
    ptrdiff_t pack = fit->count > 0 ? find_first(fit, needs, row) : -1;
    if (pack < 0) {
        pack = begin_pack(fit);
    }
    int64_t *costs = fit->costs + pack * limits->count, rows = ++fit->rows[pack];
    for (ptrdiff_t k = 0; k < limits->count; k++) {
        int64_t cost = limits->all[k].costs[row];
        costs[k] = limits->all[k].is_padded ? tb_max(costs[k], cost) : costs[k] + cost;
        write_room(fit, pack, k, tb_find_room(&limits->all[k], costs[k], rows));
    }
    if (fit->width > limits->count) {
        write_room(fit, pack, limits->count, limits->max_rows - rows);
    }
    return pack;
}
