/* Packs against a plain best fit, at capacities around powers of 64. */
#include "core/plan/packing.h"
#include "core/base/random.h"
#include "check.h"

#include <stdlib.h>

enum { MOST_ROWS = 300 };

/* Rooms of packs, and when each pack came to have its room. */
typedef struct {
    int64_t room;
    int64_t since;
    int64_t rows;
} plain_pack;

static uint32_t
pack_plainly(plain_pack *packs, uint32_t *count, int64_t capacity, int64_t max_rows,
             int64_t size, int64_t now)
{
    uint32_t best = *count;

    for (uint32_t k = 0; k < *count; k++) {
        if (packs[k].rows == max_rows || packs[k].room < size) {
            continue;
        }
        if (best == *count || packs[k].room < packs[best].room ||
            (packs[k].room == packs[best].room && packs[k].since < packs[best].since)) {
            best = k;
        }
    }
    if (best == *count) {
        packs[(*count)++] = (plain_pack){capacity, now, 0};
    }
    packs[best].room -= size;
    packs[best].since = size > 0 ? now : packs[best].since;
    packs[best].rows++;
    return best;
}

static int
compare_down(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

    return a < b ? 1 : a > b ? -1 : 0;
}

static void
check_packs(tb_packer *packer, const int64_t *sizes, ptrdiff_t n)
{
    static plain_pack packs[MOST_ROWS];
    uint32_t pack_of[MOST_ROWS], count = 0;

    tb_restart_packs(packer);
    for (ptrdiff_t i = 0; i < n;) {
        ptrdiff_t end = i;
        while (end < n && sizes[end] == sizes[i]) {
            end++;
        }
        CHECK(tb_pack_rows(packer, sizes[i], end - i, pack_of + i) == TB_OK);
        i = end;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        CHECK(pack_of[i] == pack_plainly(packs, &count, packer->capacity,
                                         packer->max_rows, sizes[i], i));
    }
    CHECK(packer->count == count);
    for (uint32_t k = 0; k < count; k++) {
        CHECK(packer->packs[k].room == packs[k].room);
        CHECK(packer->packs[k].rows == packs[k].rows);
    }
}

static void
check_capacity(tb_random *random, int64_t capacity)
{
    int64_t sizes[MOST_ROWS];

    for (int round = 0; round < 40; round++) {
        ptrdiff_t n = (ptrdiff_t)tb_random_below(random, MOST_ROWS + 1);
        int64_t max_rows =
            round % 3 == 0 ? 1 + (int64_t)tb_random_below(random, 9) : INT64_MAX;
        uint64_t top = (uint64_t)capacity >> (round % 4 * 2);
        tb_packer packer;
        for (ptrdiff_t i = 0; i < n; i++) {
            sizes[i] = (int64_t)tb_random_below(random, top + 1);
        }
        qsort(sizes, (size_t)n, sizeof *sizes, compare_down);
        CHECK(tb_start_packs(&packer, capacity, max_rows) == TB_OK);
        check_packs(&packer, sizes, n);
        check_packs(&packer, sizes, n / 2); /* what was before is forgotten */
        tb_free_packs(&packer);
        tb_free_packs(&packer); /* nothing to free */
    }
}

int
main(void)
{
    tb_random random;

    tb_seed_random(&random, 1, 2);
    for (int64_t capacity = 0; capacity < 70; capacity++) {
        check_capacity(&random, capacity);
    }
    for (int bits = 6; bits < 63; bits += bits < 13 ? 1 : 5) {
        check_capacity(&random, ((int64_t)1 << bits) - 1);
        check_capacity(&random, (int64_t)1 << bits);
        check_capacity(&random, ((int64_t)1 << bits) + 1);
    }
    check_capacity(&random, INT64_MAX - 1);
    return check_report();
}
