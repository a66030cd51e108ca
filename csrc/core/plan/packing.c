#include "core/plan/packing.h"

#include "core/base/memory.h"

#include <string.h>

tb_status
tb_start_packs(tb_packer *packer, int64_t capacity, int64_t max_rows)
{
    memset(packer, 0, sizeof *packer);
    packer->capacity = capacity;
    packer->max_rows = max_rows;
    return tb_start_fits(&packer->tree, capacity);
}

void
tb_restart_packs(tb_packer *packer)
{
    packer->count = 0;
    tb_restart_fits(&packer->tree);
}

void
tb_free_packs(tb_packer *packer)
{
    tb_free_fits(&packer->tree);
    free(packer->packs);
    memset(packer, 0, sizeof *packer);
}

static tb_status
begin_pack(tb_packer *packer, uint32_t *pack)
{
    if (packer->count == packer->allocated) {
        ptrdiff_t more = packer->allocated == 0 ? 64 : (ptrdiff_t)packer->allocated * 2;
        if (more > UINT32_MAX) {
            return TB_ERR_SIZE;
        }
        if (TB_RESIZE(packer->packs, more) != TB_OK) {
            return TB_ERR_MEMORY;
        }
        packer->allocated = (uint32_t)more;
    }
    *pack = packer->count++;
    packer->packs[*pack].room = packer->capacity;
    packer->packs[*pack].rows = 0;
    return TB_OK;
}

/* A pack that has taken a row and has room for another one of that size is again the
 * best: no other pack has a room between (or an equal one, if the size is 0). So it
 * takes as many of these rows as it can at once. */
tb_status
tb_pack_rows(tb_packer *packer, int64_t size, ptrdiff_t count, uint32_t *pack_of)
{
    uint32_t path[TB_FIT_LEVELS];
    tb_status status = TB_OK;

    while (count > 0 && status == TB_OK) {
        int64_t room = tb_find_fit(&packer->tree, size, path);
        uint32_t pack = 0;
        if (room >= 0) {
            pack = tb_take_fit(&packer->tree, packer->packs, room, path);
        }
        else {
            status = begin_pack(packer, &pack);
            if (status != TB_OK) {
                break;
            }
        }
        int64_t fits = size > 0 ? packer->packs[pack].room / size : INT64_MAX;
        int64_t open = packer->max_rows - packer->packs[pack].rows;
        ptrdiff_t taken = fits < open ? (ptrdiff_t)fits : (ptrdiff_t)open;
        if (taken > count) {
            taken = count;
        }
        for (ptrdiff_t i = 0; i < taken; i++) {
            pack_of[i] = pack;
        }
        pack_of += taken;
        count -= taken;
        packer->packs[pack].rows += (uint32_t)taken;
        packer->packs[pack].room -= size * taken;
        if (open > taken) {
            status = tb_put_fit(&packer->tree, packer->packs, pack);
        }
    }
    return status;
}
