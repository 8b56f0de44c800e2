/* Products with matrices of floats, in panels of 16 outputs.

   Each sum takes its inputs in ascending order: neither the number of tokens nor that of panels taken
   at once changes it. */

#include "network.h"

#ifdef TILES
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* Tokens whose sums are held in registers at once, and vectors of outputs for so many tokens. */
enum { ROWS = 6 };
#ifdef __AVX512F__
#define VECTORS(rows) 4
#else
#define VECTORS(rows) ((rows) < 4 ? 4 : 2)
#endif

INLINE int64_t number_bytes(Kind kind) { return kind == F32 ? 4 : 2; }

/* Bytes of a panel: [in, 16], and of bfloat16 [in / 2, 16, 2], padded as tiles want it. */
INLINE int64_t panel_bytes(Kind kind, int64_t in) {
    return (kind == BF16 ? in_tiles(in) : in) * PANEL * number_bytes(kind);
}

/* Ask for the weights of inputs `k` and k + 1 before they are needed. */
INLINE void ask_for_pair(Kind kind, const uint8_t *panel, int64_t k) {
    const int64_t bytes = number_bytes(kind) * PANEL;
    for (int64_t i = 0; i < 2 * bytes; i += 64) __builtin_prefetch(panel + k * bytes + i);
}

/* The weights of input `k`, which is even, for the v-th vector of outputs, and those of k + 1. */
INLINE void pair_at(Kind kind, const uint8_t *panel, int64_t k, int v, int alone, vec *even,
                    vec *odd) {
    if (kind == BF16) {
        uvec both = bits_at(panel + (k * PANEL + 2 * v * LANES) * 2);
        *even = (vec)(both << 16);
        *odd = (vec)(both & 0xffff0000u);
        return;
    }
    const uint8_t *at = panel + (k * PANEL + v * LANES) * number_bytes(kind);
    *even = kind == F32 ? load((const float *)at) : float16s_at(at);
    if (alone) return;
    at += PANEL * number_bytes(kind);
    *odd = kind == F32 ? load((const float *)at) : float16s_at(at);
}

/* `vectors` vectors of outputs, from the first-th of the panel `w` on, for `rows` tokens. Weights come
   from memory as quickly as they are multiplied for a few tokens, if only they are asked for in time:
   with each line of a panel the same one of the panel at `next`, whose turn is next. */
INLINE void strip(Kind kind, const uint8_t *w, const uint8_t *next, int64_t in, int first,
                  int vectors, const float *x, int rows, vec sums[][4]) {
    const int64_t bytes = panel_bytes(kind, in);
    int64_t k = 0;
    vec even, odd;
    for (; k + 2 <= in; k += 2)
        for (int v = 0; v < vectors; v++) {
            const int64_t panel = (first + v) / HALVES * bytes;
            if ((first + v) % HALVES == 0) ask_for_pair(kind, next + panel, k);
            pair_at(kind, w + panel, k, (first + v) % HALVES, 0, &even, &odd);
            for (int r = 0; r < rows; r++) sums[r][v] = fused(even, all_of(x[r * in + k]), sums[r][v]);
            for (int r = 0; r < rows; r++) sums[r][v] = fused(odd, all_of(x[r * in + k + 1]), sums[r][v]);
        }
    for (int v = 0; v < vectors && k < in; v++) {
        pair_at(kind, w + (first + v) / HALVES * bytes, k, (first + v) % HALVES, 1, &even, &odd);
        for (int r = 0; r < rows; r++) sums[r][v] = fused(even, all_of(x[r * in + k]), sums[r][v]);
    }
}

/* One or several panels for `rows` tokens, before as many that follow; `count` outputs exist. */
INLINE void panels(Kind kind, const uint8_t *w, int64_t in, int many, const float *x, int rows,
                   const float *bias, int64_t count, float *out, int64_t out_stride, int add) {
    const uint8_t *next = w + many * panel_bytes(kind, in);
    const int step = many * HALVES < VECTORS(rows) ? many * HALVES : VECTORS(rows);
    vec all[ROWS][4 * HALVES];
    for (int first = 0; first < many * HALVES; first += step) {
        vec sums[ROWS][4] = {0};
        strip(kind, w, next, in, first, step, x, rows, sums);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < step; v++) all[r][first + v] = sums[r][v];
    }
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < many; i++)
            deliver(all[r] + i * HALVES, bias ? bias + i * PANEL : 0, count - i * PANEL, add,
                    out + r * out_stride + i * PANEL);
}

/* The same for all tokens, in turns of about as many. */
INLINE void for_rows(Kind kind, const uint8_t *w, int many, const Rows *x, const float *bias,
                     int64_t count, float *out, int64_t out_stride, int add) {
    int64_t first = 0;
    for (int64_t turns = (x->rows + ROWS - 1) / ROWS; turns > 0; turns--) {
        const int64_t rows = (x->rows - first + turns - 1) / turns;
        const float *values = x->values + first * x->in;
        float *to = out + first * out_stride;
#define OF(rows) panels(kind, w, x->in, many, values, rows, bias, count, to, out_stride, add)
        switch (rows) {
            case 1: OF(1); break;
            case 2: OF(2); break;
            case 3: OF(3); break;
            case 4: OF(4); break;
            case 5: OF(5); break;
            default: OF(ROWS);
        }
#undef OF
        first += rows;
    }
}

INLINE void product_of(Kind kind, const Matrix *w, int64_t begin, int64_t end, const Rows *x,
                       float *out, int64_t out_stride, int add) {
    enum { MANY = 4 };
    const int64_t bytes = panel_bytes(kind, w->in);
    int64_t o = begin;
    for (; o + MANY * PANEL <= end; o += MANY * PANEL)
        for_rows(kind, w->data + o / PANEL * bytes, MANY, x, w->bias ? w->bias + o : 0, end - o,
                 out + o, out_stride, add);
    for (; o < end; o += PANEL)
        for_rows(kind, w->data + o / PANEL * bytes, 1, x, w->bias ? w->bias + o : 0, end - o,
                 out + o, out_stride, add);
}

/* Tiles multiply bfloat16 only, so a token's float32 row is split into three of bfloat16, whose sum
   it is to the last bit; TOKENS times three rows fill a tile, and more tokens take further tiles. */
enum { TOKENS = 5 };

#ifdef TILES
enum { TILE = PANEL * TILE_INS };

/* Whether this process may use tiles: the system is asked once. */
int64_t may_use_tiles(void) {
    static int64_t granted = -1;
    int64_t known = __atomic_load_n(&granted, __ATOMIC_RELAXED);
    if (known < 0) {
        known = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
        __atomic_store_n(&granted, known, __ATOMIC_RELAXED);
    }
    return known;
}

void open_tiles(int64_t rows) {
    int tokens = rows < TOKENS ? (int)rows : TOKENS;
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 5; i++) { /* two of sums, one of tokens, two of weights */
        config.bytes[i] = 64;
        config.rows[i] = (uint8_t)(i > 2 ? TILE_INS / 2 : PARTS * tokens);
    }
    __asm__ volatile("" : : "r"(&config) : "memory"); /* GCC before 13.3 sees eight bytes read */
    _tile_loadconfig(&config);
}

void close_tiles(void) { _tile_release(); }

void split_rows(const Rows *x) {
    const int64_t in = x->in, width = in_tiles(in);
    for (int64_t r = 0; r < x->rows; r++)
        for (int64_t k = 0; k < width; k += LANES) {
            __mmask16 held = in - k >= LANES ? 0xffff : (__mmask16)((1 << (in > k ? in - k : 0)) - 1);
            __m512 left = _mm512_maskz_loadu_ps(held, x->values + r * in + k);
            for (int part = 0; part < PARTS; part++) {
                __m256bh taken = _mm512_cvtneps_pbh(left);
                memcpy(x->parts + (r * PARTS + part) * width + k, &taken, sizeof taken);
                left = _mm512_sub_ps(left, _mm512_castsi512_ps(_mm512_slli_epi32(
                                               _mm512_cvtepu16_epi32((__m256i)taken), 16)));
            }
        }
}

static void tiled_product(const Matrix *w, int64_t begin, int64_t end, const Rows *x, float *out,
                          int64_t out_stride, int add) {
    const int64_t width = in_tiles(w->in), across = width / TILE_INS, panel = across * TILE;
    const int64_t tokens = x->rows < TOKENS ? x->rows : TOKENS;
    for (int64_t o = begin; o < end; o += 2 * PANEL) {
        const int64_t wide = (end - o + PANEL - 1) / PANEL;
        const uint16_t *column = (const uint16_t *)w->data + o / PANEL * panel;
        for (int64_t first = 0; first < x->rows; first += tokens) {
            const uint16_t *part = x->parts + first * PARTS * width;
            float sums[2][TOKENS * PARTS][PANEL];
            _tile_zero(0);
            _tile_zero(1);
            for (int64_t k = 0; k < across; k++) {
                const uint16_t *tile = column + k * TILE;
                _tile_loadd(2, part + k * TILE_INS, 2 * width);
                _tile_loadd(3, tile, 64);
                _tile_dpbf16ps(0, 2, 3);
                if (wide < 2) continue;
                _tile_loadd(4, tile + panel, 64);
                _tile_dpbf16ps(1, 2, 4);
            }
            _tile_stored(0, sums[0], 64);
            _tile_stored(1, sums[1], 64);
            for (int64_t r = 0; r < tokens && first + r < x->rows; r++)
                for (int64_t i = 0; i < 2 && i < wide; i++) {
                    const float *sum = sums[i][PARTS * r];
                    const int64_t place = o + i * PANEL;
                    vec total = (load(sum + 2 * PANEL) + load(sum + PANEL)) + load(sum);
                    deliver(&total, w->bias ? w->bias + place : 0, end - place, add,
                            out + (first + r) * out_stride + place);
                }
        }
    }
}
#else
int64_t may_use_tiles(void) { return 0; }
void open_tiles(int64_t rows) { (void)rows; }
void close_tiles(void) {}
void split_rows(const Rows *x) { (void)x; }
#endif

void dense_product(const Matrix *w, int64_t begin, int64_t end, const Rows *x, float *out,
                   int64_t out_stride, int add) {
    if (w->kind == F32) product_of(F32, w, begin, end, x, out, out_stride, add);
    if (w->kind == F16) product_of(F16, w, begin, end, x, out, out_stride, add);
    if (w->kind != BF16) return;
#ifdef TILES
    if (x->parts) {
        tiled_product(w, begin, end, x, out, out_stride, add);
        return;
    }
#endif
    product_of(BF16, w, begin, end, x, out, out_stride, add);
}
