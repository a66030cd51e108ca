#include "core/plan/balance.h"

#include "core/base/memory.h"
#include "core/base/size.h"

/* One rank's rows in a partial deal, as a chain. */
typedef struct {
    int64_t cost;
    ptrdiff_t first; /* -1: no row */
    ptrdiff_t last;
} share;

typedef struct {
    int64_t cost;
    ptrdiff_t row;
} priced_row;

/* Partial deals, a heap with the largest difference on top. Deal k has its shares, the
 * largest first, from shares[k * ranks] on. */
typedef struct {
    ptrdiff_t ranks;
    share *shares;
    ptrdiff_t *next;
    ptrdiff_t *heap;
    ptrdiff_t count;
} deals;

static int
compare_rows(const void *left, const void *right)
{
    const priced_row *a = (const priced_row *)left, *b = (const priced_row *)right;

    if (a->cost != b->cost) {
        return a->cost < b->cost ? 1 : -1;
    }
    return a->row < b->row ? -1 : a->row > b->row;
}

static int64_t
find_difference(const deals *all, ptrdiff_t deal)
{
    const share *shares = all->shares + deal * all->ranks;

    return shares[0].cost - shares[all->ranks - 1].cost;
}

/* Whether deal a is to be joined before deal b. */
static int
comes_first(const deals *all, ptrdiff_t a, ptrdiff_t b)
{
    int64_t of_a = find_difference(all, a), of_b = find_difference(all, b);

    return of_a > of_b || (of_a == of_b && a < b);
}

static void
sift_down(deals *all, ptrdiff_t at)
{
    ptrdiff_t deal = all->heap[at];

    for (;;) {
        ptrdiff_t child = 2 * at + 1;
        if (child + 1 < all->count &&
            comes_first(all, all->heap[child + 1], all->heap[child])) {
            child++;
        }
        if (child >= all->count || !comes_first(all, all->heap[child], deal)) {
            break;
        }
        all->heap[at] = all->heap[child];
        at = child;
    }
    all->heap[at] = deal;
}

static void
join_shares(const deals *all, share *to, const share *from)
{
    if (from->first < 0) {
        return;
    }
    if (to->first < 0) {
        *to = *from;
        return;
    }
    all->next[to->last] = from->first;
    to->last = from->last;
    to->cost += from->cost;
}

/* Insertion: joined shares are few, and nearly in order. Stable. */
static void
sort_shares(share *shares, ptrdiff_t count)
{
    for (ptrdiff_t i = 1; i < count; i++) {
        share held = shares[i];
        ptrdiff_t j = i;
        for (; j > 0 && shares[j - 1].cost < held.cost; j--) {
            shares[j] = shares[j - 1];
        }
        shares[j] = held;
    }
}

/* Joins the second deal into the first, which is on top of the heap. */
static void
join_deals(deals *all, ptrdiff_t first, ptrdiff_t second)
{
    share *a = all->shares + first * all->ranks;
    share *b = all->shares + second * all->ranks;

    for (ptrdiff_t r = 0; r < all->ranks; r++) {
        join_shares(all, &a[r], &b[all->ranks - 1 - r]);
    }
    sort_shares(a, all->ranks);
}

static void
deal_rows(deals *all, const priced_row *rows, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < all->count * all->ranks; i++) {
        share *one = &all->shares[i];
        one->cost = i < n ? rows[i].cost : 0;
        one->first = one->last = i < n ? rows[i].row : -1;
        if (i < n) {
            all->next[rows[i].row] = -1;
        }
    }
    for (ptrdiff_t k = 0; k < all->count; k++) {
        all->heap[k] = k;
    }
    for (ptrdiff_t at = all->count / 2; at-- > 0;) {
        sift_down(all, at);
    }
    while (all->count > 1) {
        ptrdiff_t first = all->heap[0], second;
        all->heap[0] = all->heap[--all->count];
        sift_down(all, 0);
        second = all->heap[0];
        join_deals(all, first, second);
        all->heap[0] = first;
        sift_down(all, 0);
    }
}

static tb_status
check_costs(const int64_t *costs, ptrdiff_t n, ptrdiff_t ranks)
{
    int64_t total = 0;

    if (ranks < 1) {
        return TB_ERR_SIZE;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        if (costs[i] < 0) {
            return TB_ERR_NEGATIVE;
        }
        if (costs[i] > INT64_MAX - total) {
            return TB_ERR_SIZE;
        }
        total += costs[i];
    }
    return TB_OK;
}

/* Afterwards shares[r] is what rank r has. */
static void
note_ranks(const deals *all, int64_t *rank_of)
{
    for (ptrdiff_t r = 0; r < all->ranks; r++) {
        all->shares[r] = all->shares[all->heap[0] * all->ranks + r];
        for (ptrdiff_t row = all->shares[r].first; row >= 0; row = all->next[row]) {
            rank_of[row] = r;
        }
    }
}

/* Finds the two rows, one of each rank, whose exchange brings the ranks closest: their
 * costs differ by about half of the ranks' difference. Returns the gain; 0 where no
 * exchange helps. rows: from the most expensive on. */
static int64_t
find_exchange(const priced_row *rows, ptrdiff_t n, const int64_t *rank_of, int64_t high,
              int64_t low, int64_t apart, ptrdiff_t *of_high, ptrdiff_t *of_low)
{
    int64_t best = 0;
    ptrdiff_t given = -1;

    for (ptrdiff_t i = 0, j = 0; i < n; i++) {
        if (rank_of[rows[i].row] != high) {
            continue;
        }
        /* The first row of `low` that is cheaper by half or more, and the one before.
         */
        for (; j < n &&
               (rank_of[rows[j].row] != low || rows[i].cost - rows[j].cost < apart / 2);
             j++) {
            given = rank_of[rows[j].row] == low ? j : given;
        }
        const ptrdiff_t candidates[2] = {given, j};
        for (int k = 0; k < 2; k++) {
            ptrdiff_t at = candidates[k];
            int64_t less = at < 0 || at == n ? 0 : rows[i].cost - rows[at].cost;
            int64_t gain = less < apart - less ? less : apart - less;
            if (gain > best) {
                best = gain;
                *of_high = rows[i].row;
                *of_low = rows[at].row;
            }
        }
    }
    return best;
}

/* Where a few rows cost far more than all others, differencing in equal numbers gives
 * one rank too much. The ranks with the most and the least exchange rows while that
 * helps. */
static void
even_out(const deals *all, const int64_t *costs, const priced_row *rows, ptrdiff_t n,
         int64_t *rank_of)
{
    share *shares = all->shares;

    for (ptrdiff_t round = 0; round < 4 * all->ranks; round++) {
        ptrdiff_t high = 0, low = 0, of_high = 0, of_low = 0;
        for (ptrdiff_t r = 1; r < all->ranks; r++) {
            high = shares[r].cost > shares[high].cost ? r : high;
            low = shares[r].cost < shares[low].cost ? r : low;
        }
        if (find_exchange(rows, n, rank_of, high, low,
                          shares[high].cost - shares[low].cost, &of_high,
                          &of_low) == 0) {
            return;
        }
        int64_t moved = costs[of_high] - costs[of_low];
        shares[high].cost -= moved;
        shares[low].cost += moved;
        rank_of[of_high] = low;
        rank_of[of_low] = high;
    }
}

tb_status
tb_share_rows(const int64_t *costs, ptrdiff_t n, ptrdiff_t ranks, int64_t *rank_of)
{
    deals all = {.ranks = ranks};
    priced_row *rows = NULL;
    tb_status status = check_costs(costs, n, ranks);
    ptrdiff_t places = 0;

    if (status != TB_OK || n == 0) {
        return status;
    }
    all.count = (ptrdiff_t)tb_divide_up(n, ranks);
    if (tb_multiply_sizes(all.count, ranks, &places) != TB_OK) {
        return TB_ERR_SIZE;
    }
    rows = (priced_row *)tb_allocate_array(n, sizeof *rows);
    all.shares = (share *)tb_allocate_array(places, sizeof *all.shares);
    all.next = (ptrdiff_t *)tb_allocate_array(n, sizeof *all.next);
    all.heap = (ptrdiff_t *)tb_allocate_array(all.count, sizeof *all.heap);
    if (rows == NULL || all.shares == NULL || all.next == NULL || all.heap == NULL) {
        status = TB_ERR_MEMORY;
    }
    else {
        for (ptrdiff_t i = 0; i < n; i++) {
            rows[i].cost = costs[i];
            rows[i].row = i;
        }
        qsort(rows, (size_t)n, sizeof *rows, compare_rows);
        deal_rows(&all, rows, n);
        note_ranks(&all, rank_of);
        even_out(&all, costs, rows, n, rank_of);
    }
    free(rows);
    free(all.shares);
    free(all.next);
    free(all.heap);
    return status;
}
