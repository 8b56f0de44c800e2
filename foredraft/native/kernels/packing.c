/* Matrices as files hold them, row by row → panels. */

#include "panels.h"

/* Bytes that a matrix takes in panels. */
int64_t packed_bytes(int64_t kind, int64_t out, int64_t in) {
    const int64_t panels = (out + PANEL - 1) / PANEL;
    if (kind == F32) return panels * in * PANEL * 4;
    if (kind == F16) return panels * in * PANEL * 2;
    if (kind == BF16) return panels * in_tiles(in) * PANEL * 2;
    return panels * run_bytes((Kind)kind, in);
}

/* Bytes of a row in a file. */
static int64_t row_bytes(Kind kind, int64_t in) {
    static const int64_t sizes[] = {[Q4_0] = 18, [Q4_1] = 20, [Q5_0] = 22, [Q5_1] = 24,
                                    [Q8_0] = 34, [Q4_K] = 144, [Q5_K] = 176, [Q6_K] = 210};
    if (is_dense(kind)) return in * (kind == F32 ? 4 : 2);
    return in / (is_super(kind) ? SUPER * BLOCK : BLOCK) * sizes[kind];
}

static void pack_dense(Kind kind, const uint8_t *row, int64_t in, int64_t o, uint8_t *panel) {
    const int64_t size = kind == F32 ? 4 : 2;
    for (int64_t k = 0; k < in; k++) {
        const int64_t place = kind == BF16 ? k / 2 * 2 * PANEL + 2 * o + k % 2 : k * PANEL + o;
        memcpy(panel + place * size, row + k * size, size);
    }
}

/* The 32 integers of a block without its super-block's neighbours; `low` are four bits of each. */
static void low_bits(const uint8_t *low, uint8_t *q) {
    for (int i = 0; i < BLOCK / 2; i++) {
        q[i] = low[i] & 15;
        q[i + BLOCK / 2] = low[i] >> 4;
    }
}

static void fifth_bits(const uint8_t *high, uint8_t *q) {
    for (int i = 0; i < BLOCK; i++) q[i] |= (high[i / 8] >> (i % 8) & 1) << 4;
}

/* The integers of the b-th block of a row, and where its scale and its least number stand. */
static void simple_block(Kind kind, const uint8_t *row, int64_t b, uint8_t *q,
                         const uint8_t **scale) {
    const uint8_t *block = row + b * row_bytes(kind, BLOCK), *at = block + (has_least(kind) ? 4 : 2);
    *scale = block;
    if (kind == Q8_0) {
        for (int i = 0; i < BLOCK; i++) q[i] = at[i] ^ 128; /* a byte with a sign, plus 128 */
        return;
    }
    low_bits(at + (bits_of(kind) == 5 ? 4 : 0), q);
    if (bits_of(kind) == 5) fifth_bits(at, q);
}

/* The same of a super-block of 4 or 5 bits, and the two integers of six bits that are its scales. */
static void wide_block(Kind kind, const uint8_t *super, int64_t b, uint8_t *q, uint8_t *scale,
                       uint8_t *least) {
    const uint8_t *packed = super + 4, *high = super + 16;
    const uint8_t *low = high + (kind == Q5_K ? BLOCK : 0) + b / 2 * BLOCK;
    for (int i = 0; i < BLOCK; i++) {
        q[i] = b % 2 ? low[i] >> 4 : low[i] & 15;
        if (kind == Q5_K) q[i] |= (high[i] >> b & 1) << 4;
    }
    if (b < 4) {
        *scale = packed[b] & 63;
        *least = packed[b + 4] & 63;
    } else {
        *scale = (packed[b + 4] & 15) | packed[b - 4] >> 6 << 4;
        *least = packed[b + 4] >> 4 | packed[b] >> 6 << 4;
    }
}

/* The same of six bits; its two scales are bytes with a sign. */
static void six_bits(const uint8_t *super, int64_t b, uint8_t *q, const uint8_t **scales) {
    const uint8_t *low = super + b / 4 * 64 + b % 2 * 32, *high = super + 128 + b / 4 * 32;
    for (int i = 0; i < BLOCK; i++)
        q[i] = (b % 4 < 2 ? low[i] & 15 : low[i] >> 4) | (high[i] >> 2 * (b % 4) & 3) << 4;
    *scales = super + 192 + b * 2;
}

/* Put the integers of output `o` into a block of a panel. */
static void place(Kind kind, const uint8_t *q, int64_t o, uint8_t *block) {
    uint8_t *planes = block + BLOCK * PANEL / 2;
    for (int k = 0; k < BLOCK; k++) {
        const int group = k / 4;
        const int64_t i = 4 * o + k % 4;
        if (kind == Q8_0) {
            block[64 * group + i] = q[k];
            continue;
        }
        block[64 * (group / 2) + i] |= (q[k] & 15) << 4 * (group % 2);
        if (bits_of(kind) == 5) planes[i] |= q[k] >> 4 << group;
        if (bits_of(kind) == 6) planes[64 * (group / 4) + i] |= q[k] >> 4 << 2 * (group % 4);
    }
}

static void pack_blocks(Kind kind, const uint8_t *row, int64_t in, int64_t o, uint8_t *panel) {
    for (int64_t b = 0; b < in / BLOCK; b++) {
        uint8_t q[BLOCK], pair[2], *block = panel + offset_of(kind, b);
        uint8_t *scales = block + quants_bytes(kind), *head = panel + b / SUPER * super_bytes(kind);
        const uint8_t *super = row + b / SUPER * row_bytes(kind, SUPER * BLOCK), *found = pair;
        if (!is_super(kind)) {
            simple_block(kind, row, b, q, &found);
            memcpy(scales + 2 * o, found, 2);
            if (has_least(kind)) memcpy(scales + 2 * PANEL + 2 * o, found + 2, 2);
        } else if (kind == Q6_K) {
            six_bits(super, b % SUPER, q, &found);
            memcpy(head + 2 * o, super + 208, 2);
        } else {
            wide_block(kind, super, b % SUPER, q, pair, pair + 1);
            memcpy(head + 2 * o, super, 2);
            memcpy(head + 2 * PANEL + 2 * o, super + 2, 2);
        }
        if (is_super(kind)) {
            scales[o] = found[0];
            scales[PANEL + o] = found[1];
        }
        place(kind, q, o, block);
    }
}

/* Write rows [out, in], as a file holds them, to panels that are zero. */
void pack(int64_t kind, const uint8_t *rows, int64_t out, int64_t in, uint8_t *panels,
          int64_t threads) {
    const int64_t bytes = row_bytes((Kind)kind, in), panel = packed_bytes(kind, PANEL, in);
    (void)threads;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t o = 0; o < (out + PANEL - 1) / PANEL; o++)
        for (int64_t i = o * PANEL; i < (o + 1) * PANEL && i < out; i++)
            if (is_dense((Kind)kind))
                pack_dense((Kind)kind, rows + i * bytes, in, i % PANEL, panels + o * panel);
            else
                pack_blocks((Kind)kind, rows + i * bytes, in, i % PANEL, panels + o * panel);
}
