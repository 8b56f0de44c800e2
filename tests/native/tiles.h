/* Intel's matrix tiles in plain C, so that what uses them is tested where there are none. Included
   before the kernels (`-include`), instead of the instructions. */

#include <immintrin.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps

typedef struct {
    int bytes, rows;
    uint8_t data[16][64];
} Tile;

__attribute__((weak)) __thread Tile tiles_of_thread[8]; /* one, whichever file says so */

static inline void configured(const void *config) {
    const uint8_t *at = (const uint8_t *)config;
    for (int i = 0; i < 8; i++) {
        uint16_t bytes;
        memcpy(&bytes, at + 16 + 2 * i, sizeof bytes);
        tiles_of_thread[i].bytes = bytes;
        tiles_of_thread[i].rows = at[48 + i];
    }
}

static inline void tile_loaded(int i, const void *from, int64_t stride) {
    Tile *t = tiles_of_thread + i;
    for (int r = 0; r < t->rows; r++)
        memcpy(t->data[r], (const uint8_t *)from + r * stride, (size_t)t->bytes);
}

static inline void tile_stored(int i, void *to, int64_t stride) {
    const Tile *t = tiles_of_thread + i;
    for (int r = 0; r < t->rows; r++)
        memcpy((uint8_t *)to + r * stride, t->data[r], (size_t)t->bytes);
}

static inline float from_bfloat16(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline void products_of_bfloat16(int sum, int a, int b) {
    for (int m = 0; m < tiles_of_thread[sum].rows; m++)
        for (int k = 0; k < tiles_of_thread[a].bytes / 4; k++)
            for (int n = 0; n < tiles_of_thread[sum].bytes / 4; n++) {
                float total, *place = (float *)tiles_of_thread[sum].data[m] + n;
                const uint16_t *x = (const uint16_t *)tiles_of_thread[a].data[m] + 2 * k;
                const uint16_t *y = (const uint16_t *)tiles_of_thread[b].data[k] + 2 * n;
                memcpy(&total, place, sizeof total);
                total += from_bfloat16(x[0]) * from_bfloat16(y[0]);
                total += from_bfloat16(x[1]) * from_bfloat16(y[1]);
                memcpy(place, &total, sizeof total);
            }
}

#define _tile_loadconfig(config) configured(config)
#define _tile_release() (void)0
#define _tile_zero(i) memset(tiles_of_thread[i].data, 0, sizeof tiles_of_thread[i].data)
#define _tile_loadd(i, from, stride) tile_loaded(i, from, stride)
#define _tile_stored(i, to, stride) tile_stored(i, to, stride)
#define _tile_dpbf16ps(sum, a, b) products_of_bfloat16(sum, a, b)
#define syscall(...) 0 /* the system grants everything */
