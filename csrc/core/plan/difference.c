#include "core/plan/difference.h"

#include "core/base/memory.h"
#include "core/base/size.h"
#include "core/base/sort.h"

#include <string.h>

enum { FEW_SHARES = 32 /* are put in order by insertion */ };

/* One part of a deal: its rows, as a chain of places in the order of cost. */
typedef struct {
    int64_t cost;
    ptrdiff_t first;
    ptrdiff_t last;
} share;

/* Its shares that have rows, as a heap with the smallest on top; the others of k shares
 * are empty. */
typedef struct {
    share *shares;
    ptrdiff_t count;
    ptrdiff_t room; /* of memory of its own; 0: it has none */
    int64_t largest;
} deal;

typedef struct {
    int64_t apart; /* the largest share less the smallest */
    ptrdiff_t deal;
} entry;

/* A heap of deals, with the largest difference on top. */
typedef struct {
    ptrdiff_t k;
    share *rows; /* a share for each row */
    ptrdiff_t *next;
    deal *deals;
    entry *heap;
    ptrdiff_t count;
    tb_poll poll;
    ptrdiff_t steps; /* since it was called */
} deals;

static int
compare_rows(const void *left, const void *right)
{
    const tb_priced_row *a = (const tb_priced_row *)left;
    const tb_priced_row *b = (const tb_priced_row *)right;

    if (a->cost != b->cost) {
        return a->cost < b->cost ? 1 : -1;
    }
    return a->row < b->row ? -1 : a->row > b->row;
}

/* By radix, where a cost and the number of a row fit into 64 bits. */
static tb_status
sort_items(const int64_t *costs, ptrdiff_t n, int64_t most, int bits,
           tb_priced_row *rows)
{
    uint64_t *items = (uint64_t *)tb_allocate_array(n, sizeof *items);
    uint64_t *scratch = (uint64_t *)tb_allocate_array(n, sizeof *scratch);
    uint64_t mask = ((uint64_t)1 << bits) - 1;
    tb_status status = items == NULL || scratch == NULL ? TB_ERR_MEMORY : TB_OK;

    if (status == TB_OK) {
        for (ptrdiff_t i = 0; i < n; i++) {
            items[i] = (uint64_t)(most - costs[i]) << bits | (uint64_t)i;
        }
        tb_sort_items(items, n, tb_lay_out_sort((uint64_t)most, n, bits), scratch);
        for (ptrdiff_t i = 0; i < n; i++) {
            rows[i].row = (ptrdiff_t)(items[i] & mask);
            rows[i].cost = costs[rows[i].row];
        }
    }
    free(items);
    free(scratch);
    return status;
}

tb_status
tb_price_rows(const int64_t *costs, ptrdiff_t n, tb_priced_row *rows, tb_error *error)
{
    int64_t total = 0, most = 0;

    for (ptrdiff_t i = 0; i < n; i++) {
        *error = (tb_error){i, -1, costs[i]};
        if (costs[i] < 0) {
            return TB_ERR_NEGATIVE;
        }
        if (costs[i] > INT64_MAX - total) {
            return TB_ERR_SIZE;
        }
        total += costs[i];
        most = tb_max(most, costs[i]);
    }
    int bits = n > 1 ? tb_count_bits((uint64_t)n - 1) : 1;
    if (tb_count_bits((uint64_t)most) + bits <= 64) {
        return sort_items(costs, n, most, bits, rows);
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        rows[i] = (tb_priced_row){costs[i], i};
    }
    qsort(rows, (size_t)n, sizeof *rows, compare_rows);
    return TB_OK;
}

static int
comes_first(entry a, entry b)
{
    return a.apart > b.apart || (a.apart == b.apart && a.deal < b.deal);
}

static void
sift_down(deals *all, ptrdiff_t at)
{
    entry held = all->heap[at];

    for (;;) {
        ptrdiff_t child = 2 * at + 1;
        if (child + 1 < all->count &&
            comes_first(all->heap[child + 1], all->heap[child])) {
            child++;
        }
        if (child >= all->count || !comes_first(all->heap[child], held)) {
            break;
        }
        all->heap[at] = all->heap[child];
        at = child;
    }
    all->heap[at] = held;
}

/* Whether a share is below another one: it is smaller, or begins with a later row. */
static int
is_below(share a, share b)
{
    return a.cost < b.cost || (a.cost == b.cost && a.first > b.first);
}

static int
compare_shares(const void *left, const void *right)
{
    const share *a = (const share *)left, *b = (const share *)right;

    return is_below(*a, *b) ? -1 : is_below(*b, *a);
}

/* The smallest share first, which is a heap too. */
static void
order_shares(deal *one)
{
    share *shares = one->shares;
    ptrdiff_t count = one->count, i = 1;

    while (i < count && !is_below(shares[i], shares[i - 1])) {
        i++;
    }
    if (i < count && count > FEW_SHARES) {
        qsort(shares, (size_t)count, sizeof *shares, compare_shares);
        return;
    }
    for (; i < count; i++) {
        share held = shares[i];
        ptrdiff_t j = i;
        for (; j > 0 && is_below(held, shares[j - 1]); j--) {
            shares[j] = shares[j - 1];
        }
        shares[j] = held;
    }
}

static void
put_share(deal *one, share added)
{
    share *shares = one->shares;
    ptrdiff_t at = one->count++;

    while (at > 0 && is_below(added, shares[(at - 1) / 2])) {
        shares[at] = shares[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    shares[at] = added;
    one->largest = tb_max(one->largest, added.cost);
}

/* Takes out the smallest share. What is taken comes back as large, or larger: `largest`
 * stays. */
static share
take_share(deal *one)
{
    share *shares = one->shares, taken = shares[0], last = shares[--one->count];
    ptrdiff_t at = 0;

    for (;;) {
        ptrdiff_t child = 2 * at + 1;
        if (child >= one->count) {
            break;
        }
        child += child + 1 < one->count && is_below(shares[child + 1], shares[child]);
        if (!is_below(shares[child], last)) {
            break;
        }
        shares[at] = shares[child];
        at = child;
    }
    shares[at] = last;
    return taken;
}

/* Room for `count` shares, at most k. */
static tb_status
make_room(deal *one, ptrdiff_t count, ptrdiff_t k)
{
    ptrdiff_t room = count > k / 2 ? k : 2 * count;

    if (one->room >= count || (one->room == 0 && one->count >= count)) {
        return TB_OK;
    }
    share *shares = (share *)tb_allocate_array(room, sizeof *shares);
    if (shares == NULL) {
        return TB_ERR_MEMORY;
    }
    memcpy(shares, one->shares, (size_t)one->count * sizeof *shares);
    if (one->room > 0) {
        free(one->shares);
    }
    one->shares = shares;
    one->room = room;
    return TB_OK;
}

static tb_status
look_up(deals *all, ptrdiff_t steps)
{
    all->steps += steps;
    if (all->poll == NULL || all->steps < TB_STEPS_BETWEEN_POLLS) {
        return TB_OK;
    }
    all->steps = 0;
    return all->poll() < 0 ? TB_ERR_INTERRUPTED : TB_OK;
}

/* The row chain of one share goes behind that of another. */
static share
join_shares(deals *all, share to, share from)
{
    all->next[to.last] = from.first;
    return (share){to.cost + from.cost, to.first, from.last};
}

/* Both have k shares, in order. */
static tb_status
join_full(deals *all, deal *a, const deal *b)
{
    order_shares(a);
    for (ptrdiff_t i = 0; i < all->k; i++) {
        a->shares[i] = join_shares(all, a->shares[i], b->shares[all->k - 1 - i]);
        a->largest = tb_max(a->largest, a->shares[i].cost);
    }
    order_shares(a);
    return look_up(all, all->k);
}

/* Joins deal b into deal a: of both, the one with fewer shares into the other. So all
 * joins together take about n log n steps, whatever k is. */
static tb_status
join_deals(deals *all, deal *a, deal *b)
{
    if (b->count > a->count) {
        deal more = *b;
        *b = *a;
        *a = more;
    }
    ptrdiff_t alone = tb_min(all->k - a->count, b->count), both = b->count - alone;
    tb_status status = make_room(a, a->count + alone, all->k);

    order_shares(b);
    if (status == TB_OK && both == all->k) {
        status = join_full(all, a, b);
    }
    else if (status == TB_OK) {
        /* b's largest go where a has none, and the next one to a's smallest. */
        for (ptrdiff_t j = both; j-- > 0;) {
            b->shares[j] = join_shares(all, take_share(a), b->shares[j]);
        }
        for (ptrdiff_t j = 0; j < b->count; j++) {
            put_share(a, b->shares[j]);
        }
        status = look_up(all, b->count);
    }
    if (b->room > 0) {
        free(b->shares);
        b->room = 0;
    }
    return status;
}

static entry
enter(const deals *all, ptrdiff_t number)
{
    const deal *one = &all->deals[number];
    int64_t least = one->count < all->k ? 0 : one->shares[0].cost;

    return (entry){one->largest - least, number};
}

static tb_status
join_all(deals *all)
{
    tb_status status = TB_OK;

    for (ptrdiff_t at = 0; at < all->count; at++) {
        all->heap[at] = enter(all, at);
    }
    for (ptrdiff_t at = all->count / 2; at-- > 0;) {
        sift_down(all, at);
    }
    while (status == TB_OK && all->count > 1) {
        ptrdiff_t first = all->heap[0].deal, second;
        all->heap[0] = all->heap[--all->count];
        sift_down(all, 0);
        second = all->heap[0].deal;
        status = join_deals(all, &all->deals[first], &all->deals[second]);
        all->heap[0] = enter(all, first);
        sift_down(all, 0);
    }
    return status;
}

static void
note_parts(const deals *all, ptrdiff_t *part_of)
{
    deal *left = &all->deals[all->heap[0].deal];

    order_shares(left);
    for (ptrdiff_t part = 0; part < left->count; part++) { /* the largest first */
        for (ptrdiff_t at = left->shares[left->count - 1 - part].first; at >= 0;
             at = all->next[at]) {
            part_of[at] = part;
        }
    }
}

tb_status
tb_difference_rows(const tb_priced_row *rows, ptrdiff_t n, ptrdiff_t k,
                   int equal_counts, tb_poll poll, ptrdiff_t *part_of)
{
    ptrdiff_t run = equal_counts ? k : 1, count = (ptrdiff_t)tb_divide_up(n, run);
    deals all = {.k = k, .count = count, .poll = poll};
    tb_status status = TB_ERR_MEMORY;

    if (n == 0) {
        return TB_OK;
    }
    all.rows = (share *)tb_allocate_array(n, sizeof *all.rows);
    all.next = (ptrdiff_t *)tb_allocate_array(n, sizeof *all.next);
    all.deals = (deal *)tb_allocate_array(count, sizeof *all.deals);
    all.heap = (entry *)tb_allocate_array(count, sizeof *all.heap);
    if (all.rows != NULL && all.next != NULL && all.deals != NULL && all.heap != NULL) {
        for (ptrdiff_t i = 0; i < count; i++) {
            ptrdiff_t begin = i * run, size = tb_min(n - begin, run);
            share *shares = all.rows + begin;
            for (ptrdiff_t j = 0; j < size; j++) { /* the smallest first: a heap */
                ptrdiff_t row = begin + size - 1 - j;
                shares[j] = (share){rows[row].cost, row, row};
                all.next[row] = -1;
            }
            all.deals[i] = (deal){shares, size, 0, rows[begin].cost};
        }
        status = join_all(&all);
        if (status == TB_OK) {
            note_parts(&all, part_of);
        }
        for (ptrdiff_t i = 0; i < count; i++) {
            if (all.deals[i].room > 0) {
                free(all.deals[i].shares);
            }
        }
    }
    free(all.rows);
    free(all.next);
    free(all.deals);
    free(all.heap);
    return status;
}
