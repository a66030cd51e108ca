/* The types of elements that the core knows. */
#ifndef TB_TYPE_H
#define TB_TYPE_H

typedef enum {
    TB_BOOL, /* one byte, 0 or 1 */
    TB_I8,
    TB_I16,
    TB_I32,
    TB_I64,
    TB_U8,
    TB_U16,
    TB_U32,
    TB_U64,
    TB_F32,
    TB_F64,
    TB_F16,
    TB_BF16,
    TB_NUMPY_ONLY, /* the core moves it, and only NumPy converts it */
} tb_type;

enum { TB_MAX_ITEM_SIZE = 16 };

static inline int
tb_type_is_integer(tb_type type)
{
    return type >= TB_I8 && type <= TB_U64;
}

static inline int
tb_type_is_float(tb_type type)
{
    return type >= TB_F32 && type <= TB_BF16;
}

/* Whether it is a floating type of two bytes. */
static inline int
tb_type_is_half(tb_type type)
{
    return type == TB_F16 || type == TB_BF16;
}

/* Bytes of an element; not for TB_NUMPY_ONLY, whose size only its column knows. */
static inline int
tb_type_size(tb_type type)
{
    static const unsigned char sizes[TB_NUMPY_ONLY] = {1, 1, 2, 4, 8, 1, 2,
                                                       4, 8, 4, 8, 2, 2};
    return sizes[type];
}

#endif
