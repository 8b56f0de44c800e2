/* Products with quantised matrices: integers within a block of 32, which are exact in any order, and
   the blocks' results in float32, in ascending order. */

#include "panels.h"

enum { MOST_ROWS = LANES == 16 ? 8 : 5 }; /* tokens whose sums are held in registers at once */
enum { AHEAD = 8192 };                    /* bytes that are asked for before they are needed */

/* sum + Σ of four products in every lane: bytes of `a` without a sign, bytes of `b` with one. */
INLINE ivec dot_of_four(ivec sum, uvec a, int32_t b) {
#if defined(__AVX512VNNI__)
    return (ivec)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, _mm512_set1_epi32(b));
#elif defined(__AVXVNNI__) && !defined(__AVX512F__)
    return (ivec)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)a, _mm256_set1_epi32(b));
#else
    for (int i = 0; i < 4; i++)
        sum += (ivec)((a >> (8 * i)) & 255u) * (int32_t)(int8_t)((uint32_t)b >> (8 * i));
    return sum;
#endif
}

/* Processors that cannot do that multiply bytes too, but add two products in 16 bits: `pairs_of` gives
   two such sums in every lane, `joined` adds them. */
#if defined(__AVX512BW__) && !defined(__AVX512VNNI__)
enum { BY_PAIRS = 1 };
INLINE svec pairs_of(uvec a, int32_t b) {
    return (svec)_mm512_maddubs_epi16((__m512i)a, _mm512_set1_epi32(b));
}
INLINE ivec joined(svec pairs) {
    return (ivec)_mm512_madd_epi16((__m512i)pairs, _mm512_set1_epi16(1));
}
#elif defined(__AVX2__) && !defined(__AVX512F__) && !defined(__AVXVNNI__)
enum { BY_PAIRS = 1 };
INLINE svec pairs_of(uvec a, int32_t b) {
    return (svec)_mm256_maddubs_epi16((__m256i)a, _mm256_set1_epi32(b));
}
INLINE ivec joined(svec pairs) {
    return (ivec)_mm256_madd_epi16((__m256i)pairs, _mm256_set1_epi16(1));
}
#else
enum { BY_PAIRS = 0 };
INLINE svec pairs_of(uvec a, int32_t b) { return (svec)(a & (uint32_t)b); } /* asked by nobody */
INLINE ivec joined(svec pairs) { return (ivec)pairs; }
#endif

/* The weights of a block as bytes without a sign: `q[j]` holds inputs 4 · j … 4 · j + 3. */
INLINE void quants_at(Kind kind, const uint8_t *block, int half, uvec *q) {
    const uint8_t *at = block + half * 4 * LANES;
    if (kind == Q8_0) {
        for (int j = 0; j < GROUPS; j++) q[j] = bits_at(at + 64 * j);
        return;
    }
    for (int j = 0; j < GROUPS; j += 2) {
        uvec both = bits_at(at + 32 * j);
        q[j] = both & 0x0f0f0f0fu;
        q[j + 1] = (both >> 4) & 0x0f0f0f0fu;
    }
    at += BLOCK * PANEL / 2;
    if (bits_of(kind) == 5) {
        uvec high = bits_at(at);
        for (int j = 0; j < 4; j++) q[j] |= (high << (4 - j)) & 0x10101010u;
        for (int j = 4; j < GROUPS; j++) q[j] |= (high >> (j - 4)) & 0x10101010u;
    }
    if (bits_of(kind) == 6)
        for (int i = 0; i < 2; i++) {
            uvec high = bits_at(at + 64 * i);
            q[4 * i] |= (high << 4) & 0x30303030u;
            q[4 * i + 1] |= (high << 2) & 0x30303030u;
            q[4 * i + 2] |= high & 0x30303030u;
            q[4 * i + 3] |= (high >> 2) & 0x30303030u;
        }
}

/* A weight is `scale` times its integer, plus `least`. Of six bits the integer is 32 too large
   instead, and the first 16 inputs have a scale of their own, in `least`. */
INLINE void scales_at(Kind kind, const uint8_t *head, const uint8_t *block, int half, vec *scale,
                      vec *least) {
    const uint8_t *at = block + quants_bytes(kind);
    const int one = half * LANES, two = 2 * one;
    if (kind == Q6_K) {
        vec unit = float16s_at(head + two);
        *least = unit * bytes_at(at + one, 1);
        *scale = unit * bytes_at(at + PANEL + one, 1);
    } else if (is_super(kind)) {
        *scale = float16s_at(head + two) * bytes_at(at + one, 0);
        *least = float16s_at(head + 2 * PANEL + two) * bytes_at(at + PANEL + one, 0) * -1.0f;
    } else {
        *scale = float16s_at(at + two);
        const float zero = kind == Q4_0 ? -8.0f : kind == Q5_0 ? -16.0f : -128.0f;
        *least = has_least(kind) ? float16s_at(at + 2 * PANEL + two) : *scale * zero;
    }
}

/* Whether weights are multiplied in two halves, for pairs of whole ones might leave 16 bits. */
INLINE int in_halves(Kind kind) { return BY_PAIRS && kind == Q8_0; }

/* Σ of `count` groups of products in every lane, by pairs: as many groups are added in 16 bits as
   cannot leave them, since no byte of a token is −128. */
INLINE ivec dot_by_pairs(int bits, const uvec *q, const int8_t *b, int count) {
    const int most = INT16_MAX / (2 * INT8_MAX * ((1 << bits) - 1));
    ivec sum = {0};
    for (int first = 0; first < count; first += most) {
        svec pairs = {0};
        for (int j = first; j < first + most && j < count; j++) {
            int32_t four;
            memcpy(&four, b + 4 * j, sizeof four);
            pairs += pairs_of(q[j], four);
        }
        sum += joined(pairs);
    }
    return sum;
}

/* Σ of `count` groups of products in every lane; `b` are the bytes of a token. */
INLINE ivec dot_of(Kind kind, const uvec *q, const int8_t *b, int count) {
    if (BY_PAIRS) return dot_by_pairs(in_halves(kind) ? 4 : bits_of(kind), q, b, count);
    ivec sums[2] = {0}; /* so that none waits for the one before */
    for (int j = 0; j < count; j++) {
        int32_t four;
        memcpy(&four, b + 4 * j, sizeof four);
        sums[j % 2] = dot_of_four(sums[j % 2], q[j], four);
    }
    return sums[0] + sums[1];
}

/* The dots of the upper halves of bytes, which leaves their lower ones in `q`. */
INLINE void take_upper(uvec *q, const Rounded *token, int rows, ivec *upper) {
    uvec four[GROUPS];
    for (int j = 0; j < GROUPS; j++) four[j] = (q[j] >> 4) & 0x0f0f0f0fu;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        const int8_t *bytes = token[r].bytes;
        __asm__("" : "+r"(bytes)); /* or what is read lies on the stack until the lower halves' turn */
        upper[r] = dot_by_pairs(4, four, bytes, GROUPS);
    }
    for (int j = 0; j < GROUPS; j++) q[j] &= 0x0f0f0f0fu;
}

/* What a block adds to a sum; of six bits `low` and `high` are the dots of 16 inputs each. */
INLINE void add_block(Kind kind, vec scale, vec least, ivec low, ivec high, const Rounded *token,
                      vec *sum) {
    if (kind == Q6_K) {
        *sum = fused(least * token->scale, floats_of(low - 32 * token->halves[0]), *sum);
        *sum = fused(scale * token->scale, floats_of(high - 32 * token->halves[1]), *sum);
    } else {
        *sum = fused(scale * token->scale, floats_of(low), *sum);
        *sum = fused(least, all_of(token->shift), *sum);
    }
}

/* The sums of `halves` halves of a panel, from `half` on, for `rows` tokens, whose activations begin
   with the first-th of x. */
INLINE void block_sums(Kind kind, const uint8_t *w, int half, int halves, const Rows *x,
                       int64_t first, int rows, vec sums[][HALVES]) {
    const Rounded *token = x->rounded + first;
    const uint8_t *head = w;
    vec held[MOST_ROWS][HALVES] = {0};
    for (int64_t b = 0; b < x->in / BLOCK; b++, w += block_bytes(kind), token += x->rows) {
        if (is_super(kind) && b % SUPER == 0) {
            head = w;
            w += head_bytes(kind);
        }
        for (int64_t i = 0; i < block_bytes(kind) && half == 0; i += 64)
            __builtin_prefetch(w + AHEAD + i);
        for (int h = 0; h < halves; h++) {
            uvec q[GROUPS];
            vec scale, least;
            ivec upper[MOST_ROWS];
            quants_at(kind, w, half + h, q);
            scales_at(kind, head, w, half + h, &scale, &least);
            if (in_halves(kind)) take_upper(q, token, rows, upper);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                const int8_t *bytes = token[r].bytes;
                const int wide = kind == Q6_K ? GROUPS / 2 : GROUPS;
                ivec low = dot_of(kind, q, bytes, wide);
                if (in_halves(kind)) low += upper[r] * 16;
                ivec high = kind == Q6_K ? dot_of(kind, q + wide, bytes + 4 * wide, wide) : low;
                add_block(kind, scale, least, low, high, token + r, &held[r][h]);
            }
        }
    }
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < halves; h++) sums[r][half + h] = held[r][h];
}

/* The weights of a block as floats, [32, 16]. */
INLINE void unpack_block(Kind kind, const uint8_t *head, const uint8_t *block, float *out) {
    for (int half = 0; half < HALVES; half++) {
        uvec q[GROUPS];
        vec scale, least;
        quants_at(kind, block, half, q);
        scales_at(kind, head, block, half, &scale, &least);
        for (int k = 0; k < BLOCK; k++) {
            vec number = floats_of((ivec)((q[k / 4] >> (8 * (k % 4))) & 255u));
            vec weight = fused(number, scale, least);
            if (kind == Q6_K) weight = (number - 32.0f) * (k < BLOCK / 2 ? least : scale);
            store(out + k * PANEL + half * LANES, weight);
        }
    }
}

/* The same sums with activations in float32. */
INLINE void single_sums(Kind kind, const uint8_t *w, const Rows *x, int64_t first, int64_t rows,
                        vec sums[][HALVES]) {
    const float *values = x->values + first * x->in;
    const uint8_t *head = w;
    float weights[BLOCK * PANEL];
    for (int64_t b = 0; b < x->in / BLOCK; b++, w += block_bytes(kind)) {
        if (is_super(kind) && b % SUPER == 0) {
            head = w;
            w += head_bytes(kind);
        }
        unpack_block(kind, head, w, weights);
        for (int64_t r = 0; r < rows; r++)
            for (int half = 0; half < HALVES; half++) {
                vec parts[2] = {0};
                for (int k = 0; k < BLOCK; k++)
                    parts[k % 2] = fused(load(weights + k * PANEL + half * LANES),
                                         all_of(values[r * x->in + b * BLOCK + k]), parts[k % 2]);
                sums[r][half] += parts[0] + parts[1];
            }
    }
}

/* One panel for `rows` tokens; `count` outputs of it exist. */
INLINE void panel(Kind kind, const uint8_t *w, const Rows *x, int64_t first, int rows,
                  const float *bias, int64_t count, float *out, int64_t out_stride, int add) {
    vec all[MOST_ROWS][HALVES];
    const int halves = rows == 1 ? HALVES : 1; /* at once: sums of both do not fit in registers */
    for (int half = 0; half < HALVES; half += halves)
        block_sums(kind, w, half, halves, x, first, rows, all);
    for (int r = 0; r < rows; r++) deliver(all[r], bias, count, add, out + r * out_stride);
}

INLINE void product_of(Kind kind, const Matrix *w, int64_t begin, int64_t end, const Rows *x,
                       float *out, int64_t out_stride, int add) {
    const int64_t bytes = run_bytes(kind, w->in);
    for (int64_t o = begin; o < end; o += PANEL) {
        const uint8_t *at = w->data + o / PANEL * bytes;
        const float *bias = w->bias ? w->bias + o : 0;
        int64_t first = 0;
        for (int64_t turns = (x->rows + MOST_ROWS - 1) / MOST_ROWS; turns > 0; turns--) {
            const int64_t rows = (x->rows - first + turns - 1) / turns;
            float *to = out + first * out_stride + o;
#define OF(rows) panel(kind, at, x, first, rows, bias, end - o, to, out_stride, add)
            switch (rows) {
                case 1: OF(1); break;
                case 2: OF(2); break;
                case 3: OF(3); break;
                case 4: OF(4); break;
#ifdef __AVX512F__
                case 5: OF(5); break;
                case 6: OF(6); break;
                case 7: OF(7); break;
#endif
                default: OF(MOST_ROWS);
            }
#undef OF
            first += rows;
        }
    }
}

INLINE void single_product_of(Kind kind, const Matrix *w, int64_t begin, int64_t end,
                              const Rows *x, float *out, int64_t out_stride, int add) {
    enum { MANY = 32 };
    for (int64_t o = begin; o < end; o += PANEL)
        for (int64_t first = 0; first < x->rows; first += MANY) {
            const int64_t rows = x->rows - first < MANY ? x->rows - first : MANY;
            vec sums[MANY][HALVES] = {0};
            single_sums(kind, w->data + o / PANEL * run_bytes(kind, w->in), x, first, rows, sums);
            for (int64_t r = 0; r < rows; r++)
                deliver(sums[r], w->bias ? w->bias + o : 0, end - o, add,
                        out + (first + r) * out_stride + o);
        }
}

#define PRODUCT(kind)                                                                             \
    static void product_##kind(const Matrix *w, int64_t begin, int64_t end, const Rows *x,        \
                               int single, float *out, int64_t out_stride, int add) {             \
        if (single)                                                                               \
            single_product_of(kind, w, begin, end, x, out, out_stride, add);                      \
        else                                                                                      \
            product_of(kind, w, begin, end, x, out, out_stride, add);                             \
    }
PRODUCT(Q4_0)
PRODUCT(Q4_1)
PRODUCT(Q5_0)
PRODUCT(Q5_1)
PRODUCT(Q8_0)
PRODUCT(Q4_K)
PRODUCT(Q5_K)
PRODUCT(Q6_K)

void block_product(const Matrix *w, int64_t begin, int64_t end, const Rows *x, int single,
                   float *out, int64_t out_stride, int add) {
    switch ((Kind)w->kind) {
        case Q4_0: product_Q4_0(w, begin, end, x, single, out, out_stride, add); break;
        case Q4_1: product_Q4_1(w, begin, end, x, single, out, out_stride, add); break;
        case Q5_0: product_Q5_0(w, begin, end, x, single, out, out_stride, add); break;
        case Q5_1: product_Q5_1(w, begin, end, x, single, out, out_stride, add); break;
        case Q8_0: product_Q8_0(w, begin, end, x, single, out, out_stride, add); break;
        case Q4_K: product_Q4_K(w, begin, end, x, single, out, out_stride, add); break;
        case Q5_K: product_Q5_K(w, begin, end, x, single, out, out_stride, add); break;
        case Q6_K: product_Q6_K(w, begin, end, x, single, out, out_stride, add); break;
        default: break;
    }
}

/* Round rows to bytes in blocks of 32: the largest becomes ±127, halves go to the even number. */
void round_rows(const Rows *x) {
    const vec magic = (vec){0} + 12582912.0f; /* what is added to it is rounded to an integer */
    for (int64_t i = 0; i < x->rows * x->in / BLOCK; i++) {
        const float *values = x->values + i * BLOCK;
        const int64_t blocks = x->in / BLOCK;
        Rounded *made = x->rounded + i % blocks * x->rows + i / blocks;
        vec most = {0};
        for (int k = 0; k < BLOCK; k += LANES) {
            vec v = load(values + k);
            most = larger(most, larger(v, (vec){0} - v));
        }
        float top = most[0];
        for (int l = 1; l < LANES; l++) top = most[l] > top ? most[l] : top;
        const float turned = top > 0 ? 127.0f / top : 0;
        ivec sums[2] = {0};
        for (int k = 0; k < BLOCK; k += LANES) {
            ivec rounded = (ivec)(fused(load(values + k), all_of(turned), magic)) - (ivec)magic;
            sums[k / 16] += rounded;
#ifdef __AVX512F__
            _mm_storeu_si128((__m128i *)(made->bytes + k), _mm512_cvtepi32_epi8((__m512i)rounded));
#else
            for (int l = 0; l < LANES; l++) made->bytes[k + l] = (int8_t)rounded[l];
#endif
        }
        made->halves[0] = made->halves[1] = 0;
        for (int l = 0; l < LANES; l++) {
            made->halves[0] += sums[0][l];
            made->halves[1] += sums[1][l];
        }
        made->scale = top / 127.0f;
        made->shift = made->scale * (float)(made->halves[0] + made->halves[1]);
    }
}

INLINE void unpack_row_of(Kind kind, const Matrix *w, int64_t row, float *out) {
    const uint8_t *panel = w->data + row / PANEL * run_bytes(kind, w->in);
    float weights[BLOCK * PANEL];
    for (int64_t b = 0; b < w->in / BLOCK; b++) {
        const uint8_t *head = panel + b / SUPER * super_bytes(kind);
        unpack_block(kind, head, panel + offset_of(kind, b), weights);
        for (int k = 0; k < BLOCK; k++) out[b * BLOCK + k] = weights[k * PANEL + row % PANEL];
    }
}

/* Write row `row` of a matrix, as floats. */
void unpack_row(const Matrix *w, int64_t row, float *out) {
    const int64_t in = w->in, at = row / PANEL, o = row % PANEL;
    switch ((Kind)w->kind) {
        case F32:
            for (int64_t k = 0; k < in; k++)
                out[k] = ((const float *)w->data)[(at * in + k) * PANEL + o];
            break;
        case F16:
            for (int64_t k = 0; k < in; k++)
                out[k] = float16_at(w->data + ((at * in + k) * PANEL + o) * 2);
            break;
        case BF16:
            for (int64_t k = 0; k < in; k++)
                out[k] = bfloat16_at((const uint16_t *)w->data +
                                     (at * in_tiles(in) + k / 2 * 2) * PANEL + 2 * o + k % 2);
            break;
        case Q4_0: unpack_row_of(Q4_0, w, row, out); break;
        case Q4_1: unpack_row_of(Q4_1, w, row, out); break;
        case Q5_0: unpack_row_of(Q5_0, w, row, out); break;
        case Q5_1: unpack_row_of(Q5_1, w, row, out); break;
        case Q8_0: unpack_row_of(Q8_0, w, row, out); break;
        case Q4_K: unpack_row_of(Q4_K, w, row, out); break;
        case Q5_K: unpack_row_of(Q5_K, w, row, out); break;
        case Q6_K: unpack_row_of(Q6_K, w, row, out); break;
    }
}
