#include "core/plan/exchange.h"

#include "core/base/memory.h"
#include "core/base/size.h"

/* With how many of the cheapest parts the most expensive one tries. */
enum { PARTNERS = 24 };

typedef struct {
    const tb_priced_row *rows;
    ptrdiff_t *part_of;
    ptrdiff_t k;
    int equal_counts;
    int64_t *totals;
    ptrdiff_t *counts;
    ptrdiff_t *first; /* of each part: its rows are a chain, the most expensive first */
    ptrdiff_t *next;
    ptrdiff_t *order; /* of parts, the most expensive first */
    int64_t budget;   /* steps that are left */
} parts;

/* A row of the one part, and one of the other or none, -1. */
typedef struct {
    ptrdiff_t given;
    ptrdiff_t taken;
    int64_t gain;
} exchange;

static int
costs_more(const parts *all, ptrdiff_t a, ptrdiff_t b)
{
    return all->totals[a] > all->totals[b] ||
           (all->totals[a] == all->totals[b] && a < b);
}

static void
consider(const parts *all, ptrdiff_t given, ptrdiff_t taken, int64_t apart,
         exchange *best)
{
    int64_t moved = all->rows[given].cost - (taken < 0 ? 0 : all->rows[taken].cost);
    int64_t gain = tb_min(moved, apart - moved);

    if (gain > best->gain) {
        *best = (exchange){given, taken, gain};
    }
}

/* Finds what brings the two parts closest: to move about half of their difference. The
 * chains are walked once, since what is wanted in return gets cheaper with what is
 * given. */
static exchange
find_exchange(parts *all, ptrdiff_t high, ptrdiff_t low)
{
    int64_t apart = all->totals[high] - all->totals[low];
    int may_move = !all->equal_counts || all->counts[high] > all->counts[low];
    ptrdiff_t at = all->first[low], before = -1;
    exchange best = {-1, -1, 0};

    for (ptrdiff_t i = all->first[high]; i >= 0; i = all->next[i]) {
        int64_t wanted = all->rows[i].cost - apart / 2;
        while (at >= 0 && all->rows[at].cost > wanted) {
            before = at;
            at = all->next[at];
            all->budget--;
        }
        if (before >= 0) {
            consider(all, i, before, apart, &best);
        }
        if (at >= 0 || may_move) {
            consider(all, i, at, apart, &best);
        }
        all->budget--;
    }
    return best;
}

static void
unlink_row(parts *all, ptrdiff_t part, ptrdiff_t row)
{
    ptrdiff_t *link = &all->first[part];

    for (; *link != row; link = &all->next[*link]) {
        all->budget--;
    }
    *link = all->next[row];
    all->counts[part]--;
    all->totals[part] -= all->rows[row].cost;
}

static void
link_row(parts *all, ptrdiff_t part, ptrdiff_t row)
{
    ptrdiff_t *link = &all->first[part];

    for (; *link >= 0 && *link < row; link = &all->next[*link]) {
        all->budget--;
    }
    all->next[row] = *link;
    *link = row;
    all->part_of[row] = part;
    all->counts[part]++;
    all->totals[part] += all->rows[row].cost;
}

/* The part at `place` costs less than it did, or more: moves it to its place again. */
static void
place_again(parts *all, ptrdiff_t place)
{
    ptrdiff_t *order = all->order, part = order[place];

    for (; place > 0 && costs_more(all, part, order[place - 1]); place--) {
        order[place] = order[place - 1];
        all->budget--;
    }
    for (; place + 1 < all->k && costs_more(all, order[place + 1], part); place++) {
        order[place] = order[place + 1];
        all->budget--;
    }
    order[place] = part;
}

static tb_status
even_out(parts *all, tb_poll poll)
{
    ptrdiff_t last = all->k - 1, place = last;
    int64_t polled = all->budget;

    while (place > 0 && place > last - PARTNERS && all->budget > 0) {
        if (poll != NULL && polled - all->budget >= TB_STEPS_BETWEEN_POLLS) {
            polled = all->budget;
            if (poll() < 0) {
                return TB_ERR_INTERRUPTED;
            }
        }
        ptrdiff_t high = all->order[0], low = all->order[place];
        exchange best = find_exchange(all, high, low);
        if (best.gain == 0) {
            place--;
            continue;
        }
        unlink_row(all, high, best.given);
        if (best.taken >= 0) {
            unlink_row(all, low, best.taken);
            link_row(all, high, best.taken);
        }
        link_row(all, low, best.given);
        place_again(all, place); /* before the other, which is before it */
        place = 0;
        while (all->order[place] != high) {
            place++;
        }
        place_again(all, place);
        place = last;
    }
    return TB_OK;
}

static int
compare_totals(const void *left, const void *right)
{
    const tb_priced_row *a = (const tb_priced_row *)left;
    const tb_priced_row *b = (const tb_priced_row *)right;

    if (a->cost != b->cost) {
        return a->cost < b->cost ? 1 : -1;
    }
    return a->row < b->row ? -1 : a->row > b->row;
}

/* Chains of the rows of each part, and the order of parts; scratch: room for k. */
static void
survey_parts(parts *all, ptrdiff_t n, tb_priced_row *scratch)
{
    for (ptrdiff_t part = 0; part < all->k; part++) {
        all->first[part] = -1;
        all->totals[part] = all->counts[part] = 0;
    }
    for (ptrdiff_t i = n; i-- > 0;) {
        ptrdiff_t part = all->part_of[i];
        all->next[i] = all->first[part];
        all->first[part] = i;
        all->totals[part] += all->rows[i].cost;
        all->counts[part]++;
    }
    for (ptrdiff_t part = 0; part < all->k; part++) {
        scratch[part] = (tb_priced_row){all->totals[part], part};
    }
    qsort(scratch, (size_t)all->k, sizeof *scratch, compare_totals);
    for (ptrdiff_t place = 0; place < all->k; place++) {
        all->order[place] = scratch[place].row;
    }
}

tb_status
tb_even_parts(const tb_priced_row *rows, ptrdiff_t n, ptrdiff_t k, int equal_counts,
              tb_poll poll, ptrdiff_t *part_of)
{
    parts all = {
        .rows = rows, .part_of = part_of, .k = k, .equal_counts = equal_counts};
    tb_priced_row *scratch = (tb_priced_row *)tb_allocate_array(k, sizeof *scratch);
    tb_status status = TB_ERR_MEMORY;

    all.totals = (int64_t *)tb_allocate_array(k, sizeof *all.totals);
    all.counts = (ptrdiff_t *)tb_allocate_array(k, sizeof *all.counts);
    all.first = (ptrdiff_t *)tb_allocate_array(k, sizeof *all.first);
    all.order = (ptrdiff_t *)tb_allocate_array(k, sizeof *all.order);
    all.next = (ptrdiff_t *)tb_allocate_array(n, sizeof *all.next);
    if (scratch != NULL && all.totals != NULL && all.counts != NULL &&
        all.first != NULL && all.order != NULL && all.next != NULL) {
        /* About what it took to make the parts. */
        all.budget = 64 * (int64_t)n + 4096;
        survey_parts(&all, n, scratch);
        status = even_out(&all, poll);
    }
    free(scratch);
    free(all.totals);
    free(all.counts);
    free(all.first);
    free(all.order);
    free(all.next);
    return status;
}
