#include "core/plan/fairness.h"

#include "core/plan/cost.h"

#include <math.h>
#include <string.h>

/* The batch that is being read. Sums of lengths are kept as doubles: they need not fit
 * into 64 bits. */
typedef struct {
    int64_t rows;
    double tokens;
    double filled; /* tokens and padding */
    double width;  /* of the longest row */
} open_batch;

/* Sums over batches, of mean lengths less that of the first, which is 0 then. */
typedef struct {
    tb_spread *spread;
    double origin, last;
    double rows, rows_squared;
    double sum, squares, products;
    double tokens, filled;
} sums;

static void
end_batch(sums *all, open_batch *batch)
{
    tb_spread *spread = all->spread;
    double mean = batch->tokens / (double)batch->rows;

    if (spread->batches == 0) {
        all->origin = mean;
        spread->rows_min = batch->rows;
    }
    mean -= all->origin;
    all->products += mean * all->last;
    all->last = mean;
    all->sum += mean;
    all->squares += mean * mean;
    all->rows += (double)batch->rows;
    all->rows_squared += (double)batch->rows * (double)batch->rows;
    all->tokens += batch->tokens;
    all->filled += batch->filled;
    spread->rows_min = batch->rows < spread->rows_min ? batch->rows : spread->rows_min;
    spread->rows_max = batch->rows > spread->rows_max ? batch->rows : spread->rows_max;
    spread->batches++;
    memset(batch, 0, sizeof *batch);
}

static double
find_deviation(double sum, double squares, double n)
{
    double variance = squares / n - sum / n * (sum / n);

    return variance > 0 ? sqrt(variance) : 0;
}

/* Pearson's, of all batches but the last with all but the first. */
static double
find_correlation(const sums *all, double n)
{
    double before = all->sum - all->last, after = all->sum, pairs = n - 1;
    double of_before =
        find_deviation(before, all->squares - all->last * all->last, pairs);
    double of_after = find_deviation(after, all->squares, pairs);
    double both = all->products / pairs - before / pairs * (after / pairs);
    /* Of equal mean lengths rounding alone leaves a deviation. */
    double least = 1e-7 * (fabs(all->origin) + 1);

    return n > 2 && of_before > least && of_after > least ? both / of_before / of_after
                                                          : 0;
}

static void
sum_up(const sums *all)
{
    tb_spread *spread = all->spread;
    double n = (double)spread->batches;

    if (spread->batches == 0) {
        return;
    }
    spread->rows_mean = all->rows / n;
    spread->rows_std = find_deviation(all->rows, all->rows_squared, n);
    spread->length_std = find_deviation(all->sum, all->squares, n);
    spread->correlation = find_correlation(all, n);
    spread->padding = all->filled > 0 ? 1 - all->tokens / all->filled : 0;
}

/* Packs count as filled up to the cap; other batches without padding have none. */
static void
fill_batch(open_batch *batch, int64_t rows, double tokens, double width,
           const tb_batch_settings *settings)
{
    int is_packed = settings->padding_free && settings->max_tokens != INT64_MAX;

    batch->rows += rows;
    batch->tokens += tokens;
    batch->filled += is_packed                ? (double)settings->max_tokens
                     : settings->padding_free ? tokens
                                              : width * (double)rows;
}

/* Tokens of a row, once padded. */
static double
find_width(int64_t length, const tb_batch_settings *settings)
{
    tb_batch_settings plain = *settings;
    int64_t width = 0;

    plain.quadratic = 0;
    return tb_find_row_cost(length, &plain, &width) == TB_OK ? (double)width
                                                             : (double)length;
}

void
tb_measure_batches(const int64_t *lengths, const int64_t *offsets, ptrdiff_t batches,
                   ptrdiff_t group, const tb_batch_settings *settings,
                   tb_spread *spread)
{
    sums all = {.spread = spread};
    open_batch batch = {0};

    memset(spread, 0, sizeof *spread);
    for (ptrdiff_t k = 0; k < batches; k++) {
        int64_t longest = 0;
        double tokens = 0;
        for (int64_t i = offsets[k]; i < offsets[k + 1]; i++) {
            longest = lengths[i] > longest ? lengths[i] : longest;
            tokens += (double)lengths[i];
        }
        fill_batch(&batch, offsets[k + 1] - offsets[k], tokens,
                   find_width(longest, settings), settings);
        if ((k + 1) % group == 0 || k + 1 == batches) {
            end_batch(&all, &batch);
        }
    }
    sum_up(&all);
}

/* Puts rows in a random order, and says how many: enough of them to measure. */
static ptrdiff_t
draw_lengths(int64_t *lengths, ptrdiff_t n, tb_random *random)
{
    if (n <= TB_RANDOM_ROWS) {
        /* Lengths are not negative: the same bits in either type. */
        tb_shuffle_words(random, (uint64_t *)lengths, (size_t)n);
        return n;
    }
    for (ptrdiff_t i = 0; i < TB_RANDOM_ROWS; i++) {
        ptrdiff_t j = i + (ptrdiff_t)tb_random_below(random, (uint64_t)(n - i));
        int64_t length = lengths[j];
        lengths[j] = lengths[i];
        lengths[i] = length;
    }
    return TB_RANDOM_ROWS;
}

void
tb_measure_random(int64_t *lengths, ptrdiff_t n, const tb_batch_settings *settings,
                  tb_random *random, tb_spread *spread)
{
    sums all = {.spread = spread};
    open_batch batch = {0};
    int64_t rows = 0, cost = 0, most = 0, total = 0, longest = 0;
    double tokens = 0;

    memset(spread, 0, sizeof *spread);
    n = draw_lengths(lengths, n, random);
    for (ptrdiff_t i = 0; i <= n; i++) {
        int is_end = i == n;
        if (!is_end && tb_find_row_cost(lengths[i], settings, &cost) != TB_OK) {
            cost = settings->max_tokens;
        }
        int64_t dearest = cost > most ? cost : most;
        int is_over =
            rows == settings->batch_size ||
            (settings->padding_free ? cost > settings->max_tokens - total
                                    : dearest > settings->max_tokens / (rows + 1));
        if (rows > 0 && (is_end || is_over)) {
            fill_batch(&batch, rows, tokens, find_width(longest, settings), settings);
            end_batch(&all, &batch);
            rows = total = longest = 0;
            dearest = cost;
            tokens = 0;
        }
        if (!is_end) {
            rows++;
            most = dearest;
            total += settings->max_tokens == INT64_MAX ? 0 : cost;
            longest = lengths[i] > longest ? lengths[i] : longest;
            tokens += (double)lengths[i];
        }
    }
    sum_up(&all);
}
