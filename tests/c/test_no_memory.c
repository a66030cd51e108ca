/* Memory that runs out at each allocation in turn: every call says so, frees what it took,
 * and what is kept (a stream) goes on as if nothing had been. */
#include "check.h"

#include "core/base/random.h"
#include "core/check/check.h"
#include "core/plan/balance.h"
#include "core/plan/batching.h"
#include "core/plan/buckets.h"
#include "core/plan/groups.h"
#include "core/plan/packing.h"
#include "core/plan/partition.h"
#include "core/plan/streaming_take.h"

#include <string.h>

enum { ROWS = 400, GROUPS = 7, LIMITS = 2, COLUMNS = 6, WIDTH = 24 };

static int64_t lengths[ROWS], others[ROWS], costs[LIMITS][ROWS], groups[ROWS];
static const tb_limit limits[LIMITS] = {{costs[0], NULL, 90, 0},
                                        {costs[1], NULL, 200, 1}};

/* One of many calls, by its number; the digest is that of all it gives. */
typedef tb_status (*call)(int number, uint64_t *digest);

static void
add(uint64_t *digest, const void *data, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)data;

    for (size_t i = 0; i < size; i++) {
        *digest = (*digest ^ bytes[i]) * UINT64_C(1099511628211);
    }
}

/* How often memory ran out. */
static long
check_call(call one, int number)
{
    uint64_t expected = 0, digest = 0;
    long failures = 0;

    check_starve(0);
    CHECK(one(number, &expected) == TB_OK);
    for (long at = 1, needed = check_allocations; at <= needed; at++) {
        digest = 0;
        check_starve(at);
        tb_status status = one(number, &digest);
        CHECK(check_allocations >= at);
        CHECK(status == TB_ERR_MEMORY || (status == TB_OK && digest == expected));
        failures += status == TB_ERR_MEMORY;
    }
    check_starve(0);
    digest = 0;
    CHECK(one(number, &digest) == TB_OK && digest == expected);
    return failures;
}

static tb_batch_settings
settings_of(int number)
{
    static const int64_t sizes[] = {16, 9, INT64_MAX};
    tb_batch_settings settings = {.batch_size = sizes[number % 3],
                                  .max_tokens = number % 3 == 1 ? INT64_MAX : 120,
                                  .max_length = INT64_MAX,
                                  .multiple = 1,
                                  .window = 150,
                                  .ranks = 1,
                                  .shuffle = 1,
                                  .seed = (uint64_t)number};

    settings.padding_free = number / 3 % 2;
    settings.limits = limits;
    settings.limit_count = number / 6 % (LIMITS + 1);
    return settings;
}

/* --- plans ------------------------------------------------------------------------ */

static tb_status
finish_plan(tb_batch_plan *plan, tb_status status, uint64_t *digest)
{
    if (status == TB_OK) {
        int64_t *indices = calloc((size_t)plan->row_count + 1, sizeof *indices);
        int64_t *offsets = calloc((size_t)plan->batch_count + 1, sizeof *offsets);
        CHECK(indices != NULL && offsets != NULL);
        tb_write_batches(plan, indices, offsets);
        add(digest, indices, (size_t)plan->row_count * sizeof *indices);
        add(digest, offsets, (size_t)(plan->batch_count + 1) * sizeof *offsets);
        free(indices);
        free(offsets);
    }
    tb_free_batches(plan);
    return status;
}

enum { PLANS = 18 * 4 };

static tb_batch_settings
plan_settings(int number)
{
    tb_batch_settings settings = settings_of(number);

    settings.ranks = number / 18 % 2 ? 4 : 1;
    settings.longest_first = number / 18 % 2;
    settings.pool = number / 36 % 2 && settings.padding_free ? 40 : 0;
    settings.drop_last = number / 36 % 2;
    return settings;
}

static tb_status
plan_batches(int number, uint64_t *digest)
{
    tb_batch_settings settings = plan_settings(number);
    tb_batch_plan plan;
    tb_error error;

    return finish_plan(&plan, tb_plan_batches(lengths, ROWS, &settings, &plan, &error),
                       digest);
}

static tb_status
plan_groups(int number, uint64_t *digest)
{
    static const int64_t quotas[GROUPS] = {90, 3, 0, 60, 200, 1, 40};
    tb_batch_settings settings = plan_settings(number);
    tb_group_settings own = {groups, GROUPS, number % 2 ? quotas : NULL, number % 5};
    tb_batch_plan plan;
    tb_error error;

    return finish_plan(
        &plan, tb_plan_groups(lengths, ROWS, &settings, &own, &plan, &error), digest);
}

/* --- what plans are made of ------------------------------------------------------- */

static tb_status
number_groups(int number, uint64_t *digest)
{
    int64_t numbers[ROWS], *firsts = NULL;
    ptrdiff_t count = 0;
    tb_status status =
        tb_number_groups(number ? lengths : groups, ROWS, numbers, &firsts, &count);

    if (status == TB_OK) {
        add(digest, numbers, sizeof numbers);
        add(digest, firsts, (size_t)count * sizeof *firsts);
    }
    free(firsts);
    return status;
}

static tb_status
share_rows(int number, uint64_t *digest)
{
    int64_t rank_of[ROWS];
    tb_status status = tb_share_rows(lengths, ROWS, 1 + 3 * number, rank_of);

    if (status == TB_OK) {
        add(digest, rank_of, sizeof rank_of);
    }
    return status;
}

static tb_status
partition_rows(int number, uint64_t *digest)
{
    tb_partition_settings settings = {.k = number % 2 ? 9 : 0,
                                      .multiple = 1 + number / 4,
                                      .cap = number % 2 ? INT64_MAX : 500,
                                      .equal_counts = number / 2 % 2};
    int64_t part_of[ROWS];
    tb_partition made;
    tb_error error;
    tb_status status =
        tb_partition_rows(lengths, ROWS, &settings, part_of, &made, &error);

    if (status == TB_OK) {
        add(digest, part_of, sizeof part_of);
        add(digest, &made.bound, sizeof made.bound);
    }
    return status;
}

/* Widths are counted in a table where they are small, and sorted where not. */
static tb_status
choose_boundaries(int number, uint64_t *digest)
{
    int64_t long_ones[ROWS], boundaries[ROWS], waste[ROWS];
    tb_widths widths;
    tb_error error;

    for (int i = 0; i < ROWS; i++) {
        long_ones[i] = lengths[i] << 20;
    }
    tb_status status =
        tb_count_widths(number % 2 ? long_ones : lengths, ROWS, 1, &widths, &error);
    if (status == TB_OK) {
        status = tb_choose_boundaries(&widths, 5, boundaries, number / 2 ? waste : NULL,
                                      NULL);
    }
    if (status == TB_OK) {
        add(digest, boundaries, 5 * sizeof *boundaries);
    }
    tb_free_widths(&widths);
    return status;
}

static tb_status
pack_rows(int number, uint64_t *digest)
{
    uint32_t pack_of[ROWS];
    tb_packer packer;
    tb_status status = tb_start_packs(&packer, INT64_C(1) << (7 + 8 * number), 5);

    for (int64_t size = 40; size > 0 && status == TB_OK; size--) {
        status = tb_pack_rows(&packer, size, ROWS, pack_of);
        if (status == TB_OK) {
            add(digest, pack_of, sizeof pack_of);
        }
    }
    tb_free_packs(&packer);
    return status;
}

/* --- streams ---------------------------------------------------------------------- */

enum { STREAMS = 36 };

static tb_status
take_batch(tb_streaming *stream, int is_end, uint64_t *digest)
{
    tb_status status = tb_take_batch(stream, is_end);

    if (status == TB_OK) {
        size_t size = (size_t)stream->batch_count * sizeof *stream->batch;
        add(digest, stream->batch, size);
    }
    return status;
}

/* A row that had no memory comes again, or is the last one. *rows: those that wait. With
 * `shift` lengths are far apart: what finds the one that fits has more levels. */
static tb_status
feed(tb_streaming *stream, int comes_again, int shift, uint64_t *digest,
     ptrdiff_t *rows)
{
    tb_status status = TB_OK;
    tb_error error;
    int is_kept;

    for (int i = 0; i < ROWS && status == TB_OK; i++) {
        int64_t own[LIMITS] = {costs[0][i], costs[1][i]};
        int64_t least = shift > 0 ? INT64_C(7919) * i * i : 0;
        tb_streamed_row row = {(uint64_t)i, (lengths[i] << shift) + least,
                               others[i] << shift, own, 1};
        status = tb_stream_row(stream, &row, &is_kept, &error);
        if (status == TB_ERR_MEMORY && comes_again) {
            status = tb_stream_row(stream, &row, &is_kept, &error);
        }
        *rows += status == TB_OK;
        while (status == TB_OK && tb_is_batch_ready(stream)) {
            status = take_batch(stream, 0, digest);
            *rows -= stream->batch_count;
        }
    }
    return status;
}

static tb_status
stream_rows(int number, uint64_t *digest)
{
    static const int64_t sides[2] = {INT64_MAX, INT64_MAX};
    tb_batch_settings settings = settings_of(number % STREAMS);
    tb_streaming stream;
    ptrdiff_t rows = 0;
    int comes_again = number / STREAMS % 2, shift = number / STREAMS / 2 * 33;

    if (settings.max_tokens != INT64_MAX) {
        settings.max_tokens <<= shift;
    }
    tb_status status = tb_start_streaming(
        &stream, &settings, number / 18 % 2 ? sides : NULL, 250, INT64_MAX);
    if (status == TB_OK) {
        status = feed(&stream, comes_again, shift, digest, &rows);
        do {
            CHECK(take_batch(&stream, 1, digest) == TB_OK);
            rows -= stream.batch_count;
        } while (stream.batch_count > 0);
        CHECK(rows == 0);
    }
    tb_free_streaming(&stream);
    return status;
}

/* --- the check of a batch --------------------------------------------------------- */

static tb_status
check_columns(int number, uint64_t *digest)
{
    static int64_t data[COLUMNS][4 * WIDTH];
    tb_check_column columns[COLUMNS];
    tb_finding findings[TB_MOST_FINDINGS];
    tb_check check = {.settings = {-1, 30, -100}};
    tb_random random;

    tb_seed_random(&random, (uint64_t)number, 0);
    memset(findings, 0, sizeof findings);
    for (int i = 0; i < COLUMNS; i++) {
        int ndim = 1 + (int)tb_random_below(&random, 2);
        int64_t at = 0, rises = (int64_t)tb_random_below(&random, 2);
        for (int k = 0; k < 4 * WIDTH; k++) {
            at = tb_random_below(&random, 5) == 0 ? at * rises : at + rises;
            data[i][k] = i == 0 ? (int64_t)tb_random_below(&random, 30) : at;
        }
        columns[i] = (tb_check_column){
            .role = i == 0 ? TB_ROLE_IDS
                           : (tb_role)tb_random_below(&random, TB_ROLE_OTHER + 1),
            .type = TB_I64,
            .ndim = i == 0 ? 2 : ndim,
            .shape = {i == 0 || ndim == 2 ? 4 : WIDTH, WIDTH},
            .data = data[i],
            .same_as = -1,
            .partner = -1,
        };
    }
    check.columns = columns;
    check.count = COLUMNS;
    check.findings = findings;
    tb_status status = tb_check_columns(&check);
    if (status == TB_OK) {
        add(digest, &check.found, sizeof check.found);
        add(digest, findings, sizeof findings);
    }
    tb_end_check(&check);
    return status;
}

static void
check_calls(call one, int count)
{
    long failures = 0;

    for (int number = 0; number < count; number++) {
        failures += check_call(one, number);
    }
#ifdef CHECK_MEMORY
    CHECK(failures > 0);
#else
    printf("memory does not run out in this build: %ld\n", failures);
#endif
}

int
main(void)
{
    tb_random random;

    tb_seed_random(&random, 1, 2);
    for (int i = 0; i < ROWS; i++) {
        lengths[i] = (int64_t)tb_random_below(&random, 60);
        others[i] = (int64_t)tb_random_below(&random, 60);
        costs[0][i] = (int64_t)tb_random_below(&random, 30);
        costs[1][i] = (int64_t)tb_random_below(&random, 50);
        groups[i] = (int64_t)tb_random_below(&random, GROUPS);
    }
    check_calls(plan_batches, PLANS);
    check_calls(plan_groups, PLANS);
    check_calls(number_groups, 2);
    check_calls(share_rows, 4);
    check_calls(partition_rows, 8);
    check_calls(choose_boundaries, 4);
    check_calls(pack_rows, 4);
    check_calls(stream_rows, 4 * STREAMS);
    check_calls(check_columns, 200);
    return check_report();
}
