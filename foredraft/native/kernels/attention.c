/* What stands between the products: norms, rotations, the memory of keys and values, attention. */

#include "network.h"

void normalise(const float *x, const float *gain, int64_t size, float epsilon, float *out) {
    vec squares = {0};
    int64_t whole = size - size % LANES;
    for (int64_t k = 0; k < whole; k += LANES) squares = fused(load(x + k), load(x + k), squares);
    float sum = sum_of(squares);
    for (int64_t k = whole; k < size; k++) sum = fused_one(x[k], x[k], sum);
    float scale = 1.0f / sqrtf(sum / (float)size + epsilon);
    for (int64_t k = 0; k < size; k++) out[k] = x[k] * scale * gain[k];
}

/* Rotate the first `turned` dimensions, of which neighbours rotate together (Su et al., 2021). */
static void rotate(float *x, const float *turns, int64_t turned) {
    int64_t i = 0;
    for (; i + LANES <= turned; i += LANES) {
        vec turn = load(turns + i), pairs = load(x + i);
        vec sines = SHUFFLE(turn, turn, ODD) * (vec){SIGNS};
        store(x + i, fused(pairs, SHUFFLE(turn, turn, EVEN), SHUFFLE(pairs, pairs, SWAPPED) * sines));
    }
    for (; i < turned; i += 2) {
        float cosine = turns[i], sine = turns[i + 1], a = x[i], b = x[i + 1];
        x[i] = fused_one(a, cosine, -(b * sine));
        x[i + 1] = fused_one(b, cosine, a * sine);
    }
}

/* Write a key or a value, its dimensions so many numbers apart. */
static void remember(uint8_t *memory, int64_t at, int64_t apart, const float *x, int64_t size,
                     int64_t half) {
    for (int64_t d = 0; d < size; d++)
        if (half)
            ((uint16_t *)memory)[at + d * apart] = float16_of(x[d]);
        else
            ((float *)memory)[at + d * apart] = x[d];
}

/* What is remembered from the i-th number on. */
INLINE vec numbers_at(const uint8_t *memory, int64_t i, int half) {
    return half ? float16s_at(memory + 2 * i) : load((const float *)memory + i);
}

void place_head(const Network *n, const Layer *layer, const Pass *pass, float *x, int64_t head,
                int64_t position, uint8_t *memory, int64_t head_stride) {
    const int64_t size = n->head_dim, stride = padded(size);
    const int64_t key = head - n->heads, value = key - n->kv_heads;
    if (value >= 0) {
        remember(memory + key * head_stride, position * stride, 1, x, size, n->half);
        return;
    }
    const float *gain = key < 0 ? layer->query_gain : layer->key_gain;
    if (gain) normalise(x, gain, size, n->epsilon, x);
    if (layer->turns >= 0)
        rotate(x, pass->rotations + (layer->turns * pass->positions + position) * n->turned,
               n->turned);
    if (key < 0) {
        for (int64_t d = 0; d < size; d++) x[d] *= n->query_scale;
        return;
    }
    remember(memory + key * head_stride, position / PANEL * PANEL * stride + position % PANEL, PANEL, x,
             size, n->half);
}

/* score = query · key of every position in [begin, room), for queries that share their keys. */
INLINE void score_all(int count, int half_memory, const Query *queries, const uint8_t *keys,
                      int64_t size, int64_t begin, int64_t room, float *scores, int64_t stride) {
    const int64_t wide = padded(size);
    for (int64_t p = begin; p < room; p += PANEL)
        for (int half = 0; half < PANEL; half += LANES) {
            vec sums[TOGETHER][4] = {0}; /* four of each, so that none waits for the one before */
            const int64_t block = p * wide + half;
            int64_t d = 0;
            for (; d + 4 <= size; d += 4)
                for (int i = 0; i < 4; i++) {
                    vec key = numbers_at(keys, block + (d + i) * PANEL, half_memory);
                    for (int q = 0; q < count; q++) sums[q][i] = fused(all_of(queries[q].x[d + i]), key, sums[q][i]);
                }
            for (int i = 0; d + i < size; i++) {
                vec key = numbers_at(keys, block + (d + i) * PANEL, half_memory);
                for (int q = 0; q < count; q++) sums[q][i] = fused(all_of(queries[q].x[d + i]), key, sums[q][i]);
            }
            for (int q = 0; q < count; q++)
                store(scores + q * stride + p + half,
                      (sums[q][0] + sums[q][1]) + (sums[q][2] + sums[q][3]));
        }
}

/* Make weights of a query's scores: e^score where it may look, 0 elsewhere in [begin, room).
   Returns what they have to be multiplied by to be 1 together. */
static float weigh(const Query *query, int64_t begin, int64_t room, float *scores) {
    const int64_t first = query->first, seen = query->seen;
    for (int64_t p = begin; query->nearness && p < room; p += LANES)
        store(scores + p, load(scores + p) + load(query->nearness + p));
    for (int64_t p = begin; p < first; p++) scores[p] = -INFINITY;
    for (int64_t p = seen; p < room; p++) scores[p] = -INFINITY;
    vec top = load(scores + begin);
    for (int64_t p = begin + LANES; p < room; p += LANES) top = larger(top, load(scores + p));
    float most = top[0];
    for (int i = 1; i < LANES; i++) most = top[i] > most ? top[i] : most;
    vec weights = {0};
    for (int64_t p = begin; p < room; p += LANES) {
        vec weight = exponential(load(scores + p) - most);
        if (p < first || p + LANES > seen) /* e^−87 is no zero */
            for (int64_t i = 0; i < LANES; i++)
                if (p + i < first || p + i >= seen) weight[i] = 0;
        store(scores + p, weight);
        /* From where this query begins, so that those beside it do not shift the lanes. */
        if (p + LANES > first && p < seen) weights += weight;
    }
    return 1.0f / sum_of(weights);
}

/* out = scale · Σ weight · value over positions [begin, end): those that weigh nothing add nothing. */
INLINE void read_all(int count, int half, const Query *queries, const uint8_t *values, int64_t size,
                     int64_t begin, int64_t end, const float *scores, int64_t stride,
                     const float *scale) {
    const int64_t wide = padded(size);
    enum { VECTORS = 4 };
    for (int64_t d = 0; d < wide; d += VECTORS * LANES) {
        const int many = wide - d < VECTORS * LANES ? (int)((wide - d) / LANES) : VECTORS;
        vec sums[TOGETHER][VECTORS] = {0};
        if (many == VECTORS)
            for (int64_t p = begin; p < end; p++)
                for (int v = 0; v < VECTORS; v++) {
                    vec value = numbers_at(values, p * wide + d + v * LANES, half);
                    for (int q = 0; q < count; q++)
                        sums[q][v] = fused(all_of(scores[q * stride + p]), value, sums[q][v]);
                }
        else
            for (int64_t p = begin; p < end; p++)
                for (int v = 0; v < many; v++) {
                    vec value = numbers_at(values, p * wide + d + v * LANES, half);
                    for (int q = 0; q < count; q++)
                        sums[q][v] = fused(all_of(scores[q * stride + p]), value, sums[q][v]);
                }
        for (int q = 0; q < count; q++)
            for (int v = 0; v < many; v++) {
                vec all = sums[q][v] * scale[q];
                const int64_t at = d + v * LANES;
                if (at + LANES <= size)
                    store(queries[q].out + at, all);
                else
                    for (int64_t i = at; i < size; i++) queries[q].out[i] = all[i - at];
            }
    }
}

INLINE void attend_to(int count, int half, const Query *queries, const uint8_t *keys,
                      const uint8_t *values, int64_t size, float *scores, int64_t stride) {
    int64_t first = queries[0].first, seen = queries[0].seen;
    float scale[TOGETHER];
    for (int q = 1; q < count; q++) {
        if (queries[q].first < first) first = queries[q].first;
        if (queries[q].seen > seen) seen = queries[q].seen;
    }
    const int64_t begin = first / PANEL * PANEL, room = padded(seen);
    score_all(count, half, queries, keys, size, begin, room, scores, stride);
    for (int q = 0; q < count; q++)
        scale[q] = weigh(queries + q, begin, room, scores + q * stride);
    read_all(count, half, queries, values, size, first, seen, scores, stride, scale);
}

#define ATTEND(count)                                                                             \
    half ? attend_to(count, 1, queries, keys, values, size, scores, stride)                       \
         : attend_to(count, 0, queries, keys, values, size, scores, stride)

void attend(int count, const Query *queries, const uint8_t *keys, const uint8_t *values,
            int64_t size, int64_t half, float *scores, int64_t stride) {
    switch (count) {
        case 1: ATTEND(1); break;
#ifdef __AVX512F__
        case 2: ATTEND(2); break;
        case 3: ATTEND(3); break;
#endif
        default: ATTEND(TOGETHER);
    }
}
