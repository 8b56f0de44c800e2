/* Vectors of floats and integers: GCC's and Clang's own, so that one source serves every processor. */

#ifndef VECTORS_H
#define VECTORS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif
#if defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

/* Matrix tiles, of bfloat16. Tiles of bytes were slower than vectors of them (16 tokens: 13.4 ms, twice
   8 tokens: 10.8), for every block of 32 has a scale of its own. */
#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__) && !defined(NO_TILES)
#define TILES
#endif

/* A panel is 16 outputs of a matrix side by side, one or two vectors of sums. */
enum { PANEL = 16 };
#ifdef __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
enum { HALVES = PANEL / LANES };

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));
typedef int16_t svec __attribute__((vector_size(4 * LANES))); /* two in every lane */

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif
#ifdef __AVX512F__
#define EVEN 0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14
#define ODD 1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15
#define SWAPPED 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14
#define SIGNS -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1
#else
#define EVEN 0, 0, 2, 2, 4, 4, 6, 6
#define ODD 1, 1, 3, 3, 5, 5, 7, 7
#define SWAPPED 1, 0, 3, 2, 5, 4, 7, 6
#define SIGNS -1, 1, -1, 1, -1, 1, -1, 1
#endif
#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void store(float *p, vec v) { memcpy(p, &v, sizeof v); }

/* All lanes x: what is subtracted changes no number, not even −0. */
INLINE vec all_of(float x) { return x - (vec){0}; }

/* a · b + c, rounded once where the processor can. It is written out and the compiler may fuse nothing
   itself: it would in one copy of a function and not in another, and a token's logits depend on how
   many tokens share its pass (GCC 13 does so). */
INLINE vec fused(vec a, vec b, vec c) {
#if defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_NEON) && defined(__aarch64__)
    float32x4_t left[2], right[2], sum[2];
    memcpy(left, &a, sizeof a);
    memcpy(right, &b, sizeof b);
    memcpy(sum, &c, sizeof c);
    for (int i = 0; i < 2; i++) sum[i] = vfmaq_f32(sum[i], left[i], right[i]);
    memcpy(&c, sum, sizeof c);
    return c;
#else
    return a * b + c;
#endif
}

INLINE float fused_one(float a, float b, float c) {
#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__)) || defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

INLINE uvec bits_at(const void *p) {
    uvec v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* a where it is larger, else b: also where one is no number. */
INLINE vec larger(vec a, vec b) {
#ifdef __AVX512F__
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
    ivec first = a > b;
    return (vec)((first & (ivec)a) | (~first & (ivec)b));
#endif
}

INLINE float bfloat16_at(const uint16_t *p) {
    uint32_t bits = (uint32_t)*p << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A float of 16 bits, subnormals too; what is infinite or no number stays so. */
INLINE float float16_at(const void *p) {
    uint16_t half;
    memcpy(&half, p, sizeof half);
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = (uint32_t)(half & 0x7fff) << 13;
    float value, scale = 0x1p112f; /* between the two exponents' biases */
    if (rest >= 0x7c00u << 13) rest |= 0x7f800000;
    memcpy(&value, &rest, sizeof value);
    if (rest < 0x7f800000) value *= scale;
    memcpy(&rest, &value, sizeof rest);
    rest |= sign;
    memcpy(&value, &rest, sizeof value);
    return value;
}

INLINE vec float16s_at(const uint8_t *p) {
#ifdef __AVX512F__
    return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif defined(__F16C__)
    return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#else
    vec all;
    for (int i = 0; i < LANES; i++) all[i] = float16_at(p + 2 * i);
    return all;
#endif
}

/* The nearest float of 16 bits, halves to the even one; what is too large becomes the largest. */
INLINE uint16_t float16_of(float value) {
    uint32_t bits;
    value = value > 65504.0f ? 65504.0f : value < -65504.0f ? -65504.0f : value;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) return (uint16_t)(sign | 0x7e00); /* no number */
    if (rest < 0x38800000) { /* subnormal: adding 0.5 leaves its integer in the lowest bits */
        float small;
        memcpy(&small, &rest, sizeof small);
        small += 0.5f;
        memcpy(&bits, &small, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    return (uint16_t)(sign | ((rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13));
}

/* Integers of 8 bits, as floats. */
INLINE vec bytes_at(const uint8_t *p, int is_signed) {
#ifdef __AVX512F__
    __m128i bytes = _mm_loadu_si128((const __m128i *)p);
    return (vec)_mm512_cvtepi32_ps(is_signed ? _mm512_cvtepi8_epi32(bytes)
                                             : _mm512_cvtepu8_epi32(bytes));
#elif defined(__AVX2__)
    __m128i bytes = _mm_loadl_epi64((const __m128i *)p);
    return (vec)_mm256_cvtepi32_ps(is_signed ? _mm256_cvtepi8_epi32(bytes)
                                             : _mm256_cvtepu8_epi32(bytes));
#else
    vec all;
    for (int i = 0; i < LANES; i++) all[i] = is_signed ? (float)(int8_t)p[i] : (float)p[i];
    return all;
#endif
}

INLINE vec floats_of(ivec v) { return __builtin_convertvector(v, vec); }

/* The sum of all lanes, always in this order. */
INLINE float sum_of(vec v) {
#ifdef __AVX512F__
    v += SHUFFLE(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    v += SHUFFLE(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    v += SHUFFLE(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
#else
    v += SHUFFLE(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
    v += SHUFFLE(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
#endif
    v += SHUFFLE(v, v, SWAPPED);
    return v[0];
}

/* e^x to 2 units in the last place (Cephes), x held to ±87. */
INLINE vec exponential(vec x) {
    x = larger(x, (vec){0} - 87.0f);
    x = (vec){0} - larger((vec){0} - x, (vec){0} - 87.0f);
    vec n = fused(x, all_of(1.44269504f), all_of(12582912.0f)) - 12582912.0f; /* an integer */
    vec r = fused(n, all_of(-0.693359375f), x);
    r = fused(n, all_of(2.12194440e-4f), r);
    vec p = all_of(1.9875691500e-4f);
    p = fused(p, r, all_of(1.3981999507e-3f));
    p = fused(p, r, all_of(8.3334519073e-3f));
    p = fused(p, r, all_of(4.1665795894e-2f));
    p = fused(p, r, all_of(1.6666665459e-1f));
    p = fused(p, r, all_of(5.0000001201e-1f));
    p = fused(p * r, r, r) + 1.0f;
    return (vec)((ivec)p + (__builtin_convertvector(n, ivec) << 23));
}

/* The sums of one panel of outputs for one token go where they belong; `count` of them exist. */
INLINE void deliver(const vec *sums, const float *bias, int64_t count, int add, float *out) {
    for (int h = 0; h < HALVES; h++) {
        int64_t first = h * LANES;
        if (count >= first + LANES) {
            vec total = sums[h];
            if (bias) total += load(bias + first);
            store(out + first, add ? load(out + first) + total : total);
            continue;
        }
        for (int64_t i = first; i < count; i++) {
            float total = sums[h][i - first];
            if (bias) total += bias[i];
            out[i] = add ? out[i] + total : total;
        }
    }
}

#endif
