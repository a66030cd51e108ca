/* Batches of streams: every row once, within the caps, none waits for long, and a stream
 * that is continued from any batch makes the same ones. */
#include "core/plan/streaming_take.h"
#include "core/base/random.h"
#include "check.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 300, LIMITS = 2 };

typedef struct {
    int64_t lengths[MOST_ROWS];
    int64_t others[MOST_ROWS]; /* of the second side */
    int64_t costs[MOST_ROWS][LIMITS];
    int has_sides;
    int64_t sides[2];
    tb_limit limits[LIMITS];
    ptrdiff_t n;
    tb_batch_settings settings;
    int64_t size;
    int64_t most_weight;
} source;

typedef struct {
    int is_taken[MOST_ROWS];
    ptrdiff_t taken;
    uint64_t order[MOST_ROWS];
    ptrdiff_t added_at[MOST_ROWS]; /* batches taken when it came */
} record;

static tb_streamed_row
row_of(const source *from, ptrdiff_t row)
{
    return (tb_streamed_row){(uint64_t)row, from->lengths[row], from->others[row],
                             from->costs[row], 1};
}

static tb_status
start(const source *from, tb_streaming *stream)
{
    return tb_start_streaming(stream, &from->settings,
                              from->has_sides ? from->sides : NULL, from->size,
                              from->most_weight);
}

static int64_t
cost_of(const source *from, uint64_t row)
{
    int64_t length = from->lengths[row] + (from->has_sides ? from->others[row] : 0);

    return from->settings.padding_free || length > 0 ? length : 1;
}

static void
check_limits(const source *from, const tb_streaming *stream)
{
    int64_t first = 0, second = 0, rows = stream->batch_count;

    for (ptrdiff_t k = 0; k < from->settings.limit_count; k++) {
        int64_t sum = 0, most = 0;
        for (ptrdiff_t i = 0; i < rows; i++) {
            int64_t cost = from->costs[stream->batch[i]][k];
            sum += cost;
            most = cost > most ? cost : most;
        }
        CHECK((from->limits[k].is_padded ? most * rows : sum) <= from->limits[k].cap);
    }
    for (ptrdiff_t i = 0; i < rows; i++) {
        uint64_t row = stream->batch[i];
        first = from->lengths[row] > first ? from->lengths[row] : first;
        second = from->others[row] > second ? from->others[row] : second;
    }
    CHECK(!from->has_sides || from->settings.padding_free ||
          (first + second) * rows <= from->settings.max_tokens);
}

static void
check_batch(const source *from, const tb_streaming *stream, record *seen)
{
    const tb_batch_settings *settings = &from->settings;
    int64_t sum = 0, longest = 0;

    CHECK(stream->batch_count >= 1 && stream->batch_count <= settings->batch_size);
    for (ptrdiff_t i = 0; i < stream->batch_count; i++) {
        uint64_t row = stream->batch[i];
        CHECK(row < (uint64_t)from->n && !seen->is_taken[row]);
        seen->is_taken[row] = 1;
        seen->order[seen->taken++] = row;
        sum += cost_of(from, row);
        longest = cost_of(from, row) > longest ? cost_of(from, row) : longest;
        CHECK((int64_t)stream->batches - seen->added_at[row] <= 5 * from->size + 1);
    }
    CHECK((from->has_sides && !settings->padding_free) ||
          (settings->padding_free ? sum : longest * stream->batch_count) <=
              settings->max_tokens);
    check_limits(from, stream);
}

/* Adds rows from `next` on until a batch is taken; 0 where there is none left. */
static int
take(const source *from, tb_streaming *stream, ptrdiff_t *next, record *seen)
{
    tb_error error;
    int is_kept = 0;

    while (!tb_is_batch_ready(stream) && *next < from->n) {
        CHECK(stream->kind != TB_STREAM_PADDED || stream->count <= from->size);
        seen->added_at[*next] = (ptrdiff_t)stream->batches;
        tb_streamed_row row = row_of(from, *next);
        CHECK(tb_stream_row(stream, &row, &is_kept, &error) == TB_OK);
        CHECK(is_kept);
        (*next)++;
    }
    CHECK(tb_take_batch(stream, !tb_is_batch_ready(stream)) == TB_OK);
    if (stream->batch_count > 0) {
        check_batch(from, stream, seen);
    }
    return stream->batch_count > 0;
}

/* Another stream with the same rows waiting. */
static void
continue_as(const source *from, tb_streaming *stream, ptrdiff_t next,
            tb_streaming *other)
{
    ptrdiff_t begun = 0, at = 0;
    int is_chosen;
    const uint64_t *pack = tb_find_begun_pack(stream, &begun, &is_chosen);
    tb_error error;

    CHECK(start(from, other) == TB_OK);
    for (ptrdiff_t row = 0; row < next; row++) {
        tb_row_place place = TB_ROW_GONE;
        if (at < stream->count && stream->waiting[at].number == (uint64_t)row) {
            place = TB_ROW_WAITS;
            at++;
        }
        for (ptrdiff_t i = 0; i < begun; i++) {
            if (pack[i] == (uint64_t)row) {
                place = TB_ROW_IN_PACK;
            }
        }
        tb_streamed_row own = row_of(from, row);
        CHECK(tb_restore_row(other, &own, place, &error) == TB_OK);
    }
    CHECK(tb_restore_pack(other, pack, begun, is_chosen) == TB_OK);
    CHECK(other->fingerprint == stream->fingerprint);
    other->next = stream->next;
    other->batches = stream->batches;
}

static void
check_stream(const source *from, ptrdiff_t stop)
{
    static record seen, copy;
    tb_streaming stream, other;
    ptrdiff_t next = 0, next_too = 0, batches = 0;

    memset(&seen, 0, sizeof seen);
    memset(&other, 0, sizeof other);
    CHECK(start(from, &stream) == TB_OK);
    while (take(from, &stream, &next, &seen)) {
        if (++batches == stop) {
            continue_as(from, &stream, next, &other);
            copy = seen;
            next_too = next;
        }
    }
    CHECK(seen.taken == from->n && stream.count == 0 && stream.weight == 0);
    if (batches >= stop) {
        while (take(from, &other, &next_too, &copy)) {
        }
        CHECK(copy.taken == from->n);
        CHECK(memcmp(copy.order, seen.order, sizeof seen.order) == 0);
        CHECK(other.fingerprint == stream.fingerprint);
    }
    tb_free_streaming(&stream);
    tb_free_streaming(&other);
    tb_free_streaming(&other); /* nothing to free */
}

static void
check_errors(void)
{
    tb_batch_settings settings = {
        .batch_size = 4, .max_tokens = 9, .max_length = INT64_MAX, .multiple = 1};
    tb_streaming stream;
    tb_error error;
    int is_kept = 0;

    CHECK(tb_start_streaming(&stream, &settings, NULL, 8, INT64_MAX) == TB_OK);
    CHECK(tb_stream_row(&stream, &(tb_streamed_row){.number = 3, .length = -1},
                        &is_kept, &error) == TB_ERR_NEGATIVE);
    CHECK(error.row == 3 && error.value == -1 && stream.count == 0);
    CHECK(tb_stream_row(&stream, &(tb_streamed_row){.number = 4, .length = 10},
                        &is_kept, &error) == TB_ERR_TOO_LONG);
    CHECK(stream.count == 0 && stream.fingerprint == 0);
    CHECK(tb_restore_row(&stream, &(tb_streamed_row){.number = 4, .length = 10},
                         TB_ROW_WAITS, &error) == TB_ERR_TOO_LONG);
    CHECK(tb_restore_row(&stream, &(tb_streamed_row){.number = 4, .length = 10},
                         TB_ROW_GONE, &error) == TB_OK);
    CHECK(stream.fingerprint == 0);
    stream.settings.drop_overlong = 1;
    CHECK(tb_stream_row(&stream, &(tb_streamed_row){.number = 5, .length = 10},
                        &is_kept, &error) == TB_OK);
    CHECK(!is_kept && stream.dropped == 1);
    tb_free_streaming(&stream);

    settings.max_tokens = INT64_MAX;
    CHECK(tb_start_streaming(&stream, &settings, NULL, 8, INT64_MAX) == TB_OK);
    CHECK(tb_stream_row(&stream,
                        &(tb_streamed_row){.number = 0, .length = INT64_MAX / 8},
                        &is_kept, &error) == TB_ERR_SIZE);
    uint64_t number = 7;
    CHECK(tb_restore_pack(&stream, &number, 1, 0) == TB_ERR_SIZE);
    CHECK(tb_take_batch(&stream, 1) == TB_OK && stream.batch_count == 0);
    tb_free_streaming(&stream);

    tb_limit limit = {NULL, NULL, 3, 0};
    int64_t costs[1] = {4}, sides[2] = {INT64_MAX, INT64_MAX};
    tb_streamed_row row = {5, INT64_MAX / 2, INT64_MAX / 2 + 2, costs, 0};
    settings.limits = &limit;
    settings.limit_count = 1;
    CHECK(tb_start_streaming(&stream, &settings, sides, 8, INT64_MAX) == TB_OK);
    CHECK(tb_stream_row(&stream, &row, &is_kept, &error) == TB_ERR_SIZE);
    row.other = -2;
    CHECK(tb_stream_row(&stream, &row, &is_kept, &error) == TB_ERR_NEGATIVE);
    CHECK(error.column == 1 && error.value == -2);
    row.other = 2;
    row.length = 1;
    CHECK(tb_stream_row(&stream, &row, &is_kept, &error) == TB_ERR_TOO_LONG);
    CHECK(error.row == 5 && error.column == 0 && error.value == 4);
    CHECK(stream.count == 0 && stream.fingerprint == 0);
    stream.settings.drop_overlong = 1;
    CHECK(tb_stream_row(&stream, &row, &is_kept, &error) == TB_OK);
    CHECK(!is_kept && stream.dropped == 1 && stream.fingerprint != 0);
    tb_free_streaming(&stream);
}

int
main(void)
{
    tb_random random;
    static source from;

    tb_seed_random(&random, 3, 4);
    for (int round = 0; round < 1800; round++) {
        int64_t cap = 1 + (int64_t)tb_random_below(&random, 60);
        int64_t rows = 1 + (int64_t)tb_random_below(&random, 9);
        from.settings = (tb_batch_settings){
            .batch_size = round % 3 == 0 ? INT64_MAX : rows,
            .max_tokens = round % 3 == 1 ? INT64_MAX : cap,
            .max_length = INT64_MAX,
            .multiple = 1,
            .padding_free = round % 2,
            .seed = (uint64_t)round,
            .limits = from.limits,
            .limit_count = round / 6 % 3,
        };
        from.has_sides = round / 18 % 2;
        from.sides[0] = from.sides[1] = INT64_MAX;
        for (int k = 0; k < LIMITS; k++) {
            from.limits[k] = (tb_limit){.cap = (int64_t)tb_random_below(&random, 30),
                                        .is_padded = (round / 36 + k) % 2};
        }
        from.size = rows + (int64_t)tb_random_below(&random, 40);
        from.most_weight =
            round % 5 == 0 ? 1 + (int64_t)tb_random_below(&random, 20) : INT64_MAX;
        from.n = (ptrdiff_t)tb_random_below(&random, MOST_ROWS + 1);
        for (ptrdiff_t i = 0; i < from.n; i++) {
            from.lengths[i] = (int64_t)tb_random_below(&random, (uint64_t)cap + 1);
            from.others[i] = (int64_t)tb_random_below(
                &random, (uint64_t)(cap - from.lengths[i]) + 1);
            for (int k = 0; k < LIMITS; k++) {
                uint64_t most = (uint64_t)from.limits[k].cap;
                from.costs[i][k] = (int64_t)tb_random_below(
                    &random, (round % 2 ? most : most / 4) + 1);
            }
        }
        check_stream(&from, 1 + (ptrdiff_t)tb_random_below(&random, 40));
    }
    check_errors();
    return check_report();
}
