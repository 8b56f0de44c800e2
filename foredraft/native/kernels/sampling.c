/* Sampling on a CPU: logits to distributions, and draws from them.

   The rules are those of sampling/, which are easier to read: filters first, temperature last, of
   equals the first are kept; one number decides a draw, first among blocks of 256 tokens, then within
   one. Nothing is sorted: weights are scanned for the border of a nucleus, and only what lies near it
   is moved. */

#include "sampling.h"

enum { SUMMED = 256 }; /* tokens whose weights are summed together, as in sampling/rng.py */
enum { ROUNDS = 4 };   /* of narrowing, each to a quarter */
enum { FEW = 512 };    /* weights that are not worth narrowing */
enum { CHUNK = 64 };   /* vectors that are summed in float32 while narrowing */

typedef float fhalf __attribute__((vector_size(2 * LANES)));
typedef double dvec __attribute__((vector_size(4 * LANES)));

INLINE int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

/* --- vectors --- */

INLINE int any_of(ivec v) {
#ifdef __AVX512F__
    return _mm512_test_epi32_mask((__m512i)v, (__m512i)v) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_ps((__m256)v) != 0;
#else
    int64_t parts[LANES / 2], any = 0;
    memcpy(parts, &v, sizeof v);
    for (int i = 0; i < LANES / 2; i++) any |= parts[i];
    return any != 0;
#endif
}

/* v where its key reaches a cut, else 0. */
INLINE vec reaching(vec v, vec key, vec cut) {
#ifdef __AVX512F__
    return (vec)_mm512_maskz_mov_ps(_mm512_cmp_ps_mask((__m512)key, (__m512)cut, _CMP_GE_OQ),
                                    (__m512)v);
#else
    return (vec)((ivec)v & (key >= cut));
#endif
}

/* The first `count` floats at p, and `other` in the lanes behind them. */
INLINE vec load_some(const float *p, int64_t count, float other) {
    if (count >= LANES) return load(p);
    vec v = all_of(other);
    for (int64_t i = 0; i < count; i++) v[i] = p[i];
    return v;
}

INLINE void store_some(float *p, vec v, int64_t count) {
    if (count >= LANES)
        store(p, v);
    else
        for (int64_t i = 0; i < count; i++) p[i] = v[i];
}

INLINE void add_doubles(dvec *sums, vec v) {
    fhalf halves[2];
    memcpy(halves, &v, sizeof v);
    for (int i = 0; i < 2; i++) sums[i] += __builtin_convertvector(halves[i], dvec);
}

INLINE double sum_of_doubles(const dvec *sums) {
    const dvec all = sums[0] + sums[1];
    double total = 0;
    for (int i = 0; i < LANES / 2; i++) total += all[i];
    return total;
}

double sum(const float *x, int64_t count) {
    dvec sums[2] = {{0}, {0}};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) add_doubles(sums, load(x + i));
    if (i < count) add_doubles(sums, load_some(x + i, count - i, 0));
    return sum_of_doubles(sums);
}

/* The largest of a row; NaN if there is one. */
static float top_of(const float *x, int64_t count) {
    vec tops[4], odd = {0};
    for (int k = 0; k < 4; k++) tops[k] = all_of(-INFINITY);
    int64_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES)
        for (int k = 0; k < 4; k++) {
            const vec v = load(x + i + k * LANES);
            tops[k] = larger(v, tops[k]);
            odd = (vec)((ivec)odd | (v != v));
        }
    for (; i < count; i += LANES) {
        const vec v = load_some(x + i, count - i, -INFINITY);
        tops[0] = larger(v, tops[0]);
        odd = (vec)((ivec)odd | (v != v));
    }
    if (any_of((ivec)odd)) return NAN;
    const vec all = larger(larger(tops[0], tops[1]), larger(tops[2], tops[3]));
    float top = all[0];
    for (int k = 1; k < LANES; k++) top = all[k] > top ? all[k] : top;
    return top;
}

INLINE vec weights_of(vec x, float temperature) {
    if (temperature != 1) x /= temperature;
    return reaching(exponential(x), x, all_of(-87.0f));
}

/* out = e^((x − top) / temperature), 0 where float32 nearly has it; returns the sum. In place too. */
static double weigh(const float *x, int64_t count, float top, float temperature, float *out) {
    dvec sums[2] = {{0}, {0}};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const vec weights = weights_of(load(x + i) - top, temperature);
        add_doubles(sums, weights);
        store(out + i, weights);
    }
    if (i < count) {
        const vec weights =
            weights_of(load_some(x + i, count - i, -INFINITY) - top, temperature);
        add_doubles(sums, weights);
        store_some(out + i, weights, count - i);
    }
    return sum_of_doubles(sums);
}

/* --- selection --- */

/* Of keys those are kept that are larger than `last`, and the first `places` that equal it. */
typedef struct {
    float last;
    int64_t places, count; /* count: all that are kept */
} Border;

/* Any of them, the median of three: which three changes with n, so that no order of keys is bad. */
static float pivot_of(const float *x, int64_t n) {
    const float a = x[n / 2], b = x[n * 7 / 8], c = x[n * 3 / 16];
    return a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
}

/* The border where the keys from the largest down, each with its weight (itself, or 1 if they are
   counted), first reach `target`; `base` is what lies before them. Moves the keys about. */
static Border border_in(float *x, int64_t n, double base, double target, int counted) {
    int64_t before = 0;
    for (;;) {
        const float pivot = pivot_of(x, n);
        const double each = counted ? 1.0 : (double)pivot;
        int64_t above = 0, i = 0, below = n;
        double mass = 0;
        while (i < below) {
            const float key = x[i];
            if (key > pivot) {
                x[i++] = x[above];
                x[above++] = key;
                mass += counted ? 1.0 : (double)key;
            } else if (key < pivot) {
                x[i] = x[--below];
                x[below] = key;
            } else {
                i++;
            }
        }
        if (above && base + mass >= target) {
            n = above;
            continue;
        }
        const int64_t equal = below - above;
        const double lack = target - (base + mass);
        int64_t places = equal;
        if (base + mass + (double)equal * each >= target) {
            places = each > 0 ? (int64_t)(lack / each) : 0;
            while (places > 1 && base + mass + (double)(places - 1) * each >= target) places--;
            while (places < 1 || base + mass + (double)places * each < target) places++;
        } else if (below < n) {
            base += mass + (double)equal * each;
            before += below;
            x += below;
            n -= below;
            continue;
        }
        return (Border){pivot, places, before + above + places};
    }
}

/* Tokens whose key reaches `cut`, in their order, with their values; there is room for LANES more. */
static int64_t collect(const float *keys, const float *values, int64_t n, float cut,
                       int32_t *tokens, float *kept) {
    int64_t count = 0, i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec v = load(keys + i);
#ifdef __AVX512F__
        const __mmask16 found = _mm512_cmp_ps_mask((__m512)v, _mm512_set1_ps(cut), _CMP_GE_OQ);
        if (!found) continue;
        const __m512i ids = _mm512_add_epi32(
            _mm512_set1_epi32((int)i),
            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
        _mm512_storeu_si512(tokens + count, _mm512_maskz_compress_epi32(found, ids));
        _mm512_storeu_ps(kept + count,
                         _mm512_maskz_compress_ps(found, (__m512)load(values + i)));
        count += __builtin_popcount(found);
#else
        if (!any_of(v >= cut)) continue;
        for (int64_t k = i; k < i + LANES; k++) {
            tokens[count] = (int32_t)k;
            kept[count] = values[k];
            count += keys[k] >= cut;
        }
#endif
    }
    for (; i < n; i++) {
        tokens[count] = (int32_t)i;
        kept[count] = values[i];
        count += keys[i] >= cut;
    }
    return count;
}

/* Drop what is beyond a border from a list in the order of tokens. */
static int64_t thin(const float *keys, int64_t n, Border border, int32_t *tokens, float *kept) {
    int64_t count = 0, places = border.places;
    for (int64_t i = 0; i < n && count < border.count; i++) {
        if (keys[i] < border.last || (keys[i] == border.last && places-- <= 0)) continue;
        tokens[count] = tokens[i];
        kept[count++] = kept[i];
    }
    return count;
}

/* The `top_k` largest of more logits. Maxima of groups tell a cut first: the k-th largest of them is
   reached by k logits at least, and by few more where the groups are many. */
static int64_t keep_largest(const float *x, int64_t n, int64_t top_k, int32_t *tokens, float *kept,
                            float *buffer) {
    const int64_t vectors = n / LANES, rows = at_most(vectors, 8 * top_k / LANES + 1);
    float cut = -INFINITY;
    if (rows * LANES >= top_k) {
        const int64_t height = vectors / rows;
        for (int64_t r = 0; r < rows; r++) {
            vec tops = load(x + r * height * LANES);
            for (int64_t i = 1; i < height; i++)
                tops = larger(load(x + (r * height + i) * LANES), tops);
            store(buffer + r * LANES, tops);
        }
        cut = border_in(buffer, rows * LANES, 0, (double)top_k, 1).last;
    }
    const int64_t found = collect(x, x, n, cut, tokens, kept);
    if (found == top_k) return found;
    memcpy(buffer, kept, (size_t)found * sizeof *kept);
    const Border border = border_in(buffer, found, 0, (double)top_k, 1);
    return thin(kept, found, border, tokens, kept);
}

/* Tokens whose logit reaches `cut`: of all, or of those that are listed already. */
static int64_t keep_above(const float *x, int64_t n, float cut, int is_listed, int32_t *tokens,
                          float *kept) {
    if (!is_listed) return collect(x, x, n, cut, tokens, kept);
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        if (x[i] < cut) continue;
        tokens[count] = tokens[i];
        kept[count++] = x[i];
    }
    return count;
}

INLINE float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Bring bounds of the border's weight together, as bits of floats: they are logarithms, nearly. What
   reaches `low` has the target's mass, what reaches `high` has not, but for rounding. */
static void narrow(const float *weights, int64_t n, double target, uint32_t *low, uint32_t *high) {
    for (int round = 0; round < ROUNDS && *high - *low >= 4; round++) {
        const uint32_t step = (*high - *low) / 4;
        vec cuts[3];
        double masses[3] = {0};
        for (int k = 0; k < 3; k++) cuts[k] = all_of(float_of(*low + (uint32_t)(k + 1) * step));
        for (int64_t begin = 0; begin < n; begin += CHUNK * LANES) {
            const int64_t end = at_most(n, begin + CHUNK * LANES);
            vec sums[3] = {{0}, {0}, {0}};
            for (int64_t i = begin; i < end; i += LANES) {
                const vec v = i + LANES <= end ? load(weights + i)
                                               : load_some(weights + i, end - i, 0);
                for (int k = 0; k < 3; k++) sums[k] += reaching(v, v, cuts[k]);
            }
            for (int k = 0; k < 3; k++) masses[k] += sum_of(sums[k]);
        }
        uint32_t reached = 0;
        while (reached < 3 && masses[reached] >= target) reached++;
        if (reached < 3) *high = *low + (reached + 1) * step;
        *low += reached * step;
    }
}

/* The border if it lies in [low, high): in `buffer` what does. A count of 0 says that it does not. */
static Border border_between(const float *weights, int64_t n, double target, float low, float high,
                             float *buffer) {
    dvec sums[2] = {{0}, {0}};
    ivec number = {0};
    int64_t between = 0, above = 0, i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec v = load(weights + i);
        const ivec before = v >= high, inside = (v >= low) & ~before;
        add_doubles(sums, reaching(v, v, all_of(high)));
        number -= before;
        if (!any_of(inside)) continue;
        for (int k = 0; k < LANES; k++) {
            buffer[between] = weights[i + k];
            between -= inside[k];
        }
    }
    double mass = sum_of_doubles(sums);
    for (int k = 0; k < LANES; k++) above += number[k];
    for (; i < n; i++) {
        const int before = weights[i] >= high;
        mass += before ? weights[i] : 0.0;
        above += before;
        buffer[between] = weights[i];
        between += !before && weights[i] >= low;
    }
    if (!between || (above && mass >= target)) return (Border){0};
    if (low > 0 && mass + sum(buffer, between) < target) return (Border){0};
    Border border = border_in(buffer, between, mass, target, 0);
    border.count += above;
    return border;
}

/* The border of the smallest set of tokens with a share of `top_p`; the largest weight is 1. */
static Border nucleus(const float *weights, int64_t n, double total, double top_p, float *buffer) {
    const double target = top_p * total;
    /* Those below (1 − top_p) / n of the total have less than 1 − top_p of it together. */
    uint32_t low = bits_of((float)((1 - top_p) * total / (double)n)) - 2, high = bits_of(1.0f) + 1;
    Border border = {0};
    if (n > FEW) {
        narrow(weights, n, target, &low, &high);
        border = border_between(weights, n, target, float_of(low), float_of(high), buffer);
    }
    return border.count ? border : border_between(weights, n, target, 0, INFINITY, buffer);
}

/* --- rows --- */

static int64_t blocks_of(int64_t vocab) { return vocab / SUMMED + 2; }
static int64_t room_of(int64_t vocab) { return (vocab + 2 * LANES - 1) / LANES * LANES; }

Scratch scratch_of(const Choices *c) {
    Scratch s = {.sums = c->space};
    const int64_t blocks = blocks_of(c->vocab);
    s.ends = s.sums + blocks;
    s.weights = s.ends + blocks;
    s.begins = (int64_t *)(s.weights + c->rows);
    s.keys = (float *)(s.begins + blocks + c->rows); /* c->counts lie before them */
    s.buffer = s.keys + c->room;
    return s;
}

/* Doubles of `space` for so many rows. */
int64_t choices_space(int64_t rows, int64_t vocab) {
    const int64_t floats = (2 + 2 * rows) * room_of(vocab) + rows + 1;
    return 3 * blocks_of(vocab) + 2 * rows + floats / 2 + 1;
}

static void lay_out(Choices *c) {
    c->room = room_of(c->vocab);
    const Scratch s = scratch_of(c);
    c->counts = s.begins + blocks_of(c->vocab);
    c->probs = s.buffer + c->room;
    c->tokens = (int32_t *)(c->probs + c->rows * c->room);
    c->tops = (float *)(c->tokens + c->rows * c->room);
    for (int64_t r = 0; r < c->rows; r++) c->counts[r] = -1;
}

/* Begin with the logits that stand there; return how many rows come before the first whose largest
   logit is no number. */
int64_t open_choices(Choices *c) {
    lay_out(c);
    for (int64_t r = 0; r < c->rows; r++) {
        c->tops[r] = top_of(c->logits + r * c->stride, c->vocab);
        if (!isfinite(c->tops[r])) return r;
    }
    return c->rows;
}

/* Likewise where the likeliest tokens are known, and every row decides. */
void open_known(Choices *c, const int64_t *likeliest) {
    lay_out(c);
    for (int64_t r = 0; r < c->rows; r++) c->tops[r] = c->logits[r * c->stride + likeliest[r]];
}

static void make_row(const Choices *c, int64_t r) {
    const Scratch s = scratch_of(c);
    const float *values = c->logits + r * c->stride, top = c->tops[r];
    int32_t *tokens = c->tokens + r * c->room;
    float *kept = c->probs + r * c->room;
    int64_t count = c->vocab;
    if (c->top_k < count) {
        count = keep_largest(values, count, c->top_k, tokens, kept, s.buffer);
        values = kept;
    }
    if (c->top_p < 1) {
        const double total = weigh(values, count, top, c->filtered_at, s.keys);
        const Border border = nucleus(s.keys, count, total, c->top_p, s.buffer);
        if (values != kept) {
            count = collect(s.keys, values, count, border.last, tokens, kept);
            if (count > border.count) weigh(kept, count, top, c->filtered_at, s.keys);
        }
        if (count > border.count) count = thin(s.keys, count, border, tokens, kept);
        values = kept;
    }
    if (c->least > -INFINITY) {
        count = keep_above(values, count, (float)(top + c->least), values == kept, tokens, kept);
        values = kept;
    }
    const float share = (float)(1 / weigh(values, count, top, c->temperature, kept));
    for (int64_t i = 0; i < count; i++) kept[i] *= share;
    c->counts[r] = count;
}

Row row_of(const Choices *c, int64_t r) {
    if (c->counts[r] < 0) make_row(c, r);
    const int32_t *tokens = c->counts[r] < c->vocab ? c->tokens + r * c->room : NULL;
    return (Row){c->counts[r], tokens, c->probs + r * c->room};
}

/* Where a token stands in a row, or would. */
int64_t place_of(const Row *row, int64_t token) {
    if (!row->tokens) return token;
    int64_t begin = 0, end = row->count;
    while (begin < end) {
        const int64_t middle = (begin + end) / 2;
        if (row->tokens[middle] < token)
            begin = middle + 1;
        else
            end = middle;
    }
    return begin;
}

float probability(const Row *row, int64_t token) {
    const int64_t place = place_of(row, token);
    if (row->tokens && (place == row->count || row->tokens[place] != token)) return 0;
    return row->probs[place];
}

static void write_row(const Row *row, int64_t vocab, float *out) {
    if (!row->tokens) {
        memcpy(out, row->probs, (size_t)vocab * sizeof *out);
        return;
    }
    memset(out, 0, (size_t)vocab * sizeof *out);
    for (int64_t i = 0; i < row->count; i++) out[row->tokens[i]] = row->probs[i];
}

/* Write rows [begin, end) of probabilities, [end − begin, vocab]. */
void write_rows(const Choices *c, int64_t begin, int64_t end, float *out) {
    for (int64_t r = begin; r < end; r++, out += c->vocab) {
        const Row row = row_of(c, r);
        write_row(&row, c->vocab, out);
    }
}

/* --- draws --- */

/* The first whose end exceeds the number's share of the last one, and what is left of the number. */
static int64_t pick(const double *weights, const double *ends, int64_t count, double *uniform) {
    const double total = ends[count - 1], share = *uniform * total, most = nextafter(total, 0);
    const double point = share < most ? share : most;
    int64_t i = 0;
    while (i < count - 1 && ends[i] <= point) i++;
    const double rest = (point - (ends[i] - weights[i])) / weights[i];
    *uniform = rest > 0 ? (rest < 1 - 0x1p-53 ? rest : 1 - 0x1p-53) : 0;
    return i;
}

/* The token that a number in [0, 1) draws, by weights beside the tokens of a row. */
int64_t drawn(const Choices *c, const Row *row, const float *weights, double uniform) {
    const Scratch s = scratch_of(c);
    int64_t blocks = 0;
    double end = 0;
    for (int64_t i = 0, next; i < row->count; i = next) {
        if (row->tokens) {
            const int32_t block = row->tokens[i] / SUMMED;
            for (next = i + 1; next < row->count && row->tokens[next] / SUMMED == block;) next++;
        } else {
            next = at_most(i + SUMMED, row->count);
        }
        s.begins[blocks] = i;
        s.sums[blocks] = sum(weights + i, next - i);
        s.ends[blocks] = end += s.sums[blocks];
        blocks++;
    }
    s.begins[blocks] = row->count;
    const int64_t block = pick(s.sums, s.ends, blocks, &uniform);
    const int64_t begin = s.begins[block], count = s.begins[block + 1] - begin;
    double inside[SUMMED], ends[SUMMED];
    end = 0;
    for (int64_t i = 0; i < count; i++) {
        inside[i] = weights[begin + i];
        ends[i] = end += inside[i];
    }
    return token_at(row, begin + pick(inside, ends, count, &uniform));
}

/* Draw a token of a row by a number in [0, 1). */
int64_t draw(const Choices *c, int64_t r, double uniform) {
    const Row row = row_of(c, r);
    return drawn(c, &row, row.probs, uniform);
}

/* Draw from one row of logits and write its probabilities, [width]; −1 if it decides nothing. A column
   stands for the token it is named after, if there are names, and for itself if not. */
int64_t draw_next(Choices *c, const float *logits, double uniform, const int64_t *names,
                  int64_t width, float *probs) {
    c->logits = logits;
    if (!open_choices(c)) return -1;
    const Row row = row_of(c, 0);
    const int64_t begin = names ? 0 : c->vocab;
    memset(probs + begin, 0, (size_t)(width - begin) * sizeof *probs);
    if (!names) write_row(&row, c->vocab, probs);
    for (int64_t i = 0; names && i < row.count; i++) probs[names[token_at(&row, i)]] = row.probs[i];
    return drawn(c, &row, row.probs, uniform);
}
