#include "core/plan/balance.h"

#include "core/base/memory.h"
#include "core/plan/exchange.h"

tb_status
tb_share_rows(const int64_t *costs, ptrdiff_t n, ptrdiff_t ranks, int64_t *rank_of)
{
    tb_priced_row *rows = NULL;
    ptrdiff_t *part_of = NULL;
    tb_error error;
    tb_status status = TB_ERR_MEMORY;

    if (ranks < 1) {
        return TB_ERR_SIZE;
    }
    rows = (tb_priced_row *)tb_allocate_array(n, sizeof *rows);
    part_of = (ptrdiff_t *)tb_allocate_array(n, sizeof *part_of);
    if (rows != NULL && part_of != NULL) {
        status = tb_price_rows(costs, n, rows, &error);
    }
    if (status == TB_OK) {
        status = tb_difference_rows(rows, n, ranks, 1, NULL, part_of);
    }
    if (status == TB_OK) {
        status = tb_even_parts(rows, n, ranks, 1, NULL, part_of);
    }
    for (ptrdiff_t i = 0; status == TB_OK && i < n; i++) {
        rank_of[rows[i].row] = part_of[i];
    }
    free(rows);
    free(part_of);
    return status;
}
