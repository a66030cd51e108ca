/*
 * Whether all columns of a batch tell one story about where rows begin and end.
 *
 * The story is a list of segments: runs of tokens that see each other. It comes from the
 * columns that know it, by majority where they disagree, and then each column is held
 * against it. All places are flat, row * width + column, until they are reported.
 */
#ifndef TB_BATCH_CHECK_H
#define TB_BATCH_CHECK_H

#include "core/base/macros.h"
#include "core/base/status.h"
#include "core/cast/type.h"

/* What a column is for. */
typedef enum {
    TB_ROLE_IDS,
    TB_ROLE_EMBEDS, /* only its first two dimensions are used */
    TB_ROLE_MASK,   /* [rows, width], or a square one for each row */
    TB_ROLE_POSITIONS,
    TB_ROLE_BOUNDARIES,        /* cu_seqlens */
    TB_ROLE_PADDED_BOUNDARIES, /* those that count each segment's padding too */
    TB_ROLE_LONGEST,           /* max_seqlen */
    TB_ROLE_SEQ_IDX,           /* a number for each segment; -1 is padding */
    TB_ROLE_SEGMENT_IDS,       /* the same from 1; 0 is padding */
    TB_ROLE_SEQ_LENGTHS,       /* the lengths of the segments of each row */
    TB_ROLE_LENGTHS,           /* the length of each row */
    TB_ROLE_LABELS,            /* a model shifts them by itself */
    TB_ROLE_SHIFTED_LABELS,    /* at each token the label of the next one */
    TB_ROLE_TARGETS,           /* either of them */
    TB_ROLE_DECODER_LABELS,    /* the next of decoder_input_ids */
    TB_ROLE_ROW_LABELS,        /* those of a decoder: rows of their own */
    TB_ROLE_LOSS_MASK,         /* 1 at the tokens that are trained */
    TB_ROLE_OTHER,             /* one number for each token */
} tb_role;

/* What is found. The binding's names are in this order. */
typedef enum {
    TB_FOUND_SHAPE,
    TB_FOUND_ID_RANGE,
    TB_FOUND_MASK_VALUE,
    TB_FOUND_MASK_EMPTY,
    TB_FOUND_MASK_HOLE,
    TB_FOUND_MASK_JOINS,
    TB_FOUND_MASK_LEAK,
    TB_FOUND_MASK_BLIND,
    TB_FOUND_ROWS,
    TB_FOUND_START,
    TB_FOUND_ORDER,
    TB_FOUND_END,
    TB_FOUND_LONGEST,
    TB_FOUND_TAIL,
    TB_FOUND_RESTART,
    TB_FOUND_STEP,
    TB_FOUND_POSITION_RANGE,
    TB_FOUND_REPEATED,
    TB_FOUND_LENGTH,
    TB_FOUND_LABEL_RANGE,
    TB_FOUND_LABEL_ON_PADDING,
    TB_FOUND_LABEL_CROSSES,
    TB_FOUND_LABEL_SHIFT,
    TB_FOUND_LABEL_DIFFERS,
    TB_FOUND_ROW_LABELS_PADDED,
    TB_FOUND_BATCH_UNLABELLED,
    TB_FOUND_ROW_UNLABELLED,
    TB_FOUND_AFTER_PADDING, /* no fault: a note */
    TB_FOUND_COUNT
} tb_found;

/* What the elements of a column are, once its shape is known. */
typedef enum {
    TB_FORM_NONE,   /* not looked at */
    TB_FORM_GRID,   /* one for each token */
    TB_FORM_AXES,   /* several for each token */
    TB_FORM_LIST,   /* few numbers: boundaries, lengths */
    TB_FORM_SQUARE, /* one for each query and key */
} tb_form;

enum { TB_CHECK_DIMS = 5 };

typedef struct {
    tb_role role;
    tb_type type;
    int ndim; /* at most TB_CHECK_DIMS */
    ptrdiff_t shape[TB_CHECK_DIMS];
    const void *data;
    int same_as; /* an earlier column that is this object, or -1 */
    int partner; /* the boundaries that a longest row is of, or -1 */
    /* The rest is the core's. */
    tb_form form;
    ptrdiff_t size;
    const int64_t *wide; /* the elements as int64, or NULL */
    void *owned;         /* memory of `wide` to free */
    ptrdiff_t row_step;  /* of a grid: 0 where one row stands for all */
    ptrdiff_t axes, axis_step, token_step;
    int is_sound;    /* what it says of rows can be used */
    int is_deferred; /* it is read by itself only if it disagrees with another */
    int is_weights;  /* a loss mask of floats */
    int is_numbered; /* a mask of segment numbers */
    int is_compact;  /* boundaries that count only real tokens */
    int tells_next;  /* labels of the next token */
    int64_t start;   /* of positions */
} tb_check_column;

/* -1 as `row`, `place`, `other`: none. */
typedef struct {
    tb_found kind;
    int column;
    int other;
    ptrdiff_t row;
    ptrdiff_t place;
    int64_t found;
    int64_t expected;
} tb_finding;

typedef struct {
    int64_t max_position; /* -1: not known */
    int64_t vocab_size;   /* -1: not known */
    int64_t ignore_index;
} tb_check_settings;

typedef struct {
    ptrdiff_t begin;
    ptrdiff_t end;
} tb_stretch;

enum { TB_MOST_FINDINGS = 256 };

typedef struct {
    tb_check_settings settings;
    tb_check_column *columns;
    int count;
    int lent_from; /* the columns from here on are of other rows if they do not fit; 0:
                      none */
    tb_finding *findings; /* room for TB_MOST_FINDINGS */
    ptrdiff_t found;      /* may be more than there is room for */
    /* The rest is the core's. */
    ptrdiff_t rows, width, total;
    ptrdiff_t choices;   /* rows that have one label together; 1 */
    int grid_from;       /* the column whose shape the batch has, or -1 */
    int ids;             /* the column of ids, or -1 */
    int real_from;       /* the column that knows padding, or -1 */
    int starts_from;     /* the one that knows where segments begin, or -1 */
    tb_stretch *extents; /* what is real of each row */
    tb_stretch *spans;
    ptrdiff_t span_count;
    ptrdiff_t real_total;
    ptrdiff_t room; /* of spans, starts and votes */
    ptrdiff_t *starts;
    int64_t *votes; /* of each token; or the labels of each segment */
    int has_doubts; /* segment numbers do not rise */
    int are_ids_in_range;
} tb_check;

/* Checks the columns and fills `findings`, the first of each kind in each row of a
 * column. TB_OK also where something is found; TB_ERR_MEMORY. tb_end_check() frees. */
TB_MUST_CHECK tb_status tb_check_columns(tb_check *check);
void tb_end_check(tb_check *check);

#endif
