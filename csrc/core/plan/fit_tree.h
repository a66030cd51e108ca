/*
 * Packs by the room they have left: which one has the least that is enough?
 *
 * A tree over the bits of the room, six at a time: each node says which of its 64
 * branches lead to a pack. The smallest room that is large enough is found in a few
 * instructions for each level, whatever the capacity. Of packs with equal room, the one
 * that has had it longest comes first.
 */
#ifndef TB_FIT_TREE_H
#define TB_FIT_TREE_H

#include "core/base/macros.h"
#include "core/base/status.h"

enum { TB_FIT_LEVELS = 11 /* of 6 bits each: all of int64 */ };

typedef struct {
    int64_t room; /* what is left of the capacity */
    uint32_t rows;
    uint32_t next; /* in the ring of packs with the same room */
} tb_pack;

typedef struct tb_fit_node tb_fit_node;

/* The nodes alone: packs are the caller's, in one array, and known by their numbers. */
typedef struct {
    int levels;
    uint32_t count;
    uint32_t allocated;
    uint32_t unused; /* the first of a chain of nodes given back; 0 (the root): none */
    tb_fit_node *nodes;
} tb_fit_tree;

/* No packs, for rooms from 0 to `most`. The tree is the caller's to free, also after an
 * error. */
TB_MUST_CHECK tb_status tb_start_fits(tb_fit_tree *tree, int64_t most);

/* Forgets all packs and keeps the memory. */
void tb_restart_fits(tb_fit_tree *tree);

void tb_free_fits(tb_fit_tree *tree);

/* The smallest room of any pack from `room` on, or -1; `path`, TB_FIT_LEVELS long, gets
 * the nodes that lead to it, by level. */
int64_t tb_find_fit(const tb_fit_tree *tree, int64_t room, uint32_t *path);

/* Takes the pack that has had the room that was found longest out of the tree. */
uint32_t tb_take_fit(tb_fit_tree *tree, tb_pack *packs, int64_t room,
                     const uint32_t *path);

/* Memory for one more pack, wherever it comes: the next one is put without asking for
 * any. */
TB_MUST_CHECK tb_status tb_reserve_fit(tb_fit_tree *tree);

/* Puts a pack into the tree, by its room. Where memory is lacking the tree is as before.
 */
TB_MUST_CHECK tb_status tb_put_fit(tb_fit_tree *tree, tb_pack *packs, uint32_t pack);

#endif
