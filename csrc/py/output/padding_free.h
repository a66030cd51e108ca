/* A padding-free batch while it is made: columns laid out one row after another, and
 * extras from where their segments begin and end. */
#ifndef TB_PADDING_FREE_BATCH_H
#define TB_PADDING_FREE_BATCH_H

#include "core/layout/padding_free.h"
#include "py/input/lengths.h"
#include "py/output/columns.h"

/* The extras, which are made beside the columns. */
typedef enum {
    TB_SHIFT_LABELS,      /* the labels, each a position earlier in its segment */
    TB_POSITION_IDS,      /* int64 [1, width], positions in the segment */
    TB_SEQ_IDX,           /* int32 [1, width], number of the segment */
    TB_CU_SEQLENS,        /* int32 [entries + 1], where segments begin and end */
    TB_CU_SEQLENS_TOKENS, /* the same without the padding of segments */
    TB_ROW_IDX            /* int64 [entries], the row that a segment is of */
} tb_padding_free_extra;

/* The collator's settings, under the names of its parameters; -1 means not given. */
typedef struct {
    int64_t max_tokens;
    int64_t max_segments;
    int64_t max_seqlen;
    int64_t pad_to_multiple_of;
    int64_t segment_multiple_of;
    int64_t max_length;
    int64_t position_ids_start;
    int truncation_side; /* 1: a cut segment keeps its end */
    int return_num_items;
    int keep_empty; /* segments without tokens count as segments */
} tb_padding_free_settings;

typedef struct {
    tb_state *state;
    tb_context context;
    tb_padding_free_settings settings;
    tb_padding_free plan;
    tb_output *outputs;            /* columns, then extras */
    tb_padding_free_extra *extras; /* the kind of each extra */
    Py_ssize_t columns, count;
    Py_ssize_t main;    /* the column whose lengths all others have */
    Py_ssize_t labels;  /* or -1 */
    tb_output mask;     /* spec and column of a mask, which must be ones; or empty */
    tb_output segments; /* lengths of segments, if rows are packs; or empty */
    tb_int_rows segment_lengths; /* what `segments` holds */
    ptrdiff_t *segment_rows;     /* and the row of each; NULL: segment i is row i */
} tb_padding_free_batch;

/* Whether the segments of a pack move apart, because padding comes between them or some
 * of their tokens are cut off. */
static inline int
tb_moves_segments(const tb_padding_free_batch *batch)
{
    return batch->segment_lengths.values != NULL &&
           (batch->plan.segment_multiple > 1 || batch->plan.max_length != INT64_MAX);
}

/* padding_free_plan.c: reads the settings from a dict with a value for each name;
 * ValueError for settings that contradict each other. */
int tb_read_padding_free_settings(const tb_context *context, PyObject *mapping,
                                  tb_padding_free_settings *settings);

/* Reads the specs of the columns, in their order, into `outputs`, `mask` and
 * `segments`, and surveys their rows. */
int tb_read_padding_free_columns(tb_padding_free_batch *batch, PyObject *specs);

/* Plans where each segment goes; ValueError for what does not fit. */
int tb_plan_batch(tb_padding_free_batch *batch);

/* padding_free.c: settles types, lays out, allocates and fills; once more, if a list
 * turned out to hold floats. */
int tb_run_batch(tb_padding_free_batch *batch, PyObject *allocate, int as_tensors);

void tb_clear_batch(tb_padding_free_batch *batch);

#endif
