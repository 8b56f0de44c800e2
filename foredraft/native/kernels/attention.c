/* What stands between the products: norms, rotations, the memory of keys and values, attention. */

#include "network.h"

void normalise(const float *x, const float *gain, int64_t size, float epsilon, float *out) {
    vec squares = {0};
    int64_t whole = size - size % LANES;
    for (int64_t k = 0; k < whole; k += LANES) squares += load(x + k) * load(x + k);
    float sum = sum_of(squares);
    for (int64_t k = whole; k < size; k++) sum += x[k] * x[k];
    float scale = 1.0f / sqrtf(sum / (float)size + epsilon);
    for (int64_t k = 0; k < size; k++) out[k] = x[k] * scale * gain[k];
}

/* Rotate the first `turned` dimensions, of which neighbours rotate together (Su et al., 2021). */
static void rotate(float *x, const float *turns, int64_t turned) {
    int64_t i = 0;
    for (; i + LANES <= turned; i += LANES) {
        vec turn = load(turns + i), pairs = load(x + i);
        vec sines = SHUFFLE(turn, turn, ODD) * (vec){SIGNS};
        store(x + i, pairs * SHUFFLE(turn, turn, EVEN) + SHUFFLE(pairs, pairs, SWAPPED) * sines);
    }
    for (; i < turned; i += 2) {
        float cosine = turns[i], sine = turns[i + 1], a = x[i], b = x[i + 1];
        x[i] = a * cosine - b * sine;
        x[i + 1] = b * cosine + a * sine;
    }
}

void place_head(const Network *n, const Layer *layer, const Pass *pass, float *x, int64_t head,
                int64_t position, float *memory, int64_t head_stride) {
    const int64_t size = n->head_dim, stride = padded(size);
    const int64_t key = head - n->heads, value = key - n->kv_heads;
    if (value >= 0) {
        memcpy(memory + key * head_stride + position * stride, x, 4 * size);
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
    float *block = memory + key * head_stride + position / PANEL * PANEL * stride;
    for (int64_t d = 0; d < size; d++) block[d * PANEL + position % PANEL] = x[d];
}

void attend(const float *query, const float *keys, const float *values, int64_t size,
            int64_t first, int64_t seen, float *scores, float *out) {
    const int64_t stride = padded(size), begin = first / PANEL * PANEL, room = padded(seen);
    for (int64_t p = begin; p < room; p += PANEL)
        for (int half = 0; half < PANEL; half += LANES) {
            vec score[4] = {0}; /* four sums, so that none waits for the one before */
            const float *block = keys + p * stride + half;
            int64_t d = 0;
            for (; d + 4 <= size; d += 4)
                for (int i = 0; i < 4; i++) score[i] += query[d + i] * load(block + (d + i) * PANEL);
            for (int i = 0; d + i < size; i++)
                score[i] += query[d + i] * load(block + (d + i) * PANEL);
            store(scores + p + half, (score[0] + score[1]) + (score[2] + score[3]));
        }
    for (int64_t p = begin; p < first; p++) scores[p] = -INFINITY;
    for (int64_t p = seen; p < room; p++) scores[p] = -INFINITY;
    vec top = load(scores + begin);
    for (int64_t p = begin + LANES; p < room; p += LANES) top = larger(top, load(scores + p));
    float most = top[0];
    for (int i = 1; i < LANES; i++) most = top[i] > most ? top[i] : most;
    vec weights = {0};
    for (int64_t p = begin; p < room; p += LANES) {
        vec weight = exponential(load(scores + p) - most);
        /* e^−87 is no zero, and what is not attended to may be any number */
        for (int64_t i = 0; i < first - p && i < LANES; i++) weight[i] = 0;
        for (int64_t i = seen - p; i < LANES; i++) weight[i < 0 ? 0 : i] = 0;
        store(scores + p, weight);
        weights += weight;
    }
    float scale = 1.0f / sum_of(weights);
    for (int64_t d = 0; d < stride; d += LANES) {
        vec read[4] = {0};
        int64_t p = first;
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
