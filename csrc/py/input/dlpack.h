/*
 * The part of DLPack's C exchange API (version 1.3) that reading a CPU tensor needs,
 * after the specification at https://dmlc.github.io/dlpack/latest/c_api.html.
 */
#ifndef TB_DLPACK_H
#define TB_DLPACK_H

#include <stdint.h>

#define TB_DLPACK_MAJOR 1
#define TB_DLPACK_CAPSULE "dlpack_exchange_api"

enum { TB_DL_CPU = 1 };
enum {
    TB_DL_INT = 0,
    TB_DL_UINT = 1,
    TB_DL_FLOAT = 2,
    TB_DL_BFLOAT = 4,
    TB_DL_BOOL = 6
};

typedef struct {
    int32_t device_type;
    int32_t device_id;
} tb_dl_device;

typedef struct {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
} tb_dl_dtype;

/* Strides count elements; NULL means C-contiguous. */
typedef struct {
    void *data;
    tb_dl_device device;
    int32_t ndim;
    tb_dl_dtype dtype;
    int64_t *shape;
    int64_t *strides;
    uint64_t byte_offset;
} tb_dl_tensor;

typedef struct tb_dlpack_header {
    uint32_t major;
    uint32_t minor;
    struct tb_dlpack_header *previous;
} tb_dlpack_header;

/* The functions that are not called here keep their place in the table. */
typedef struct tb_dlpack_exchange {
    tb_dlpack_header header;
    void (*allocate)(void);
    void (*managed_from_object)(void);
    void (*managed_to_object)(void);
    int (*tensor_from_object)(void *object, tb_dl_tensor *out);
    void (*current_stream)(void);
} tb_dlpack_exchange;

#endif
