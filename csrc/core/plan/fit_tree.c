#include "core/plan/fit_tree.h"

#include "core/base/memory.h"

#include <string.h>

enum {
    DIGIT_BITS = 6, /* a digit of the room chooses one of the 64 bits of a mask */
    DIGIT_MASK = 63
};

/* branches: in a leaf, the pack that has had this room for the shortest time, whose
 * `next` is the one that has had it longest; in other nodes, the node below. Valid
 * where the bit of the mask is set. */
struct tb_fit_node {
    uint64_t mask;
    uint32_t branches[64];
};

static int
digit_of(int64_t room, int level)
{
    return (int)(room >> (level * DIGIT_BITS) & DIGIT_MASK);
}

tb_status
tb_start_fits(tb_fit_tree *tree, int64_t most)
{
    memset(tree, 0, sizeof *tree);
    tree->levels = 1;
    while (tree->levels < TB_FIT_LEVELS && most >> (tree->levels * DIGIT_BITS) != 0) {
        tree->levels++;
    }
    tree->allocated = 64;
    tree->nodes =
        (tb_fit_node *)tb_allocate_array(tree->allocated, sizeof *tree->nodes);
    if (tree->nodes == NULL) {
        return TB_ERR_MEMORY;
    }
    tb_restart_fits(tree);
    return TB_OK;
}

void
tb_restart_fits(tb_fit_tree *tree)
{
    tree->count = 1;
    tree->unused = 0;
    tree->nodes[0].mask = 0;
}

void
tb_free_fits(tb_fit_tree *tree)
{
    free(tree->nodes);
    memset(tree, 0, sizeof *tree);
}

tb_status
tb_reserve_fit(tb_fit_tree *tree)
{
    ptrdiff_t more = (ptrdiff_t)tree->allocated * 2;

    /* A new node on each level below the root. */
    if (tree->allocated - tree->count >= (uint32_t)tree->levels - 1) {
        return TB_OK;
    }
    if (more > UINT32_MAX || TB_RESIZE(tree->nodes, more) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    tree->allocated = (uint32_t)more;
    return TB_OK;
}

/* An empty node, of those that are reserved. */
static uint32_t
take_node(tb_fit_tree *tree)
{
    uint32_t node = tree->unused;

    if (node != 0) {
        tree->unused = tree->nodes[node].branches[0];
    }
    else {
        node = tree->count++;
    }
    tree->nodes[node].mask = 0;
    return node;
}

int64_t
tb_find_fit(const tb_fit_tree *tree, int64_t room, uint32_t *path)
{
    int level = tree->levels - 1, digit = digit_of(room, level);

    path[level] = 0;
    for (;;) {
        uint64_t from = tree->nodes[path[level]].mask >> digit << digit;
        while (from == 0) { /* nothing more here: on to the next branch above */
            if (++level == tree->levels) {
                return -1;
            }
            digit = digit_of(room, level);
            from = tree->nodes[path[level]].mask >> digit >> 1 << digit << 1;
        }
        int found = tb_find_lowest_bit(from);
        if (found !=
            digit_of(room, level)) { /* all below it is larger than asked for */
            room = (room >> (level * DIGIT_BITS) & ~(int64_t)DIGIT_MASK) | found;
            room = (int64_t)((uint64_t)room << (level * DIGIT_BITS));
        }
        if (level == 0) {
            return room;
        }
        path[level - 1] = tree->nodes[path[level]].branches[found];
        digit = digit_of(room, --level);
    }
}

uint32_t
tb_take_fit(tb_fit_tree *tree, tb_pack *packs, int64_t room, const uint32_t *path)
{
    uint32_t last = tree->nodes[path[0]].branches[digit_of(room, 0)];
    uint32_t first = packs[last].next;

    if (first != last) {
        packs[last].next = packs[first].next;
        return first;
    }
    for (int level = 0; level < tree->levels; level++) {
        tb_fit_node *node = &tree->nodes[path[level]];
        node->mask &= ~((uint64_t)1 << digit_of(room, level));
        if (node->mask != 0 || path[level] == 0) {
            break;
        }
        node->branches[0] = tree->unused;
        tree->unused = path[level];
    }
    return first;
}

tb_status
tb_put_fit(tb_fit_tree *tree, tb_pack *packs, uint32_t pack)
{
    int64_t room = packs[pack].room;
    uint32_t at = 0;

    if (tb_reserve_fit(tree) != TB_OK) {
        return TB_ERR_MEMORY;
    }
    for (int level = tree->levels - 1; level > 0; level--) {
        int digit = digit_of(room, level);
        if (!(tree->nodes[at].mask >> digit & 1)) {
            uint32_t below = take_node(tree);
            tree->nodes[at].mask |= (uint64_t)1 << digit;
            tree->nodes[at].branches[digit] = below;
        }
        at = tree->nodes[at].branches[digit];
    }
    tb_fit_node *leaf = &tree->nodes[at];
    int digit = digit_of(room, 0);
    uint32_t *last = &leaf->branches[digit];
    if (leaf->mask >> digit & 1) {
        packs[pack].next = packs[*last].next;
        packs[*last].next = pack;
    }
    else {
        leaf->mask |= (uint64_t)1 << digit;
        packs[pack].next = pack;
    }
    *last = pack;
    return TB_OK;
}
