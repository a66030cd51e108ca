/* Searches for tokens, the segments of windows, and means of chunks, against loops that
 * look at each token. */
#include "core/base/random.h"
#include "core/cast/half.h"
#include "core/layout/chunks.h"
#include "core/layout/tokens.h"
#include "check.h"

#include <string.h>

enum { MOST = 300, MOST_ROWS = 12 };

static ptrdiff_t
pick(tb_random *random, ptrdiff_t below)
{
    return (ptrdiff_t)tb_random_below(random, (uint64_t)below);
}

static void
store(void *tokens, int item_size, ptrdiff_t i, uint64_t value)
{
    switch (item_size) {
        case 1:
            ((uint8_t *)tokens)[i] = (uint8_t)value;
            break;
        case 2:
            ((uint16_t *)tokens)[i] = (uint16_t)value;
            break;
        case 4:
            ((uint32_t *)tokens)[i] = (uint32_t)value;
            break;
        default:
            ((uint64_t *)tokens)[i] = value;
    }
}

/* The largest token of a size shares its low bytes with those of smaller sizes: only a
 * comparison of all bytes tells 0 from 1 << 8. */
static uint64_t
nth_token(ptrdiff_t n, int item_size)
{
    uint64_t all = item_size == 8 ? ~(uint64_t)0 : ((uint64_t)1 << 8 * item_size) - 1;

    return n == 0   ? all
           : n == 1 ? all >> 1
           : n == 2 ? (uint64_t)1 << 8 * (item_size - 1)
                    : 0;
}

static void
check_search(tb_random *random, int item_size)
{
    uint64_t room[MOST + 1], values[MOST], pattern[3];
    int64_t places[MOST + TB_TOKEN_BLOCK], expected[MOST];
    ptrdiff_t n = pick(random, MOST), size = 1 + pick(random, 3), count = 0, found = 0;
    void *tokens = (char *)room + (pick(random, 2) ? item_size : 0);
    ptrdiff_t kinds = 1 + pick(random, 4), at = 0;

    for (ptrdiff_t i = 0; i < n; i++) {
        values[i] = nth_token(pick(random, kinds), item_size);
        store(tokens, item_size, i, values[i]);
    }
    for (ptrdiff_t k = 0; k < size; k++) {
        pattern[k] = nth_token(pick(random, kinds), item_size);
    }
    for (ptrdiff_t i = 0; i + size <= n;) {
        int same = 1;
        for (ptrdiff_t k = 0; k < size; k++) {
            same = same && values[i + k] == pattern[k];
        }
        if (same) {
            expected[count++] = i;
        }
        i += same ? size : 1;
    }
    tb_token_search search = {tokens, n, item_size, pattern, size};
    while (at < n) { /* in steps, with little room */
        ptrdiff_t stop = at + 1 + pick(random, n - at);
        found += tb_find_tokens(&search, &at, stop, places + found, TB_TOKEN_BLOCK);
    }
    CHECK(found == count);
    CHECK(count == 0 || memcmp(places, expected, (size_t)count * sizeof *places) == 0);
}

/* More places than there is room for: the search stops before a block, and goes on. */
static void
check_room(void)
{
    uint8_t tokens[200];
    uint64_t zero = 0;
    int64_t places[200];
    tb_token_search search = {tokens, 200, 1, &zero, 1};
    ptrdiff_t at = 0;

    memset(tokens, 0, sizeof tokens);
    CHECK(tb_find_tokens(&search, &at, 200, places, 150) == 128 && at == 128);
    CHECK(places[0] == 0 && places[127] == 127);
    CHECK(tb_find_tokens(&search, &at, 200, places, TB_TOKEN_BLOCK) == 64 && at == 192);
    CHECK(tb_find_tokens(&search, &at, 200, places, TB_TOKEN_BLOCK) == 8 && at == 200);
    CHECK(tb_find_tokens(&search, &at, 200, places, TB_TOKEN_BLOCK) == 0 && at == 200);
}

static void
check_windows(tb_random *random)
{
    int64_t starts[MOST_ROWS], lengths[MOST_ROWS], owner[MOST];
    int64_t window_starts[MOST], window_lengths[MOST], offsets[MOST + 1];
    int64_t segments[MOST * MOST_ROWS], at = pick(random, 5), first = at;
    ptrdiff_t rows = 1 + pick(random, MOST_ROWS), windows = 0, k = 0;

    for (ptrdiff_t i = 0; i < rows; i++) {
        starts[i] = at;
        lengths[i] = pick(random, 3) ? pick(random, 9) : 0;
        for (int64_t j = 0; j < lengths[i]; j++) {
            owner[at++] = i;
        }
    }
    for (int64_t begin = first; begin < at; begin += 1 + pick(random, 4)) {
        window_starts[windows] = begin;
        window_lengths[windows++] = 1 + pick(random, at - begin);
    }
    tb_window_rows all = {starts,        lengths,        rows,
                          window_starts, window_lengths, windows};
    CHECK(tb_count_window_segments(&all, offsets) == TB_OK);
    int64_t filled = 0, enough = 1 + pick(random, 20);
    ptrdiff_t done = 0, row = 0;
    while (done < windows) { /* in steps */
        ptrdiff_t before = done;
        int64_t more =
            tb_fill_window_segments(&all, &done, &row, enough, segments + filled);
        CHECK(done > before && more == offsets[done] - offsets[before]);
        CHECK(done == windows || more >= enough);
        filled += more;
    }
    CHECK(offsets[0] == 0);
    for (ptrdiff_t w = 0; w < windows; w++) {
        int64_t end = window_starts[w] + window_lengths[w];
        for (int64_t i = window_starts[w], run = 1; i < end; i++, run++) {
            if (i + 1 == end || owner[i + 1] != owner[i]) {
                CHECK(segments[k++] == run);
                run = 0;
            }
        }
        CHECK(offsets[w + 1] == k);
    }
}

static void
check_means(tb_random *random, int item_size)
{
    double wide[MOST], sums[MOST], out[MOST];
    float narrow[MOST];
    int64_t begins[MOST_ROWS], offsets[] = {0, 0, 0};
    ptrdiff_t lengths[MOST_ROWS], counts[MOST], total = 0, used = 0, chunk = 0;
    ptrdiff_t trailing = 1 + pick(random, 2), done = 0;
    const void *data[MOST_ROWS];
    tb_error error;

    memset(sums, 0, sizeof sums);
    memset(counts, 0, sizeof counts);
    for (ptrdiff_t d = 0; d < 2; d++) {
        ptrdiff_t length = pick(random, 20), max = 1 + pick(random, 8);
        ptrdiff_t step = 1 + pick(random, max), at = 0, left = 1;
        for (; left && chunk < MOST_ROWS / 2 * (d + 1); at += step) {
            left = at + max < length && chunk + 1 < MOST_ROWS / 2 * (d + 1);
            begins[chunk] = at;
            lengths[chunk] = at + max < length ? max : length - at;
            data[chunk] =
                item_size == 4 ? (void *)(narrow + used) : (void *)(wide + used);
            for (ptrdiff_t i = 0; i < lengths[chunk] * trailing; i++, used++) {
                narrow[used] = (float)pick(random, 64);
                wide[used] = (double)narrow[used];
                sums[done + at * trailing + i] += wide[used];
                counts[done + at * trailing + i]++;
            }
            length = left ? length : at + lengths[chunk];
            chunk++;
        }
        offsets[d + 1] = chunk;
        done += length * trailing;
    }
    tb_chunks chunks = {data, begins, lengths, trailing, item_size, offsets, 2};
    CHECK(tb_count_merged(&chunks, &total, &error) == TB_OK);
    CHECK(total * trailing == done);
    tb_mean_chunks(&chunks, out);
    for (ptrdiff_t i = 0; i < done; i++) {
        double mean = sums[i] / (double)counts[i];
        CHECK(item_size == 4 ? ((float *)out)[i] == (float)mean : out[i] == mean);
    }
}

static void
check_order(void)
{
    const int64_t offsets[] = {0, 2};
    const int64_t gap[] = {0, 3}, back[] = {1, 0}, inside[] = {0, 1}, far[] = {0, 2};
    const ptrdiff_t two[] = {2, 2}, more[] = {4, 2}, much[] = {2, PTRDIFF_MAX};
    tb_chunks chunks = {NULL, gap, two, 1, 4, offsets, 1};
    tb_error error = {-1, -1, -1};
    ptrdiff_t total;

    CHECK(tb_count_merged(&chunks, &total, &error) == TB_ERR_RANGE);
    CHECK(error.row == 1 && error.value == 3);
    chunks.begins = back;
    CHECK(tb_count_merged(&chunks, &total, &error) == TB_ERR_RANGE && error.row == 0);
    chunks.begins = inside;
    chunks.lengths = more;
    CHECK(tb_count_merged(&chunks, &total, &error) == TB_ERR_RANGE && error.row == 1);
    chunks.begins = far;
    chunks.lengths = much;
    CHECK(tb_count_merged(&chunks, &total, &error) == TB_ERR_RANGE && error.row == 1);
    chunks.lengths = two;
    CHECK(tb_count_merged(&chunks, &total, &error) == TB_OK && total == 4);
}

int
main(void)
{
    tb_random random;

    tb_seed_random(&random, 17, 0);

    for (int level = 0; level < TB_LEVEL_COUNT; level++) {
        if (!tb_level_available((tb_level)level)) {
            continue;
        }
        tb_use_level((tb_level)level);
        for (int i = 0; i < 2000; i++) {
            check_search(&random, 1 << i % 4);
        }
        check_room();
    }
    for (int i = 0; i < 500; i++) {
        check_windows(&random);
        check_means(&random, i % 2 ? 4 : 8);
    }
    check_order();
    return check_report();
}
