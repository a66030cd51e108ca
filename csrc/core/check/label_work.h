/* What is known of a column of labels while it is checked. */
#ifndef TB_LABEL_WORK_H
#define TB_LABEL_WORK_H

#include "core/check/story.h"

/* What the labels of a segment, or of all, are. `shift` is how far ahead of a label its
 * token is. */
typedef struct {
    ptrdiff_t trained;
    ptrdiff_t comparable; /* of them, those whose token is in the segment */
    ptrdiff_t same;       /* of them, those that are that token */
    ptrdiff_t bad;        /* the first out of range, flat, or -1 */
    /* Of those that are the same at another shift: tokens without a label of their own.
     * All of one id may be padding, where no mask tells. */
    ptrdiff_t unlabelled;
    int64_t unlabelled_id;
    int has_other_ids;
} tb_label_counts;

typedef struct {
    tb_check *check;
    int column;
    const int64_t *labels;
    const int64_t *ids; /* or NULL */
    int64_t ignored;
    int64_t limit;
    int shift;
    int repeats; /* the labels are the tokens: those of a language model */
    ptrdiff_t tail;
    tb_label_counts all;
    int64_t *trained; /* in each segment; -1: only a label that is shifted away */
} tb_label_work;

/* Labels of token ids are at least this somewhere; tags are below. */
enum { TB_LEAST_TOKEN = 256 };

/* Notes labels on padding, and those of first tokens that padding predicts. */
void tb_check_label_padding(const tb_label_work *w);

/* Notes segments without a label, but for those that lack one by chance. */
void tb_check_labelled_rows(const tb_label_work *w);

/* Labels that have rows of their own: as many as there are rows, and not all ignored. */
void tb_check_row_labels(tb_check *check, int i);

/* Notes multi-hot labels of rows that were padded. */
void tb_check_padded_classes(tb_check *check, int i);

#endif
