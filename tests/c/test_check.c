/* The check of a batch: right and wrong boundaries, and any numbers in any roles. */
#include "core/check/check.h"
#include "check.h"
#include "core/base/random.h"
#include "core/base/size.h"
#include "core/check/scan.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 600, COLUMNS = 7, ROUNDS = 30000 };

static int64_t
pick(tb_random *random, int64_t below)
{
    return (int64_t)tb_random_below(random, (uint64_t)below);
}

static void
check_scans(void)
{
    static const ptrdiff_t sizes[] = {0, 1, 3, 4, 7, 8, 9, 15, 17, 31, 33, 65, 300};
    int64_t p[MOST], q[MOST];

    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        ptrdiff_t n = sizes[s];
        for (ptrdiff_t wrong = -1; wrong < n; wrong++) {
            ptrdiff_t expected = wrong < 0 ? n : wrong;
            for (ptrdiff_t i = 0; i < n; i++) {
                p[i] = 5 + i;
                q[i] = 7;
            }
            if (wrong >= 0) {
                p[wrong] = -1;
                q[wrong] = 6;
            }
            CHECK(tb_scan_count_up(p, n, 5) == expected);
            CHECK(tb_scan_range(p, n, 5 + n) == expected);
            CHECK(tb_scan_other(q, n, 7) == expected);
            CHECK(tb_scan_value(q, n, 6) == expected);
            CHECK(tb_scan_equal(q, q, n) == n);
            ptrdiff_t alike = wrong == 0 && n > 1 ? 1 : expected;
            CHECK(tb_scan_constant(q, 8, n) == (n == 1 ? 1 : alike));
        }
    }
}

static tb_check_column
column_of(tb_role role, const int64_t *data, int ndim, ptrdiff_t first,
          ptrdiff_t second)
{
    tb_check_column column = {.role = role,
                              .type = TB_I64,
                              .ndim = ndim,
                              .shape = {first, second},
                              .data = data,
                              .same_as = -1,
                              .partner = -1};
    return column;
}

static tb_check
check_of(tb_check_column *columns, int count, tb_finding *findings)
{
    tb_check check = {.settings = {-1, -1, -100}};

    check.columns = columns;
    check.count = count;
    check.findings = findings;
    return check;
}

static void
check_boundaries(void)
{
    const int64_t ids[] = {5, 6, 7, 8, 9}, positions[] = {0, 1, 2, 0, 1};
    const int64_t right[] = {0, 3, 5}, moved[] = {0, 2, 5}, late[] = {1, 3, 5};
    const int64_t short_by_one[] = {0, 3, 4}, down[] = {0, 3, 2};
    const struct {
        const int64_t *boundaries;
        int found;
        tb_found kind;
        ptrdiff_t place;
    } cases[] = {{right, 0, TB_FOUND_SHAPE, 0},
                 {moved, 1, TB_FOUND_ROWS, 1},
                 {late, 1, TB_FOUND_START, 0},
                 {short_by_one, 1, TB_FOUND_END, 2},
                 {down, 1, TB_FOUND_ORDER, 2}};
    tb_finding findings[TB_MOST_FINDINGS];

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        tb_check_column columns[3] = {
            column_of(TB_ROLE_IDS, ids, 2, 1, 5),
            column_of(TB_ROLE_POSITIONS, positions, 2, 1, 5),
            column_of(TB_ROLE_BOUNDARIES, cases[k].boundaries, 1, 3, 0)};
        tb_check check = check_of(columns, 3, findings);
        CHECK(tb_check_columns(&check) == TB_OK);
        CHECK((check.found > 0) == cases[k].found);
        int is_there = !cases[k].found;
        for (ptrdiff_t i = 0; i < check.found; i++) {
            is_there |= findings[i].kind == cases[k].kind && findings[i].column == 2 &&
                        findings[i].place == cases[k].place;
        }
        CHECK(is_there);
        tb_end_check(&check);
    }
}

/* A column in memory that ends where it ends, so that the sanitizers see who reads on. Some
 * masks of floats hide all by several numbers, as attention masks that were added do. */
static void *
copy_column(const tb_check_column *column, const int64_t *data, tb_random *random)
{
    static const float hidden[] = {-1e9F, -2e9F, -3e38F, 0};
    ptrdiff_t count = 1;

    for (int axis = 0; axis < column->ndim; axis++) {
        count *= column->shape[axis];
    }
    size_t size = (size_t)(count * tb_type_size(column->type));
    void *copy = malloc(size + (size == 0));
    CHECK(copy != NULL && size <= MOST * sizeof *data);
    memcpy(copy, data, size);
    if (column->type == TB_F32 && pick(random, 2)) {
        int64_t kinds = 3 + pick(random, 2);
        for (ptrdiff_t k = 0; k < count; k++) {
            ((float *)copy)[k] = hidden[pick(random, kinds)];
        }
    }
    return copy;
}

/* Whatever the numbers: nothing outside the columns is read, and places are in them. */
static void
check_any_numbers(void)
{
    static const tb_type types[] = {TB_I64, TB_I32, TB_U8, TB_BOOL, TB_F32, TB_F16};
    static const int64_t extremes[] = {INT64_MAX, INT64_MIN, INT32_MAX, INT64_MAX - 1};
    static int64_t data[COLUMNS][MOST];
    void *copies[COLUMNS];
    tb_finding findings[TB_MOST_FINDINGS];
    tb_random random;

    tb_seed_random(&random, 5, 0);
    for (int round = 0; round < ROUNDS; round++) {
        ptrdiff_t rows = pick(&random, 4), width = pick(&random, 9);
        tb_check_column columns[COLUMNS];
        for (int i = 0; i < COLUMNS; i++) {
            int64_t below = 1 + pick(&random, 2 + pick(&random, 20));
            for (int k = 0; k < MOST; k++) {
                data[i][k] = pick(&random, 40) == 0   ? extremes[pick(&random, 4)]
                             : pick(&random, 30) == 0 ? -pick(&random, 200)
                             : pick(&random, 3) > 0 && k > 0
                                 ? tb_min(data[i][k - 1], 1000) + pick(&random, 2)
                                 : pick(&random, below);
            }
            int ndim = (int)pick(&random, 5);
            columns[i] = column_of((tb_role)pick(&random, TB_ROLE_OTHER + 1), data[i],
                                   ndim, rows, width);
            if (ndim == 1) {
                columns[i].shape[0] = pick(&random, 2) ? width : pick(&random, 9);
            }
            if (ndim > 2) {
                columns[i].shape[ndim - 2] = pick(&random, 2) ? width : 1;
                columns[i].shape[ndim - 1] = pick(&random, 4) ? width : 3;
                columns[i].shape[1] = ndim == 4 ? 1 : columns[i].shape[1];
            }
            columns[i].type = types[pick(&random, 3) ? 0 : pick(&random, 6)];
            columns[i].partner = (int)pick(&random, COLUMNS + 1) - 1;
            columns[i].data = copies[i] = copy_column(&columns[i], data[i], &random);
        }
        tb_check check = check_of(columns, COLUMNS, findings);
        check.settings.max_position = pick(&random, 2) ? -1 : 1 + pick(&random, 9);
        check.settings.vocab_size = pick(&random, 2) ? -1 : 1 + pick(&random, 30);
        check.lent_from = pick(&random, 2) ? 0 : (int)pick(&random, COLUMNS);
        CHECK(tb_check_columns(&check) == TB_OK);
        for (ptrdiff_t i = 0; i < check.found && i < TB_MOST_FINDINGS; i++) {
            CHECK(findings[i].kind < TB_FOUND_COUNT);
            CHECK(findings[i].column >= 0 && findings[i].column < COLUMNS);
            CHECK(findings[i].other >= -1 && findings[i].other < COLUMNS);
            CHECK(findings[i].row >= -1 && findings[i].row < MOST);
            CHECK(findings[i].place >= -1 && findings[i].place < MOST);
        }
        tb_end_check(&check);
        for (int i = 0; i < COLUMNS; i++) {
            free(copies[i]);
        }
    }
}

int
main(void)
{
    check_scans();
    check_boundaries();
    check_any_numbers();
    return check_report();
}
