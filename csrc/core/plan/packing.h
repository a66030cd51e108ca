/*
 * Packing: rows, longest first, each into the pack in which it leaves the least room
 * (best-fit decreasing; D. S. Johnson, "Near-optimal bin packing algorithms", 1973).
 * Of packs with equal room, the one that has had it longest takes the row.
 */
#ifndef TB_PACKING_H
#define TB_PACKING_H

#include "core/base/macros.h"
#include "core/base/status.h"
#include "core/plan/fit_tree.h"

/* The packs begun so far, numbered in the order in which they were begun. */
typedef struct {
    int64_t capacity; /* of a pack */
    int64_t max_rows; /* in a pack; INT64_MAX: any number */
    tb_pack *packs;
    uint32_t count;
    uint32_t allocated;
    tb_fit_tree tree;
} tb_packer;

/* No packs. capacity >= 0, max_rows >= 1. The packer is the caller's to free, also
 * after an error. */
TB_MUST_CHECK tb_status tb_start_packs(tb_packer *packer, int64_t capacity,
                                       int64_t max_rows);

/* Forgets all packs and keeps their memory. */
void tb_restart_packs(tb_packer *packer);

/* Packs `count` rows of one size, which is at most the capacity and at most the size
 * of the rows before. Fills pack_of, the number of each row's pack. More than 2**32 - 1
 * packs are TB_ERR_SIZE. */
TB_MUST_CHECK tb_status tb_pack_rows(tb_packer *packer, int64_t size, ptrdiff_t count,
                                     uint32_t *pack_of);

void tb_free_packs(tb_packer *packer);

#endif
