#include "core/plan/first_fit.h"

#include "core/base/memory.h"
#include "core/base/random.h"
#include "core/plan/limits.h"

#include <string.h>

enum { DIGIT_BITS = 4, BRANCHES = 1 << DIGIT_BITS, DIGIT_MASK = BRANCHES - 1 };

tb_status
tb_start_first_fit(tb_first_fit *fit, const tb_limits *limits, ptrdiff_t most)
{
    ptrdiff_t blocks = most, numbers = 0;

    memset(fit, 0, sizeof *fit);
    fit->limits = limits;
    fit->width = limits->count + (limits->max_rows != INT64_MAX);
    fit->most = most;
    fit->rows = (uint32_t *)tb_allocate_array(most, sizeof *fit->rows);
    if (fit->rows == NULL || tb_multiply_sizes(most, limits->count, &numbers) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    fit->costs = (int64_t *)tb_allocate_array(numbers, sizeof *fit->costs);
    if (fit->costs == NULL) {
        return TB_ERR_MEMORY;
    }
    do {
        blocks = (ptrdiff_t)tb_divide_up(blocks, BRANCHES);
        if (fit->levels == TB_FIRST_FIT_LEVELS ||
            tb_multiply_sizes(blocks, BRANCHES * fit->width, &numbers) != TB_OK) {
            return TB_ERR_SIZE;
        }
        int64_t *rooms = (int64_t *)tb_allocate_array(numbers, sizeof *rooms);
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

static int64_t *
find_block(const tb_first_fit *fit, int level, ptrdiff_t block)
{
    return fit->rooms[level] + block * fit->width * BRANCHES;
}

/* Which branches of a block have room for a row, by every limit on its own. */
static uint32_t
find_branches(const int64_t *block, const int64_t *needs, ptrdiff_t width)
{
    uint32_t found = 0;

    for (int j = 0; j < BRANCHES; j++) {
        found |= (uint32_t)(block[j] >= needs[0]) << j;
    }
    for (ptrdiff_t k = 1; k < width && found != 0; k++) {
        uint32_t own = 0;
        block += BRANCHES;
        for (int j = 0; j < BRANCHES; j++) {
            own |= (uint32_t)(block[j] >= needs[k]) << j;
        }
        found &= own;
    }
    return found;
}

/* The first pack with these rooms, or -1. */
static ptrdiff_t
find_first(const tb_first_fit *fit, const int64_t *needs)
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
        block = block << DIGIT_BITS | branch;
        if (level == 0) {
            return block;
        }
        level--;
        left[level] = find_branches(find_block(fit, level, block), needs, fit->width);
    }
}

/* Tells the tree of a pack's room, one limit at a time. */
static void
write_room(tb_first_fit *fit, ptrdiff_t pack, ptrdiff_t limit, int64_t room)
{
    for (int level = 0; level < fit->levels; level++) {
        int64_t *block =
            find_block(fit, level, pack >> DIGIT_BITS) + limit * BRANCHES;
        int64_t most = -1;
        if (block[pack & DIGIT_MASK] == room) {
            return;
        }
        block[pack & DIGIT_MASK] = room;
        for (int j = 0; j < BRANCHES; j++) {
            most = block[j] > most ? block[j] : most;
        }
        room = most;
        pack >>= DIGIT_BITS;
    }
}

/* A block gets no room when its first branch begins. */
static ptrdiff_t
begin_pack(tb_first_fit *fit)
{
    ptrdiff_t pack = fit->count++, at = pack;

    for (int level = 0; level < fit->levels && (at & DIGIT_MASK) == 0; level++) {
        int64_t *block = find_block(fit, level, at >> DIGIT_BITS);
        for (ptrdiff_t j = 0; j < fit->width * BRANCHES; j++) {
            block[j] = -1;
        }
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
    int64_t needs[TB_MOST_LIMITS + 1];

    for (ptrdiff_t k = 0; k < limits->count; k++) {
        needs[k] = limits->all[k].costs[row];
    }
    needs[limits->count] = 1;
    ptrdiff_t pack = fit->count > 0 ? find_first(fit, needs) : -1;
    if (pack < 0) {
        pack = begin_pack(fit);
    }
    int64_t *costs = fit->costs + pack * limits->count, rows = ++fit->rows[pack];
    for (ptrdiff_t k = 0; k < limits->count; k++) {
        costs[k] = limits->all[k].is_padded ? tb_max(costs[k], needs[k])
                                            : costs[k] + needs[k];
        write_room(fit, pack, k, tb_find_room(&limits->all[k], costs[k], rows));
    }
    if (fit->width > limits->count) {
        write_room(fit, pack, limits->count, limits->max_rows - rows);
    }
    return pack;
}
