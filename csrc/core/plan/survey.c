#include "core/plan/survey.h"

#include "core/base/random.h"
#include "core/base/size.h"
#include "core/base/sort.h"
#include "core/plan/cost.h"
#include "core/plan/limits.h"

#include <string.h>

static tb_status
check_longest(int64_t longest, ptrdiff_t n, const tb_batch_settings *settings)
{
    int has_cap = settings->max_tokens != INT64_MAX;
    int64_t cost = 0;

    if (tb_find_row_cost(longest, settings, &cost) != TB_OK) {
        return has_cap ? TB_ERR_TOO_LONG : TB_ERR_SIZE;
    }
    if (cost > settings->max_tokens) {
        return TB_ERR_TOO_LONG;
    }
    return tb_count_bits((uint64_t)longest) + tb_count_bits((uint64_t)n - 1) > 64
               ? TB_ERR_SIZE
               : TB_OK;
}

/* Names the first row that is refused. Being refused is monotonic in the length. */
static tb_status
find_refused(const int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
             int64_t limit, tb_error *error)
{
    tb_status status = TB_OK;

    for (ptrdiff_t i = 0; i < n && status == TB_OK; i++) {
        int64_t length = tb_min(lengths[i], settings->max_length);
        error->row = i;
        error->column = -1;
        error->value = lengths[i];
        status = length < 0       ? TB_ERR_NEGATIVE
                 : length > limit ? TB_OK
                                  : check_longest(length, n, settings);
    }
    return status;
}

int64_t
tb_find_drop_limit(const tb_batch_settings *settings)
{
    return settings->drop_overlong ? tb_find_longest_allowed(settings) : INT64_MAX;
}

/* Lengths are checked already. Names the first row that breaks a limit. */
static tb_status
summarize_limited(const int64_t *lengths, ptrdiff_t n,
                  const tb_batch_settings *settings, tb_length_summary *summary,
                  tb_error *error)
{
    int64_t limit = tb_find_drop_limit(settings), total = 0;

    for (ptrdiff_t i = 0; i < n; i++) {
        int64_t length = tb_min(lengths[i], settings->max_length);
        ptrdiff_t broken =
            length > limit ? -1
                           : tb_find_broken(settings->limits, settings->limit_count, i);
        if (broken >= 0 && !settings->drop_broken) {
            *error = (tb_error){i, broken, lengths[i]};
            return TB_ERR_TOO_LONG;
        }
        if (length <= limit && broken < 0) {
            summary->shortest =
                summary->rows == 0 ? length : tb_min(summary->shortest, length);
            summary->longest = tb_max(summary->longest, length);
            total = length > INT64_MAX - total ? INT64_MAX : total + length;
            summary->rows++;
        }
    }
    summary->total = total;
    return TB_OK;
}

tb_status
tb_summarize_lengths(const int64_t *lengths, ptrdiff_t n,
                     const tb_batch_settings *settings, tb_length_summary *summary,
                     tb_error *error)
{
    int64_t shortest = INT64_MAX, longest = 0, limit = tb_find_drop_limit(settings);
    ptrdiff_t rows = 0;
    uint64_t total = 0; /* may wrap where it is not used */

    memset(summary, 0, sizeof *summary);
    for (ptrdiff_t i = 0; i < n; i++) {
        int64_t length = tb_min(lengths[i], settings->max_length);
        int64_t counted = length > limit ? 0 : length;
        shortest = tb_min(shortest, length);
        longest = counted > longest ? counted : longest;
        total += (uint64_t)counted;
        rows += length <= limit;
    }
    if (n == 0) {
        return TB_OK;
    }
    if (shortest < 0 || (rows > 0 && check_longest(longest, n, settings) != TB_OK)) {
        return find_refused(lengths, n, settings, limit, error);
    }
    if (settings->limit_count > 0) {
        return summarize_limited(lengths, n, settings, summary, error);
    }
    summary->rows = rows;
    summary->shortest = rows > 0 ? shortest : 0;
    summary->longest = longest;
    summary->total = longest > INT64_MAX / n ? INT64_MAX : (int64_t)total;
    return TB_OK;
}

/* Four sums side by side, so that no multiplication waits for the one before. */
uint64_t
tb_fingerprint_lengths(const int64_t *lengths, ptrdiff_t n)
{
    const uint64_t odd = UINT64_C(0x9E3779B97F4A7C15);
    uint64_t lanes[4] = {(uint64_t)n, 1, 2, 3};

    for (ptrdiff_t i = 0; i < n; i++) {
        uint64_t *lane = &lanes[i % 4];
        *lane = tb_rotate_left(*lane ^ (uint64_t)lengths[i], 29) * odd;
    }
    for (int i = 1; i < 4; i++) {
        lanes[0] = tb_mix_bits(lanes[0] + odd) ^ lanes[i];
    }
    return tb_mix_bits(lanes[0] + odd) >> 1;
}
