/* For ThreadSanitizer: eight threads do all that the core does, on inputs that they share
 * and outputs of their own, while one of them changes the level of the kernels. Each
 * result is that of a thread alone, bit for bit. `make tsan` runs it. */
#include "core/base/random.h"
#include "core/cast/half.h"
#include "core/layout/pad.h"
#include "core/layout/tokens.h"
#include "core/plan/batching.h"
#include "core/plan/packing.h"
#include "check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 8, ROUNDS = 40, ROWS = 400, NUMBERS = 6000, WIDTH = 16, PLACES = 512 };

/* What all threads read. */
typedef struct {
    int64_t lengths[ROWS];
    int64_t sorted[ROWS]; /* longest first */
    int32_t tokens[NUMBERS];
    float floats[NUMBERS];
    const void *rows[ROWS];
    ptrdiff_t row_lengths[ROWS];
} input;

/* What one of them makes. */
typedef struct {
    uint16_t halves[NUMBERS];
    int64_t wide[NUMBERS];
    int64_t padded[ROWS * WIDTH];
    int64_t indices[ROWS];
    int64_t offsets[ROWS + 1];
    int64_t places[PLACES];
    uint32_t packs[ROWS];
    tb_overflow overflow;
    ptrdiff_t batches, found;
} output;

static input shared;
static output expected;

static int
compare_down(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

    return a < b ? 1 : a > b ? -1 : 0;
}

static void
make_input(void)
{
    tb_random random;

    tb_seed_random(&random, 3, 5);
    for (ptrdiff_t i = 0; i < NUMBERS; i++) {
        shared.tokens[i] = (int32_t)tb_random_below(&random, 50);
        shared.floats[i] = (float)shared.tokens[i] * 3000.1f; /* some overflow */
    }
    for (ptrdiff_t i = 0; i < ROWS; i++) {
        shared.lengths[i] = 1 + (int64_t)tb_random_below(&random, WIDTH);
        shared.row_lengths[i] = (ptrdiff_t)shared.lengths[i];
        shared.rows[i] = shared.tokens + tb_random_below(&random, NUMBERS - WIDTH);
    }
    memcpy(shared.sorted, shared.lengths, sizeof shared.sorted);
    qsort(shared.sorted, ROWS, sizeof *shared.sorted, compare_down);
}

static int
move_elements(output *out)
{
    unsigned char types[ROWS];
    tb_rows rows = {ROWS, shared.rows, shared.row_lengths, types};
    tb_layout layout = {.width = WIDTH,
                        .max_length = PTRDIFF_MAX,
                        .trailing = 1,
                        .type = TB_I64,
                        .item_size = 8,
                        .pad_left = 1};
    tb_error error;
    ptrdiff_t bad;

    memset(types, (int)TB_I32, sizeof types);
    tb_convert_floats(TB_F32, TB_F16, shared.floats, NUMBERS, out->halves,
                      TB_OVERFLOW_INFINITY, &out->overflow);
    return tb_cast_elements(TB_I32, TB_I64, shared.tokens, NUMBERS, out->wide, &bad) ==
               TB_OK &&
           tb_pad_rows(&rows, &layout, out->padded, &error) == TB_OK;
}

static void
find_tokens(output *out)
{
    const uint64_t pattern[] = {7};
    tb_token_search search = {shared.tokens, NUMBERS, 4, pattern, 1};
    ptrdiff_t at = 0;

    out->found = tb_find_tokens(&search, &at, NUMBERS, out->places, PLACES);
}

static int
make_plans(output *out)
{
    tb_batch_settings settings = {.batch_size = 8,
                                  .max_tokens = 100,
                                  .max_length = INT64_MAX,
                                  .multiple = 1,
                                  .window = 64,
                                  .ranks = 2,
                                  .shuffle = 1,
                                  .seed = 11};
    tb_batch_plan plan;
    tb_packer packer;
    tb_error error;
    int is_right =
        tb_plan_batches(shared.lengths, ROWS, &settings, &plan, &error) == TB_OK;

    if (is_right) {
        out->batches = (ptrdiff_t)plan.batch_count;
        tb_write_batches(&plan, out->indices, out->offsets);
    }
    tb_free_batches(&plan);
    is_right &= tb_start_packs(&packer, 3 * WIDTH, INT64_MAX) == TB_OK;
    for (ptrdiff_t i = 0; i < ROWS && is_right; i++) {
        is_right = tb_pack_rows(&packer, shared.sorted[i], 1, &out->packs[i]) == TB_OK;
    }
    tb_free_packs(&packer);
    return is_right;
}

/* 1 where all went well. */
static int
work(output *out)
{
    memset(out, 0, sizeof *out);
    find_tokens(out);
    return move_elements(out) & make_plans(out);
}

typedef struct {
    pthread_t thread;
    int changes_level;
    int wrong;
    output out;
} worker;

static void *
run_worker(void *argument)
{
    worker *self = (worker *)argument;

    for (int round = 0; round < ROUNDS; round++) {
        tb_level level = (tb_level)(round % TB_LEVEL_COUNT);
        if (self->changes_level && tb_level_available(level)) {
            tb_use_level(level);
        }
        self->wrong += !work(&self->out);
        self->wrong += memcmp(&self->out, &expected, sizeof expected) != 0;
    }
    return NULL;
}

int
main(void)
{
    worker *workers = (worker *)calloc(THREADS, sizeof *workers);

    CHECK(workers != NULL);
    make_input();
    CHECK(work(&expected) && expected.overflow.count > 0 && expected.found > 50);
    CHECK(expected.batches > ROWS / 8);
    for (int i = 0; i < THREADS && workers != NULL; i++) {
        workers[i].changes_level = i == 0;
        CHECK(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]) == 0);
    }
    for (int i = 0; i < THREADS && workers != NULL; i++) {
        CHECK(pthread_join(workers[i].thread, NULL) == 0);
        CHECK(workers[i].wrong == 0);
    }
    free(workers);
    return check_report();
}
