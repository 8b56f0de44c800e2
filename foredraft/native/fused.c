/* Forward passes of the Llama family on a CPU, each over one text or several: float32 arithmetic,
   weights of 16 or 32 bits.

   Every sum is taken in an order of its own, which neither the number of tokens in the pass, nor the
   texts that they belong to, nor the number of threads changes: a token's logits are the same to the
   bit whoever shares its pass.

   Plain C with the vector extensions of GCC and Clang, and the matrix tiles of Intel's processors
   where there are any; compiled where it runs (fused.py). */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__) && !defined(NO_TILES)
#define TILES
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num(void) { return 0; }
static int omp_get_num_threads(void) { return 1; }
#endif

/* A tile of a product is OUTS rows of the weight times ROWS tokens; its sums fill the registers. */
#ifdef __AVX512F__
enum { LANES = 16, OUTS = 4, ROWS = 6 };
#else
enum { LANES = 8, OUTS = 2, ROWS = 4 };
#endif
enum { KEYS = 16 }; /* positions whose keys lie transposed beside each other */
enum { AHEAD = 8 }; /* rows of the weight that are asked for before they are needed */
enum { UNIT = 16 }; /* outputs of a product that stay in one thread */

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));
typedef uint16_t hvec __attribute__((vector_size(2 * LANES)));

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

enum { SINGLE, HALF, TILED }; /* matrices: float32 rows, bfloat16 rows, bfloat16 tiles (`pack`) */

/* What fused.py fills in; matrices are [out, in]. */
typedef struct {
    const float *attention_gain, *mlp_gain, *query_gain, *key_gain; /* the last two may be null */
    const void *qkv, *out, *gate, *up, *down;
    const float *qkv_bias, *out_bias, *gate_bias, *up_bias, *down_bias; /* each may be null */
} Layer;

typedef struct {
    int64_t layers, hidden, heads, kv_heads, head_dim, inner, kind;
    float epsilon;
    const void *embedding, *head; /* the embedding in rows, whatever the kind */
    const float *head_bias, *gain;
    const Layer *layer;
} Network;

/* What one text adds to a pass. Its keys and values: [layers, 2 · kv_heads, capacity, padded
   head_dim]. Of 16 positions the values lie one after the other, the keys transposed: [head_dim, 16].
   No two texts of a pass share them. */
typedef struct {
    float *block;
    int64_t layer_stride, head_stride;
    int64_t begin, time, keep; /* where its tokens begin; how many; the last of them with logits */
} Feed;

typedef struct {
    const int64_t *ids; /* [rows], feed after feed */
    int64_t feeds, rows, columns, threads;
    Feed *feed;
    const float *rotations; /* cosine and sine, [positions, head_dim / 2, 2] */
    float *scratch, *logits; /* logits: [sum of keep, columns], feed after feed */
    int64_t *likeliest; /* [1 + threads, feeds], the first after each feed; null if nobody asks */
    float *margin;      /* how far it is ahead of the second, and room likewise */
} Pass;

/* Where each field lies and how large each structure is, for fused.py to compare with its own. */
typedef struct {
    const char *name;
    int64_t offset;
} Field;

#define AT(structure, field) {#structure "." #field, offsetof(structure, field)}
#define SIZE(structure) {#structure, sizeof(structure)}

static const Field fields[] = {
    AT(Layer, attention_gain), AT(Layer, mlp_gain), AT(Layer, query_gain), AT(Layer, key_gain),
    AT(Layer, qkv), AT(Layer, out), AT(Layer, gate), AT(Layer, up), AT(Layer, down),
    AT(Layer, qkv_bias), AT(Layer, out_bias), AT(Layer, gate_bias), AT(Layer, up_bias),
    AT(Layer, down_bias), SIZE(Layer),
    AT(Network, layers), AT(Network, hidden), AT(Network, heads), AT(Network, kv_heads),
    AT(Network, head_dim), AT(Network, inner), AT(Network, kind), AT(Network, epsilon),
    AT(Network, embedding), AT(Network, head), AT(Network, head_bias), AT(Network, gain),
    AT(Network, layer), SIZE(Network),
    AT(Feed, block), AT(Feed, layer_stride), AT(Feed, head_stride), AT(Feed, begin),
    AT(Feed, time), AT(Feed, keep), SIZE(Feed),
    AT(Pass, ids), AT(Pass, feeds), AT(Pass, rows), AT(Pass, columns), AT(Pass, threads),
    AT(Pass, feed), AT(Pass, rotations), AT(Pass, scratch), AT(Pass, logits),
    AT(Pass, likeliest), AT(Pass, margin), SIZE(Pass),
    {NULL, 0},
};

const Field *layout(void) { return fields; }

INLINE vec load(const float *p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void store(float *p, vec v) { memcpy(p, &v, sizeof v); }

INLINE float weight_at(const void *w, int64_t i, int half) {
    if (!half) return ((const float *)w)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)w)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE vec weights_at(const void *w, int64_t i, int half) {
    if (!half) return load((const float *)w + i);
    hvec bits;
    memcpy(&bits, (const uint16_t *)w + i, sizeof bits);
    return (vec)(__builtin_convertvector(bits, uvec) << 16);
}

INLINE vec larger(vec a, vec b) {
    ivec first = a > b;
    return (vec)((first & (ivec)a) | (~first & (ivec)b));
}

/* Sums of OUTS vectors, each alone and always in this order; the sum of the i-th is lane 4 · i. */
INLINE vec sums_of(const vec *v) {
#ifdef __AVX512F__
    vec a = SHUFFLE(v[0], v[1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
            SHUFFLE(v[0], v[1], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    vec b = SHUFFLE(v[2], v[3], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
            SHUFFLE(v[2], v[3], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    vec s = SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
            SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    s += SHUFFLE(s, s, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    return s + SHUFFLE(s, s, SWAPPED);
#else
    vec s = SHUFFLE(v[0], v[1], 0, 1, 2, 3, 8, 9, 10, 11) +
            SHUFFLE(v[0], v[1], 4, 5, 6, 7, 12, 13, 14, 15);
    s += SHUFFLE(s, s, 2, 3, 0, 1, 6, 7, 4, 5);
    return s + SHUFFLE(s, s, SWAPPED);
#endif
}

INLINE float sum_of(vec v) {
    vec alone[OUTS] = {v};
    return sums_of(alone)[0];
}

/* e^x to 2 units in the last place (Cephes), x held to ±87. */
INLINE vec exponential(vec x) {
    x = larger(x, (vec){0} - 87.0f);
    x = (vec){0} - larger((vec){0} - x, (vec){0} - 87.0f);
    vec n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* rounded to an integer */
    vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    vec p = (vec){0} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return (vec)((ivec)p + (__builtin_convertvector(n, ivec) << 23));
}

/* out[row, o] (+)= weight row o · x[row] + bias[o], for `outs` ≤ OUTS rows and `rows` ≤ ROWS tokens. */
INLINE void tile(const void *w, int64_t in, int half, int64_t o, int outs, const float *x, int rows,
                 const float *bias, float *out, int64_t out_stride, int add) {
    vec sums[ROWS][OUTS] = {0};
    int64_t whole = in - in % LANES;
    for (int64_t k = 0; k < whole; k += LANES)
        for (int i = 0; i < outs; i++) {
            vec weights = weights_at(w, (o + i) * in + k, half);
            __builtin_prefetch((const char *)w + ((o + i + AHEAD) * in + k) * (half ? 2 : 4));
            for (int r = 0; r < rows; r++) sums[r][i] += weights * load(x + r * in + k);
        }
    for (int r = 0; r < rows; r++) {
        vec totals = sums_of(sums[r]);
        for (int i = 0; i < outs; i++) {
            float total = totals[4 * i];
            for (int64_t k = whole; k < in; k++)
                total += weight_at(w, (o + i) * in + k, half) * x[r * in + k];
            if (bias) total += bias[o + i];
            float *place = out + r * out_stride + o + i;
            *place = add ? *place + total : total;
        }
    }
}

INLINE void tiles(const void *w, int64_t in, int half, int64_t o, int outs, const float *x,
                  int64_t rows, const float *bias, float *out, int64_t out_stride, int add) {
    for (; rows > 0; rows -= ROWS, x += ROWS * in, out += ROWS * out_stride) switch (rows) {
            case 1: tile(w, in, half, o, outs, x, 1, bias, out, out_stride, add); break;
            case 2: tile(w, in, half, o, outs, x, 2, bias, out, out_stride, add); break;
            case 3: tile(w, in, half, o, outs, x, 3, bias, out, out_stride, add); break;
#ifdef __AVX512F__
            case 4: tile(w, in, half, o, outs, x, 4, bias, out, out_stride, add); break;
            case 5: tile(w, in, half, o, outs, x, 5, bias, out, out_stride, add); break;
#endif
            default: tile(w, in, half, o, outs, x, ROWS, bias, out, out_stride, add);
        }
}

/* This thread's share [begin, end) of `count`, in multiples of `unit`. */
INLINE void share(int64_t count, int64_t unit, int64_t *begin, int64_t *end) {
    int64_t units = (count + unit - 1) / unit, threads = omp_get_num_threads();
    int64_t mine = omp_get_thread_num();
    *begin = units * mine / threads * unit;
    *end = units * (mine + 1) / threads * unit;
    if (*end > count) *end = count;
}

INLINE void product_in(const void *w, int64_t in, int64_t begin, int64_t end, int half,
                       const float *x, int64_t rows, const float *bias, float *out,
                       int64_t out_stride, int add) {
    int64_t o = begin;
    for (; o + OUTS <= end; o += OUTS)
        tiles(w, in, half, o, OUTS, x, rows, bias, out, out_stride, add);
    for (; o < end; o++) tiles(w, in, half, o, 1, x, rows, bias, out, out_stride, add);
}

/* Tiles multiply bfloat16 only, so a token's float32 row is split into three of bfloat16, whose sum
   it is to the last bit; TOKENS times three rows fill a tile, and more tokens take further tiles. */
enum { TOKENS = 5, PARTS = 3 };

#ifdef TILES
enum { TILE_OUTS = 16, TILE_INS = 32, TILE = TILE_OUTS * TILE_INS };

INLINE int64_t tiles_over(int64_t in) { return (in + TILE_INS - 1) / TILE_INS; }

/* Whether this process may use tiles: the system grants it once. */
int64_t may_use_tiles(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

/* Write a bfloat16 matrix [out, in] as tiles, [out / 16, in / 32, 16, 16, 2], zeros around it. */
void pack(const uint16_t *w, int64_t out, int64_t in, uint16_t *packed) {
    int64_t across = tiles_over(in);
    for (int64_t o = 0; o < out; o++)
        for (int64_t k = 0; k < in; k++)
            packed[(o / TILE_OUTS * across + k / TILE_INS) * TILE + k % TILE_INS / 2 * TILE_INS +
                   o % TILE_OUTS * 2 + k % 2] = w[o * in + k];
}

static void configure_tiles(int64_t rows) {
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
    _tile_loadconfig(&config);
}

/* x [rows, in] → [rows, 3, in padded to tiles], the three parts of every row. */
static void split(const float *x, int64_t rows, int64_t in, uint16_t *parts) {
    int64_t width = tiles_over(in) * TILE_INS;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < width; k += LANES) {
            __mmask16 held = in - k >= LANES ? 0xffff : (__mmask16)((1 << (in > k ? in - k : 0)) - 1);
            __m512 left = _mm512_maskz_loadu_ps(held, x + r * in + k);
            for (int part = 0; part < PARTS; part++) {
                __m256bh taken = _mm512_cvtneps_pbh(left);
                memcpy(parts + (r * PARTS + part) * width + k, &taken, sizeof taken);
                left = _mm512_sub_ps(left, _mm512_castsi512_ps(_mm512_slli_epi32(
                                               _mm512_cvtepu16_epi32((__m256i)taken), 16)));
            }
        }
}

static void product_in_tiles(const uint16_t *w, int64_t in, int64_t begin, int64_t end,
                             const float *x, int64_t rows, const float *bias, float *out,
                             int64_t out_stride, int add, int64_t tokens, uint16_t *parts) {
    const int64_t across = tiles_over(in), width = across * TILE_INS, row = across * TILE;
    split(x, rows, in, parts);
    for (int64_t o = begin; o < end; o += 2 * TILE_OUTS) {
        const int64_t wide = (end - o + TILE_OUTS - 1) / TILE_OUTS;
        const uint16_t *column = w + o / TILE_OUTS * row;
        for (int64_t first = 0; first < rows; first += tokens) {
            const uint16_t *part = parts + first * PARTS * width;
            float sums[2][TOKENS * PARTS][TILE_OUTS];
            _tile_zero(0);
            _tile_zero(1);
            for (int64_t k = 0; k < across; k++) {
                const uint16_t *tile = column + k * TILE;
                _tile_loadd(2, part + k * TILE_INS, 2 * width);
                _tile_loadd(3, tile, 64);
                _tile_dpbf16ps(0, 2, 3);
                if (wide < 2) continue;
                _tile_loadd(4, tile + row, 64);
                _tile_dpbf16ps(1, 2, 4);
            }
            _tile_stored(0, sums[0], 64);
            _tile_stored(1, sums[1], 64);
            for (int64_t r = 0; r < tokens && first + r < rows; r++)
                for (int64_t i = 0; i < 2 && i < wide; i++) {
                    const float *sum = sums[i][PARTS * r];
                    const int64_t place = o + i * TILE_OUTS, count = end - place;
                    vec total = (load(sum + 2 * TILE_OUTS) + load(sum + TILE_OUTS)) + load(sum);
                    float *row_out = out + (first + r) * out_stride + place;
                    if (count >= TILE_OUTS) {
                        if (bias) total += load(bias + place);
                        store(row_out, add ? load(row_out) + total : total);
                        continue;
                    }
                    for (int64_t c = 0; c < count; c++) {
                        float alone = bias ? total[c] + bias[place + c] : total[c];
                        row_out[c] = add ? row_out[c] + alone : alone;
                    }
                }
        }
    }
}
#else
int64_t may_use_tiles(void) { return 0; }
#endif

/* Where a product of one pass lies: its threads' scratch, and the tokens that share a tile. */
typedef struct {
    int64_t kind, tokens;
    uint16_t *parts;
} Place;

/* Columns [begin, end) of x · wᵀ + bias, written to `out` or added to it. */
static void product(const Place *place, const void *w, int64_t in, int64_t begin, int64_t end,
                    const float *x, int64_t rows, const float *bias, float *out,
                    int64_t out_stride, int add) {
    if (begin == end || !rows) return;
#ifdef TILES
    if (place->kind == TILED) {
        product_in_tiles(w, in, begin, end, x, rows, bias, out, out_stride, add, place->tokens,
                         place->parts);
        return;
    }
#endif
    if (place->kind == HALF)
        product_in(w, in, begin, end, 1, x, rows, bias, out, out_stride, add);
    else
        product_in(w, in, begin, end, 0, x, rows, bias, out, out_stride, add);
}

/* Root-mean-square normalisation (Zhang and Sennrich, 2019) of one row. */
static void normalise(const float *x, const float *gain, int64_t size, float epsilon, float *out) {
    vec squares = {0};
    int64_t whole = size - size % LANES;
    for (int64_t k = 0; k < whole; k += LANES) squares += load(x + k) * load(x + k);
    float sum = sum_of(squares);
    for (int64_t k = whole; k < size; k++) sum += x[k] * x[k];
    float scale = 1.0f / sqrtf(sum / (float)size + epsilon);
    for (int64_t k = 0; k < size; k++) out[k] = x[k] * scale * gain[k];
}

INLINE int64_t padded(int64_t size) { return (size + KEYS - 1) / KEYS * KEYS; }

/* Rotate a query or a key (Su et al., 2021) whose neighbours rotate together. */
static void rotate(float *x, const float *turns, int64_t head_dim, float scale) {
    int64_t i = 0;
    for (; i + LANES <= head_dim; i += LANES) {
        vec turn = load(turns + i) * scale, pairs = load(x + i);
        vec sines = SHUFFLE(turn, turn, ODD) * (vec){SIGNS};
        store(x + i, pairs * SHUFFLE(turn, turn, EVEN) + SHUFFLE(pairs, pairs, SWAPPED) * sines);
    }
    for (; i < head_dim; i += 2) {
        float cosine = turns[i] * scale, sine = turns[i + 1] * scale, a = x[i], b = x[i + 1];
        x[i] = a * cosine - b * sine;
        x[i + 1] = b * cosine + a * sine;
    }
}

/* Make a head of a new token ready: rotate a query, remember a key or a value. */
static void place_head(const Network *n, const Layer *layer, const Pass *pass, float *x,
                       int64_t head, int64_t position, float *memory, int64_t head_stride) {
    int64_t size = n->head_dim, stride = padded(size);
    const float *turns = pass->rotations + position * size;
    int64_t key = head - n->heads, value = key - n->kv_heads;
    if (key < 0) {
        if (layer->query_gain) normalise(x, layer->query_gain, size, n->epsilon, x);
        rotate(x, turns, size, 1.0f / sqrtf((float)size));
    } else if (value < 0) {
        if (layer->key_gain) normalise(x, layer->key_gain, size, n->epsilon, x);
        rotate(x, turns, size, 1.0f);
        float *block = memory + key * head_stride + position / KEYS * KEYS * stride;
        for (int64_t d = 0; d < size; d++) block[d * KEYS + position % KEYS] = x[d];
    } else {
        memcpy(memory + key * head_stride + position * stride, x, 4 * size);
    }
}

/* What a rotated query reads at positions 0 … seen − 1: out = Σ softmax(query · keys) values. */
static void attend(const float *query, const float *keys, const float *values, int64_t size,
                   int64_t seen, float *scores, float *out) {
    int64_t stride = padded(size), room = padded(seen);
    for (int64_t p = 0; p < room; p += KEYS)
        for (int half = 0; half < KEYS; half += LANES) {
            vec score[4] = {0}; /* four sums, so that none waits for the one before */
            const float *block = keys + p * stride + half;
            int64_t d = 0;
            for (; d + 4 <= size; d += 4)
                for (int i = 0; i < 4; i++) score[i] += query[d + i] * load(block + (d + i) * KEYS);
            for (int i = 0; d + i < size; i++) score[i] += query[d + i] * load(block + (d + i) * KEYS);
            store(scores + p + half, (score[0] + score[1]) + (score[2] + score[3]));
        }
    for (int64_t p = seen; p < room; p++) scores[p] = -INFINITY;
    vec top = load(scores);
    for (int64_t p = LANES; p < room; p += LANES) top = larger(top, load(scores + p));
    float most = top[0];
    for (int i = 1; i < LANES; i++) most = top[i] > most ? top[i] : most;
    vec weights = {0};
    for (int64_t p = 0; p < room; p += LANES) {
        vec weight = exponential(load(scores + p) - most);
        store(scores + p, weight);
        for (int64_t i = seen - p; i < LANES; i++) weight[i < 0 ? 0 : i] = 0;
        weights += weight;
    }
    float scale = 1.0f / sum_of(weights);
    for (int64_t d = 0; d < stride; d += LANES) {
        vec read[4] = {0};
        int64_t p = 0;
        for (; p + 4 <= seen; p += 4)
            for (int i = 0; i < 4; i++)
                read[i] += scores[p + i] * load(values + (p + i) * stride + d);
        for (int i = 0; p + i < seen; i++)
            read[i] += scores[p + i] * load(values + (p + i) * stride + d);
        vec all = ((read[0] + read[1]) + (read[2] + read[3])) * scale;
        if (d + LANES <= size)
            store(out + d, all);
        else
            for (int64_t i = d; i < size; i++) out[i] = all[i - d];
    }
}

/* gate = silu(gate) · up */
static void activate(float *gate, const float *up, int64_t count) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        vec x = load(gate + i);
        store(gate + i, x / (1.0f + exponential((vec){0} - x)) * load(up + i));
    }
    for (; i < count; i++) {
        vec x = {gate[i]};
        gate[i] = (x / (1.0f + exponential((vec){0} - x)))[0] * up[i];
    }
}

static int64_t widest(const Network *n) {
    int64_t read = n->heads * n->head_dim;
    return n->hidden > read ? n->hidden : read;
}

/* Floats of a thread's own: normed rows, scores, and rows split for tiles (3 · 2 bytes a float). */
static int64_t private_floats(const Network *n, int64_t rows, int64_t positions) {
    int64_t in = padded(widest(n) > n->inner ? widest(n) : n->inner) + KEYS;
    return padded(rows * widest(n)) + padded(positions) + (rows + TOKENS) * PARTS * in / 2 + KEYS;
}

/* Floats of scratch that a pass over `rows` tokens needs when it sees `positions`. */
int64_t scratch_floats(const Network *n, int64_t rows, int64_t positions, int64_t threads) {
    int64_t shared = n->hidden + (2 * n->heads + 2 * n->kv_heads) * n->head_dim + 2 * n->inner;
    return rows * shared + threads * private_floats(n, rows, positions);
}

/* Positions that a pass sees: as many as its longest text has after it. */
static int64_t seen_by(const Pass *pass) {
    int64_t seen = 0;
    for (int64_t f = 0; f < pass->feeds; f++) {
        int64_t end = pass->feed[f].begin + pass->feed[f].time;
        if (end > seen) seen = end;
    }
    return seen;
}

/* The text that row `r` belongs to, and its position there. */
INLINE const Feed *feed_of(const Pass *pass, int64_t r, int64_t *position) {
    const Feed *feed = pass->feed;
    for (; r >= feed->time; feed++) r -= feed->time;
    *position = feed->begin + r;
    return feed;
}

/* Find the likeliest token after each text, this thread among columns [begin, end). */
static void choose(const Pass *pass, int64_t begin, int64_t end) {
    const int64_t feeds = pass->feeds, mine = omp_get_thread_num();
    int64_t *tops = pass->likeliest + (1 + mine) * feeds;
    float *seconds = pass->margin + (1 + mine) * feeds;
    for (int64_t f = 0, kept = 0; f < feeds; f++) {
        kept += pass->feed[f].keep;
        const float *last = pass->logits + (kept - 1) * pass->columns;
        int64_t top = begin;
        float second = -INFINITY;
        for (int64_t i = begin + 1; i < end; i++) {
            if (last[i] > last[top]) {
                second = last[top];
                top = i;
            } else if (last[i] > second) {
                second = last[i];
            }
        }
        tops[f] = begin < end ? top : -1;
        seconds[f] = second;
    }
#pragma omp barrier
#pragma omp master
    for (int64_t f = 0, kept = 0; f < feeds; f++) {
        kept += pass->feed[f].keep;
        const float *last = pass->logits + (kept - 1) * pass->columns;
        int64_t top = tops[f];
        float second = seconds[f];
        for (int64_t i = 1; i < omp_get_num_threads(); i++) {
            int64_t theirs = tops[i * feeds + f];
            float beside = seconds[i * feeds + f], before = top < 0 ? -INFINITY : last[top];
            if (theirs < 0) continue;
            if (top < 0 || last[theirs] > before) {
                second = before > beside ? before : beside;
                top = theirs;
            } else if (last[theirs] > second) {
                second = last[theirs];
            }
        }
        pass->likeliest[f] = top;
        pass->margin[f] = last[top] - second;
    }
}

static void forward_in(const Network *n, const Pass *pass) {
    const int64_t rows = pass->rows, hidden = n->hidden, inner = n->inner;
    const int64_t size = n->head_dim, every = n->heads + 2 * n->kv_heads;
    const int64_t seen = seen_by(pass), group = n->heads / n->kv_heads;
    const int64_t read = n->heads * size, mine = omp_get_thread_num();
    float *state = pass->scratch, *qkv = state + rows * hidden, *heard = qkv + rows * every * size;
    float *gates = heard + rows * read;
    float *x = gates + rows * 2 * inner + mine * private_floats(n, rows, seen);
    float *scores = x + padded(rows * widest(n));
    const Place place = {n->kind, rows < TOKENS ? rows : TOKENS, (uint16_t *)(scores + padded(seen))};
    int64_t begin, end;

    share(rows * hidden, LANES, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        state[i] = weight_at(n->embedding, pass->ids[i / hidden] * hidden + i % hidden,
                             n->kind != SINGLE);
#pragma omp barrier
    for (int64_t l = 0; l < n->layers; l++) {
        const Layer *layer = n->layer + l;
        for (int64_t r = 0; r < rows; r++)
            normalise(state + r * hidden, layer->attention_gain, hidden, n->epsilon,
                      x + r * hidden);
        share(every * size, UNIT, &begin, &end);
        product(&place, layer->qkv, hidden, begin, end, x, rows, layer->qkv_bias, qkv, every * size, 0);
#pragma omp barrier
        /* Shared out by heads: rows of one head write to the same lines of memory. */
        share(every * rows, 1, &begin, &end);
        for (int64_t i = begin; i < end; i++) {
            int64_t head = i / rows, r = i % rows, position;
            const Feed *feed = feed_of(pass, r, &position);
            place_head(n, layer, pass, qkv + (r * every + head) * size, head, position,
                       feed->block + l * feed->layer_stride, feed->head_stride);
        }
#pragma omp barrier
        share(n->heads * rows, 1, &begin, &end);
        for (int64_t i = begin; i < end; i++) {
            int64_t head = i / rows, r = i % rows, position;
            const Feed *feed = feed_of(pass, r, &position);
            const float *keys = feed->block + l * feed->layer_stride + head / group * feed->head_stride;
            attend(qkv + (r * every + head) * size, keys, keys + n->kv_heads * feed->head_stride,
                   size, position + 1, scores, heard + (r * n->heads + head) * size);
        }
#pragma omp barrier
        share(hidden, UNIT, &begin, &end);
        product(&place, layer->out, read, begin, end, heard, rows, layer->out_bias, state, hidden, 1);
#pragma omp barrier
        for (int64_t r = 0; r < rows; r++)
            normalise(state + r * hidden, layer->mlp_gain, hidden, n->epsilon, x + r * hidden);
        share(inner, UNIT, &begin, &end);
        float *ups = gates + rows * inner;
        product(&place, layer->gate, hidden, begin, end, x, rows, layer->gate_bias, gates, inner, 0);
        product(&place, layer->up, hidden, begin, end, x, rows, layer->up_bias, ups, inner, 0);
        for (int64_t r = 0; r < rows; r++)
            activate(gates + r * inner + begin, ups + r * inner + begin, end - begin);
#pragma omp barrier
        share(hidden, UNIT, &begin, &end);
        product(&place, layer->down, inner, begin, end, gates, rows, layer->down_bias, state, hidden, 1);
#pragma omp barrier
    }
    int64_t kept = 0;
    const float *ended = state; /* after the last row of a text */
    for (int64_t f = 0; f < pass->feeds; f++) {
        ended += pass->feed[f].time * hidden;
        for (int64_t i = pass->feed[f].keep; i > 0; i--, kept++)
            normalise(ended - i * hidden, n->gain, hidden, n->epsilon, x + kept * hidden);
    }
    share(pass->columns, UNIT, &begin, &end);
    product(&place, n->head, hidden, begin, end, x, kept, n->head_bias, pass->logits, pass->columns, 0);
    if (pass->likeliest) choose(pass, begin, end);
}

/* Feed tokens to every text and write the logits after the last `keep` of each. */
void forward(const Network *n, const Pass *pass) {
#pragma omp parallel num_threads(pass->threads)
    {
#ifdef TILES
        if (n->kind == TILED) configure_tiles(pass->rows);
#endif
        forward_in(n, pass);
#ifdef TILES
        if (n->kind == TILED) _tile_release();
#endif
    }
}

/* Feed every text its tokens, then each likeliest next token but the last; write the tokens and by
   how much each was the likeliest, [feeds, count]. The feeds, of one kept row each, move along. */
void draft(const Network *n, const Pass *first, int64_t *drafted, float *margins, int64_t count) {
    Pass pass = *first;
    for (int64_t i = 0; i < count; i++) {
        forward(n, &pass);
        for (int64_t f = 0; f < pass.feeds; f++) {
            drafted[f * count + i] = pass.likeliest[f];
            margins[f * count + i] = pass.margin[f];
            pass.feed[f].begin += pass.feed[f].time;
            pass.feed[f].time = 1;
        }
        pass.ids = pass.likeliest; /* read before the next are written */
        pass.rows = pass.feeds;
    }
}
