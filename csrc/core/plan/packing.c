#include "core/plan/packing.h"

#include <stdlib.h>
#include <string.h>

enum {
    DIGIT_BITS = 6, /* a digit of the room chooses one of the 64 bits of a mask */
    DIGIT_MASK = 63,
    MAX_LEVELS = 11 /* of 6 bits each: all of int64 */
};

/* branches: in a leaf, the pack that has had this room for the shortest time, whose
 * `next` is the one that has had it longest; in other nodes, the node below. Valid
 * where the bit of the mask is set. */
typedef struct {
    uint64_t mask;
    uint32_t branches[64];
} tree_node;

struct tb_pack_tree {
    int levels;
    uint32_t count;
    uint32_t allocated;
    uint32_t unused; /* the first of a chain of nodes given back; 0 (the root): none */
    tree_node *nodes;
};

static int
digit_of(int64_t room, int level)
{
    return (int)(room >> (level * DIGIT_BITS) & DIGIT_MASK);
}

tb_status
tb_start_packs(tb_packer *packer, int64_t capacity, int64_t max_rows)
{
    tb_pack_tree *tree = (tb_pack_tree *)calloc(1, sizeof *tree);

    memset(packer, 0, sizeof *packer);
    packer->capacity = capacity;
    packer->max_rows = max_rows;
    packer->tree = tree;
    if (tree == NULL) {
        return TB_ERR_MEMORY;
    }
    tree->levels = 1;
    while (tree->levels < MAX_LEVELS && capacity >> (tree->levels * DIGIT_BITS) != 0) {
        tree->levels++;
    }
    tree->allocated = 64;
    tree->nodes = (tree_node *)malloc(tree->allocated * sizeof *tree->nodes);
    if (tree->nodes == NULL) {
        return TB_ERR_MEMORY;
    }
    tb_restart_packs(packer);
    return TB_OK;
}

void
tb_restart_packs(tb_packer *packer)
{
    packer->count = 0;
    packer->tree->count = 1;
    packer->tree->unused = 0;
    packer->tree->nodes[0].mask = 0;
}

void
tb_free_packs(tb_packer *packer)
{
    if (packer->tree != NULL) {
        free(packer->tree->nodes);
    }
    free(packer->tree);
    free(packer->packs);
    memset(packer, 0, sizeof *packer);
}

/* An empty node; 0 where memory is lacking. Nodes may move. */
static uint32_t
take_node(tb_pack_tree *tree)
{
    uint32_t node = tree->unused;

    if (node != 0) {
        tree->unused = tree->nodes[node].branches[0];
    }
    else {
        if (tree->count == tree->allocated) {
            size_t more = (size_t)tree->allocated * 2;
            tree_node *moved =
                more > UINT32_MAX
                    ? NULL
                    : (tree_node *)realloc(tree->nodes, more * sizeof *tree->nodes);
            if (moved == NULL) {
                return 0;
            }
            tree->nodes = moved;
            tree->allocated = (uint32_t)more;
        }
        node = tree->count++;
    }
    tree->nodes[node].mask = 0;
    return node;
}

/* The smallest room of any pack from `room` on, or -1; `path` gets the nodes that lead
 * to it, by level. */
static int64_t
find_room(const tb_pack_tree *tree, int64_t room, uint32_t *path)
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

/* Takes the pack that has had this room longest out of the tree. */
static uint32_t
take_pack(tb_packer *packer, int64_t room, const uint32_t *path)
{
    tb_pack_tree *tree = packer->tree;
    uint32_t last = tree->nodes[path[0]].branches[digit_of(room, 0)];
    uint32_t first = packer->packs[last].next;

    if (first != last) {
        packer->packs[last].next = packer->packs[first].next;
        return first;
    }
    for (int level = 0; level < tree->levels; level++) {
        tree_node *node = &tree->nodes[path[level]];
        node->mask &= ~((uint64_t)1 << digit_of(room, level));
        if (node->mask != 0 || path[level] == 0) {
            break;
        }
        node->branches[0] = tree->unused;
        tree->unused = path[level];
    }
    return first;
}

static tb_status
put_pack(tb_packer *packer, uint32_t pack)
{
    tb_pack_tree *tree = packer->tree;
    int64_t room = packer->packs[pack].room;
    uint32_t at = 0;

    for (int level = tree->levels - 1; level > 0; level--) {
        int digit = digit_of(room, level);
        if (!(tree->nodes[at].mask >> digit & 1)) {
            uint32_t below = take_node(tree);
            if (below == 0) {
                return TB_ERR_MEMORY;
            }
            tree->nodes[at].mask |= (uint64_t)1 << digit;
            tree->nodes[at].branches[digit] = below;
        }
        at = tree->nodes[at].branches[digit];
    }
    tree_node *leaf = &tree->nodes[at];
    int digit = digit_of(room, 0);
    uint32_t *last = &leaf->branches[digit];
    if (leaf->mask >> digit & 1) {
        packer->packs[pack].next = packer->packs[*last].next;
        packer->packs[*last].next = pack;
    }
    else {
        leaf->mask |= (uint64_t)1 << digit;
        packer->packs[pack].next = pack;
    }
    *last = pack;
    return TB_OK;
}

static tb_status
begin_pack(tb_packer *packer, uint32_t *pack)
{
    if (packer->count == packer->allocated) {
        size_t more = packer->allocated == 0 ? 64 : (size_t)packer->allocated * 2;
        if (more > UINT32_MAX) {
            return TB_ERR_SIZE;
        }
        tb_pack *moved = (tb_pack *)realloc(packer->packs, more * sizeof *moved);
        if (moved == NULL) {
            return TB_ERR_MEMORY;
        }
        packer->packs = moved;
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
    uint32_t path[MAX_LEVELS];
    tb_status status = TB_OK;

    while (count > 0 && status == TB_OK) {
        int64_t room = find_room(packer->tree, size, path);
        uint32_t pack = 0;
        if (room >= 0) {
            pack = take_pack(packer, room, path);
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
            status = put_pack(packer, pack);
        }
    }
    return status;
}
