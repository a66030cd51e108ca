/* Packs from a pool: every row once, within the caps, and none is held for long. The
 * order itself is compared with a plain definition in the tests in Python. */
#include "core/plan/pool.h"
#include "core/base/random.h"
#include "check.h"

#include <stdlib.h>

enum { MOST_ROWS = 400 };

typedef struct {
    int64_t sizes[MOST_ROWS];
    ptrdiff_t added_at[MOST_ROWS]; /* the number of packs when it came */
    int is_packed[MOST_ROWS];
    uint64_t rows[MOST_ROWS];
    ptrdiff_t packs;
    ptrdiff_t packed;
} stream;

static void
check_pack(stream *from, const tb_pool *pool)
{
    int64_t room = pool->capacity;

    CHECK(pool->row_count >= 1 && pool->row_count <= pool->max_rows);
    for (int64_t i = 0; i < pool->row_count; i++) {
        uint64_t row = pool->rows[i];
        CHECK(!from->is_packed[row]);
        from->is_packed[row] = 1;
        CHECK(from->sizes[row] <= room);
        room -= from->sizes[row];
        CHECK(from->packs - from->added_at[row] <= (ptrdiff_t)pool->size);
    }
    CHECK(room == pool->room);
    from->packs++;
    from->packed += (ptrdiff_t)pool->row_count;
}

static void
check_stream(stream *from, ptrdiff_t n, int64_t capacity, int64_t max_rows,
             uint32_t size)
{
    tb_pool pool;
    int is_pack = 0;

    from->packs = from->packed = 0;
    CHECK(tb_start_pool(&pool, capacity, max_rows, size) == TB_OK);
    CHECK(pool.held == NULL && pool.fits == NULL);
    tb_begin_pack(&pool, from->rows);
    for (ptrdiff_t i = 0; i < n; i++) {
        from->is_packed[i] = 0;
        from->added_at[i] = from->packs;
        uint32_t places = pool.count < size ? pool.count + 1 : size;
        CHECK(tb_reserve_pool(&pool, places) == TB_OK && pool.reserved <= size);
        CHECK(tb_add_row(&pool, (uint64_t)i, from->sizes[i], &is_pack) == TB_OK);
        CHECK(pool.count <= size);
        if (is_pack) {
            check_pack(from, &pool);
            tb_begin_pack(&pool, from->rows + from->packed);
        }
        CHECK(from->packed + (ptrdiff_t)pool.count + (ptrdiff_t)pool.row_count ==
              i + 1);
    }
    while (tb_drain_pool(&pool)) {
        check_pack(from, &pool);
        tb_begin_pack(&pool, from->rows + from->packed);
    }
    CHECK(from->packed == n && pool.count == 0);
    tb_free_pool(&pool);
    tb_free_pool(&pool); /* nothing to free */
}

static void
check_capacity(tb_random *random, int64_t capacity)
{
    static stream from;

    for (int round = 0; round < 40; round++) {
        ptrdiff_t n = (ptrdiff_t)tb_random_below(random, MOST_ROWS + 1);
        int64_t max_rows =
            round % 3 == 0 ? 1 + (int64_t)tb_random_below(random, 9) : INT64_MAX;
        uint64_t top = (uint64_t)capacity >> (round % 4 * 2);
        for (ptrdiff_t i = 0; i < n; i++) {
            from.sizes[i] = (int64_t)tb_random_below(random, top + 1);
        }
        check_stream(&from, n, capacity, max_rows,
                     1 + (uint32_t)tb_random_below(random, round % 2 ? 9 : 500));
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
