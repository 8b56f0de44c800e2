/* Forward passes of the Llama family, and of T5's decoder, on a CPU, each over one text or several:
   weights as they lie in the model's file, sums in float32.

   Every sum is taken in an order of its own, which neither the number of tokens in the pass, nor the
   texts that they belong to, nor the number of threads changes: a token's logits are the same to the
   bit whoever shares its pass.

   Plain C with the vector extensions of GCC and Clang, and what single processors have besides;
   compiled where it runs (compiler.py). */

#include "network.h"
#include "sampling.h"

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num(void) { return 0; }
static int omp_get_num_threads(void) { return 1; }
#endif
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <sched.h>
#endif

/* --- layout: where each field lies, for structures.py to compare with its own --- */

typedef struct {
    const char *name;
    int64_t offset;
} Field;

#define AT(structure, field) {#structure "." #field, offsetof(structure, field)}
#define SIZE(structure) {#structure, sizeof(structure)}

static const Field fields[] = {
    AT(Matrix, data), AT(Matrix, bias), AT(Matrix, kind), AT(Matrix, out), AT(Matrix, in),
    SIZE(Matrix),
    AT(Layer, attention_gain), AT(Layer, mlp_gain), AT(Layer, attention_end_gain),
    AT(Layer, mlp_end_gain), AT(Layer, query_gain), AT(Layer, key_gain),
    AT(Layer, source_gain), AT(Layer, query), AT(Layer, key), AT(Layer, value), AT(Layer, output),
    AT(Layer, gate), AT(Layer, up), AT(Layer, down), AT(Layer, source_query),
    AT(Layer, source_output), AT(Layer, window), AT(Layer, turns), SIZE(Layer),
    AT(Network, layers), AT(Network, hidden), AT(Network, heads), AT(Network, kv_heads),
    AT(Network, head_dim), AT(Network, turned), AT(Network, inner), AT(Network, activation),
    AT(Network, single), AT(Network, half), AT(Network, epsilon), AT(Network, embedding_scale),
    AT(Network, query_scale), AT(Network, residual_is_normed), AT(Network, embedding),
    AT(Network, head), AT(Network, fuse), AT(Network, gain), AT(Network, word_gain),
    AT(Network, tokens), AT(Network, layer), SIZE(Network),
    AT(Feed, block), AT(Feed, layer_stride), AT(Feed, head_stride), AT(Feed, begin),
    AT(Feed, time), AT(Feed, keep), AT(Feed, first), AT(Feed, source), AT(Feed, source_layer_stride),
    AT(Feed, source_head_stride), AT(Feed, source_length), SIZE(Feed),
    AT(Pass, ids), AT(Pass, feeds), AT(Pass, rows), AT(Pass, columns), AT(Pass, threads),
    AT(Pass, feed), AT(Pass, rotations), AT(Pass, nearness), AT(Pass, positions),
    AT(Pass, scratch), AT(Pass, logits), AT(Pass, likeliest), AT(Pass, margin), AT(Pass, watched),
    AT(Pass, watch), AT(Pass, states), AT(Pass, features), AT(Pass, are_states), SIZE(Pass),
    AT(Choices, logits), AT(Choices, space), AT(Choices, tops), AT(Choices, counts),
    AT(Choices, tokens), AT(Choices, probs), AT(Choices, stride), AT(Choices, rows),
    AT(Choices, vocab), AT(Choices, room), AT(Choices, top_k), AT(Choices, top_p),
    AT(Choices, least), AT(Choices, temperature), AT(Choices, filtered_at), SIZE(Choices),
    AT(Draws, choices), AT(Draws, uniforms), AT(Draws, probs), AT(Draws, width), SIZE(Draws),
    {NULL, 0},
};

const Field *layout(void) { return fields; }

/* --- threads --- */

/* Where the threads of a pass meet. Whoever waits looks for a moment, then sleeps: on a machine that
   does other things too, the one that is waited for may be the one that needs the processor. */
typedef struct {
    int32_t arrived, phase, sleeping;
} Meeting;

enum { LOOKS = 2000 };

static void sleep_until_changed(int32_t *place, int32_t seen) {
#ifdef __linux__
    syscall(SYS_futex, place, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
#else
    (void)place, (void)seen;
    sched_yield();
#endif
}

static void wake_all(int32_t *place) {
#ifdef __linux__
    syscall(SYS_futex, place, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
#else
    (void)place;
#endif
}

static void meet(Meeting *m) {
    const int32_t threads = omp_get_num_threads();
    if (threads == 1) return;
    const int32_t phase = __atomic_load_n(&m->phase, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&m->arrived, 1, __ATOMIC_ACQ_REL) == threads) {
        __atomic_store_n(&m->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&m->phase, phase + 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&m->sleeping, __ATOMIC_SEQ_CST)) wake_all(&m->phase);
        return;
    }
    for (int i = 0; i < LOOKS; i++) {
        if (__atomic_load_n(&m->phase, __ATOMIC_ACQUIRE) != phase) return;
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
    }
    __atomic_add_fetch(&m->sleeping, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&m->phase, __ATOMIC_SEQ_CST) == phase)
        sleep_until_changed(&m->phase, phase);
    __atomic_sub_fetch(&m->sleeping, 1, __ATOMIC_RELAXED);
}

/* This thread's share [begin, end) of `count`, in multiples of `unit`. */
static void share(int64_t count, int64_t unit, int64_t *begin, int64_t *end) {
    int64_t units = (count + unit - 1) / unit, threads = omp_get_num_threads();
    int64_t mine = omp_get_thread_num();
    *begin = units * mine / threads * unit;
    *end = units * (mine + 1) / threads * unit;
    if (*end > count) *end = count;
}

/* --- scratch --- */

INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Of a row before a norm, or behind one: a head's are two side by side. */
static int64_t widest(const Network *n) {
    return most((1 + is_head(n)) * n->hidden, n->heads * n->head_dim);
}

/* Of a row that a product reads. */
static int64_t widest_read(const Network *n) {
    return most(most(widest(n), n->inner), is_head(n) ? n->fuse.in : 0);
}

enum { LINE = 16 }; /* floats of a cache line */
INLINE int64_t lines(int64_t floats) { return (floats + LINE - 1) / LINE * LINE; }

/* Floats of a thread's own: normed rows, scores, and rows of the widest product as bytes with their
   scales, and as parts of bfloat16. */
static int64_t private_floats(const Network *n, int64_t rows, int64_t positions) {
    const int64_t in = widest_read(n);
    return lines(rows * widest(n)) + TOGETHER * lines(padded(positions)) +
           lines((rows * in / BLOCK + 1) * (int64_t)(sizeof(Rounded) / sizeof(float))) +
           lines((rows + 5) * PARTS * in_tiles(in) / 2);
}

/* Floats of scratch that a pass over `rows` tokens needs when it sees `positions`. */
int64_t scratch_floats(const Network *n, int64_t rows, int64_t positions, int64_t threads) {
    int64_t shared = 2 * n->hidden + (2 * n->heads + 2 * n->kv_heads) * n->head_dim + 2 * n->inner;
    return lines(rows * shared) + LINE + threads * private_floats(n, rows, positions);
}

/* A thread's own scratch. */
typedef struct {
    float *x, *scores;
    Rows rows; /* where the products' inputs are rounded to */
} Own;

static Own own_scratch(const Network *n, int64_t rows, int64_t positions, float *at) {
    const int64_t in = widest_read(n);
    Own own = {.x = at};
    own.scores = own.x + lines(rows * widest(n));
    own.rows.rounded = (Rounded *)(own.scores + TOGETHER * lines(padded(positions)));
    own.rows.parts = (uint16_t *)(own.rows.rounded + rows * in / BLOCK + 1);
    return own;
}

/* --- products --- */

/* Rows as the products with these matrices, which all read them, want them. */
static Rows prepared(const Network *n, const Own *own, const float *x, int64_t rows, int64_t count,
                     const Matrix *const *readers) {
    Rows made = own->rows;
    made.values = x;
    made.rows = rows;
    made.in = readers[0]->in;
    int rounds = 0, splits = 0;
    for (int64_t i = 0; i < count; i++) {
        rounds |= !is_dense((Kind)readers[i]->kind) && !n->single;
        splits |= readers[i]->kind == BF16 && may_use_tiles();
    }
    if (!rows) return made;
    if (rounds) round_rows(&made);
    if (splits) split_rows(&made);
    if (!splits) made.parts = NULL;
    return made;
}

static void product(const Network *n, const Matrix *w, int64_t begin, int64_t end, const Rows *x,
                    float *out, int64_t out_stride, int add) {
    if (begin >= end || !x->rows) return;
    if (is_dense((Kind)w->kind))
        dense_product(w, begin, end, x, out, out_stride, add);
    else
        block_product(w, begin, end, x, (int)n->single, out, out_stride, add);
}

/* This thread's share of several products side by side, counted in panels. */
static void products(const Network *n, const Matrix *const *ws, int64_t count, const Rows *x,
                     float *out, int64_t out_stride) {
    int64_t panels = 0, begin, end;
    for (int64_t i = 0; i < count; i++) panels += padded(ws[i]->out) / PANEL;
    share(panels, 1, &begin, &end);
    for (int64_t i = 0; i < count; out += ws[i++]->out) {
        const int64_t here = padded(ws[i]->out) / PANEL;
        const int64_t first = most(begin, 0), last = end < here ? end : here;
        const int64_t stop = last * PANEL < ws[i]->out ? last * PANEL : ws[i]->out;
        product(n, ws[i], first * PANEL, stop, x, out, out_stride, 0);
        begin -= here;
        end -= here;
    }
}

INLINE vec activation(vec x, int64_t kind) {
    if (kind == RELU) return (vec)((ivec)x & ~(ivec)(x < (vec){0})); /* no number stays none */
    vec inside = kind == GELU ? 1.5957691216057308f * fused(0.044715f * x * x, x, x) : x;
    return x / (1.0f + exponential((vec){0} - inside));
}

/* gate = activation(gate) · up; nothing is multiplied where `up` is null. */
static void activate(float *gate, const float *up, int64_t count, int64_t kind) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const vec opened = activation(load(gate + i), kind);
        store(gate + i, up ? opened * load(up + i) : opened);
    }
    for (; i < count; i++) {
        vec x = {gate[i]};
        gate[i] = activation(x, kind)[0] * (up ? up[i] : 1.0f);
    }
}

/* --- the pass --- */

/* Positions that a pass sees: as many as its longest text has after it, or what one has read. */
static int64_t seen_by(const Pass *pass) {
    int64_t seen = 0;
    for (int64_t f = 0; f < pass->feeds; f++) {
        const Feed *feed = pass->feed + f;
        seen = most(seen, most(feed->begin + feed->time, feed->source_length));
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

/* The largest of some numbers, where the first of those is, and the second largest. */
typedef struct {
    float first, second;
    int64_t place; /* −1: there are none */
} Top;

INLINE void heighten(Top *top, float x) {
    if (x > top->first) {
        top->second = top->first;
        top->first = x;
    } else if (x > top->second) {
        top->second = x;
    }
}

/* Of x[begin, end); where one is no number, so is the second. */
static Top top_of(const float *x, int64_t begin, int64_t end) {
    Top top = {-INFINITY, -INFINITY, begin < end ? begin : -1};
    vec firsts = all_of(-INFINITY), seconds = firsts;
    ivec odd = {0};
    int64_t i = begin;
    for (; i + LANES <= end; i += LANES) {
        const vec v = load(x + i);
        const ivec is_first = v > firsts;
        const vec less = (vec)((is_first & (ivec)firsts) | (~is_first & (ivec)v));
        seconds = larger(less, seconds);
        firsts = larger(v, firsts);
        odd |= v != v;
    }
    for (int k = 0; k < LANES; k++) {
        heighten(&top, firsts[k]);
        heighten(&top, seconds[k]);
    }
    int any = 0;
    for (int k = 0; k < LANES; k++) any |= odd[k];
    for (; i < end; i++) {
        heighten(&top, x[i]);
        any |= x[i] != x[i];
    }
    for (i = begin; i < end && x[i] != top.first; i++) {}
    if (i < end) top.place = i;
    if (any) top.second = NAN;
    return top;
}

/* Find the likeliest token of each row of logits, this thread among columns [begin, end). */
static void choose(const Pass *pass, int64_t kept, int64_t begin, int64_t end, Meeting *meeting) {
    const int64_t mine = omp_get_thread_num();
    int64_t *places = pass->likeliest + kept;
    float *seconds = pass->margin + kept;
    for (int64_t r = 0; r < kept; r++) {
        const Top top = top_of(pass->logits + r * pass->columns, begin, end);
        places[mine * kept + r] = top.place;
        seconds[mine * kept + r] = top.second;
    }
    meet(meeting);
    if (mine) return;
    for (int64_t r = 0; r < kept; r++) {
        const float *logits = pass->logits + r * pass->columns;
        Top top = {-INFINITY, -INFINITY, 0};
        int odd = 0;
        for (int64_t i = 0; i < omp_get_num_threads(); i++) {
            const int64_t place = places[i * kept + r];
            const float second = seconds[i * kept + r];
            if (place < 0) continue;
            if (logits[place] > top.first) top.place = place;
            heighten(&top, logits[place]);
            heighten(&top, second);
            odd |= second != second;
        }
        pass->likeliest[r] = top.place;
        pass->margin[r] = odd || !isfinite(top.first) ? NAN : top.first - top.second;
    }
}

/* What the r-th row of a text looks at with a head, in what is said or in what was read. */
static Query looking(const Pass *pass, const Layer *layer, const Feed *feed, int64_t r, int64_t head,
                     int at_source) {
    if (at_source) return (Query){.seen = feed->source_length};
    const int64_t seen = feed->begin + r + 1, reach = pass->positions;
    return (Query){
        .nearness = pass->nearness ? pass->nearness + head * (reach + 2 * PANEL) + reach - seen : NULL,
        .first = layer->window ? most(feed->first, seen - layer->window) : feed->first,
        .seen = seen,
    };
}

/* This thread's share of what all heads of all rows read in layer `l`. Queries of one text that share
   keys are taken together, but no more of them than leave every thread some. */
static void attend_all(const Network *n, const Layer *layer, const Pass *pass, int64_t l,
                       const float *qkv, int at_source, float *heard, float *scores,
                       int64_t stride) {
    const int64_t size = n->head_dim, every = n->heads + 2 * n->kv_heads;
    const int64_t group = n->heads / n->kv_heads, threads = omp_get_num_threads();
    int64_t begin, end, units = 0, row = 0;
    const int64_t many = n->heads * pass->rows / (2 * threads);
    const int64_t together = many < 1 ? 1 : many < TOGETHER ? many : TOGETHER;
    for (int64_t f = 0; f < pass->feeds; f++)
        units += n->kv_heads * ((group * pass->feed[f].time + together - 1) / together);
    share(units, 1, &begin, &end);
    for (const Feed *feed = pass->feed; begin < end; row += feed->time, feed++) {
        const int64_t of_key = group * feed->time, here = (of_key + together - 1) / together;
        for (; begin < end && begin < n->kv_heads * here; begin++) {
            const int64_t key = begin / here, start = begin % here * together;
            const int count = (int)(of_key - start < together ? of_key - start : together);
            const int64_t apart = at_source ? feed->source_head_stride : feed->head_stride;
            const uint8_t *keys = at_source ? feed->source + l * feed->source_layer_stride
                                            : feed->block + l * feed->layer_stride;
            keys += key * apart;
            Query queries[TOGETHER];
            for (int q = 0; q < count; q++) {
                const int64_t r = (start + q) / group, head = key * group + (start + q) % group;
                queries[q] = looking(pass, layer, feed, r, head, at_source);
                queries[q].x = qkv + ((row + r) * every + head) * size;
                queries[q].out = heard + ((row + r) * n->heads + head) * size;
            }
            attend(count, queries, keys, keys + n->kv_heads * apart, size, n->half, scores, stride);
        }
        begin -= n->kv_heads * here;
        end -= n->kv_heads * here;
    }
}

/* Add a product's result to the state: this thread's columns; by `gain` it is normed before. */
static void add_normed(const Network *n, const float *result, const float *gain, int64_t rows,
                       float *normed, float *state, Meeting *meeting) {
    int64_t begin, end;
    share(n->hidden, LINE, &begin, &end);
    for (int64_t r = 0; r < rows; r++) {
        normalise(result + r * n->hidden, gain, n->hidden, n->epsilon, normed);
        for (int64_t i = begin; i < end; i++) state[r * n->hidden + i] += normed[i];
    }
    meet(meeting);
}

/* state += w · x, normed before it is added where there is a gain. */
static void add_product(const Network *n, const Matrix *w, const float *x, const float *gain,
                        int64_t rows, const Own *own, float *result, float *state,
                        Meeting *meeting) {
    int64_t begin, end;
    const Rows read = prepared(n, own, x, rows, 1, &w);
    share(n->hidden, PANEL, &begin, &end);
    product(n, w, begin, end, &read, gain ? result : state, n->hidden, !gain);
    meet(meeting);
    if (gain) add_normed(n, result, gain, rows, own->x, state, meeting);
}

static void normalise_rows(const Network *n, const float *x, const float *gain, int64_t rows,
                           float *out) {
    for (int64_t r = 0; r < rows; r++)
        normalise(x + r * n->hidden, gain, n->hidden, n->epsilon, out + r * n->hidden);
}

/* Write down the states after `layers` of them, this thread's rows, where somebody asks. */
static void record(const Network *n, const Pass *pass, int64_t layers, const float *state) {
    int64_t begin, end;
    share(pass->rows, 1, &begin, &end);
    for (int64_t w = 0; w < pass->watched; w++)
        for (int64_t r = begin; pass->watch[w] == layers && r < end; r++)
            memcpy(pass->states + (r * pass->watched + w) * n->hidden, state + r * n->hidden,
                   n->hidden * sizeof(float));
}

/* The embeddings of all rows: the first states, but beside those of a head, which are made of what
   it is told of its target (EAGLE-3; Li et al., 2025). */
static void embed(const Network *n, const Pass *pass, const Own *own, float *words, float *state,
                  Meeting *meeting) {
    const int64_t hidden = n->hidden;
    int64_t begin, end;
    share(pass->rows, 1, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        float *word = (is_head(n) ? words : state) + r * hidden;
        unpack_row(&n->embedding, pass->ids[r], word);
        for (int64_t i = 0; i < hidden; i++) word[i] *= n->embedding_scale;
        if (is_head(n) && pass->are_states)
            memcpy(state + r * hidden, pass->features + r * hidden, hidden * sizeof(float));
    }
    if (is_head(n) && !pass->are_states) {
        const Matrix *const fuse = &n->fuse;
        const Rows told = prepared(n, own, pass->features, pass->rows, 1, &fuse);
        share(hidden, PANEL, &begin, &end);
        product(n, fuse, begin, end, &told, state, hidden, 0);
    }
    meet(meeting);
    record(n, pass, 0, state);
}

/* What a layer asks for keys with: the normed states, of a head's each behind its embedding. */
static void normalise_for_attention(const Network *n, const Layer *layer, const float *words,
                                    const float *state, int64_t rows, float *out) {
    const int64_t hidden = n->hidden;
    if (!is_head(n)) normalise_rows(n, state, layer->attention_gain, rows, out);
    for (int64_t r = 0; is_head(n) && r < rows; r++, out += 2 * hidden) {
        normalise(words + r * hidden, n->word_gain, hidden, n->epsilon, out);
        normalise(state + r * hidden, layer->attention_gain, hidden, n->epsilon, out + hidden);
    }
}

static void forward_in(const Network *n, const Pass *pass, Meeting *meeting) {
    const int64_t rows = pass->rows, hidden = n->hidden, inner = n->inner;
    const int64_t size = n->head_dim, every = n->heads + 2 * n->kv_heads;
    const int64_t seen = seen_by(pass);
    const int64_t read = n->heads * size, shared = rows * (2 * hidden + (every + n->heads) * size);
    float *state = (float *)(((uintptr_t)pass->scratch + 63) / 64 * 64);
    float *result = state + rows * hidden, *qkv = result + rows * hidden;
    float *heard = qkv + rows * every * size, *gates = heard + rows * read;
    float *ups = gates + rows * inner;
    const Own own = own_scratch(n, rows, seen,
                                state + lines(shared + 2 * rows * inner) +
                                    omp_get_thread_num() * private_floats(n, rows, seen));
    int64_t begin, end;

    float *words = result; /* of a head; nothing is normed behind its products */
    embed(n, pass, &own, words, state, meeting);
    for (int64_t l = 0; l < n->layers; l++) {
        const Layer *layer = n->layer + l;
        const Matrix *const qkvs[] = {&layer->query, &layer->key, &layer->value};
        const Matrix *const gate_up[] = {&layer->gate, &layer->up};
        normalise_for_attention(n, layer, words, state, rows, own.x);
        const Rows asked = prepared(n, &own, own.x, rows, 3, qkvs);
        products(n, qkvs, 3, &asked, qkv, every * size);
        meet(meeting);
        share(n->residual_is_normed ? rows : 0, 1, &begin, &end);
        for (int64_t r = begin; r < end; r++)
            memcpy(state + r * hidden, own.x + (2 * r + 1) * hidden, hidden * sizeof(float));
        /* Shared out by heads: rows of one head write to the same lines of memory. */
        share(every * rows, 1, &begin, &end);
        for (int64_t i = begin; i < end; i++) {
            int64_t head = i / rows, r = i % rows, position;
            const Feed *feed = feed_of(pass, r, &position);
            place_head(n, layer, pass, qkv + (r * every + head) * size, head, position,
                       feed->block + l * feed->layer_stride, feed->head_stride);
        }
        meet(meeting);
        attend_all(n, layer, pass, l, qkv, 0, heard, own.scores, lines(padded(seen)));
        meet(meeting);
        add_product(n, &layer->output, heard, layer->attention_end_gain, rows, &own, result, state,
                    meeting);
        if (layer->source_query.data) {
            const Matrix *const asking[] = {&layer->source_query};
            normalise_rows(n, state, layer->source_gain, rows, own.x);
            const Rows questions = prepared(n, &own, own.x, rows, 1, asking);
            products(n, asking, 1, &questions, qkv, every * size);
            meet(meeting);
            attend_all(n, layer, pass, l, qkv, 1, heard, own.scores, lines(padded(seen)));
            meet(meeting);
            add_product(n, &layer->source_output, heard, NULL, rows, &own, result, state, meeting);
        }
        normalise_rows(n, state, layer->mlp_gain, rows, own.x);
        const int is_gated = layer->up.data != NULL;
        const Rows given = prepared(n, &own, own.x, rows, is_gated ? 2 : 1, gate_up);
        share(inner, PANEL, &begin, &end);
        product(n, &layer->gate, begin, end, &given, gates, inner, 0);
        if (is_gated) product(n, &layer->up, begin, end, &given, ups, inner, 0);
        for (int64_t r = 0; r < rows; r++)
            activate(gates + r * inner + begin, is_gated ? ups + r * inner + begin : NULL,
                     end - begin, n->activation);
        meet(meeting);
        add_product(n, &layer->down, gates, layer->mlp_end_gain, rows, &own, result, state, meeting);
        record(n, pass, l + 1, state);
    }
    int64_t kept = 0;
    const float *ended = state; /* after the last row of a text */
    for (int64_t f = 0; f < pass->feeds; f++) {
        ended += pass->feed[f].time * hidden;
        for (int64_t i = pass->feed[f].keep; i > 0; i--, kept++)
            normalise(ended - i * hidden, n->gain, hidden, n->epsilon, own.x + kept * hidden);
    }
    const Matrix *const head[] = {&n->head};
    const Rows asked = prepared(n, &own, own.x, kept, 1, head);
    share(pass->columns, PANEL, &begin, &end);
    product(n, &n->head, begin, end, &asked, pass->logits, pass->columns, 0);
    choose(pass, kept, begin, end, meeting);
}

/* Feed tokens to every text and write the logits after the last `keep` of each. */
void forward(const Network *n, const Pass *pass) {
    Meeting meeting = {0};
    const int tiled = (int)may_use_tiles();
#pragma omp parallel num_threads(pass->threads)
    {
        if (tiled) open_tiles(pass->rows);
        forward_in(n, pass, &meeting);
        if (tiled) close_tiles();
    }
    if (!n->tokens) return;
    int64_t kept = 0;
    for (int64_t f = 0; f < pass->feeds; f++) kept += pass->feed[f].keep;
    for (int64_t r = 0; r < kept; r++) pass->likeliest[r] = n->tokens[pass->likeliest[r]];
}

/* Draw each text's next token in place of the likeliest; its margin is no number if there is none. */
static void draw_all(const Network *n, const Pass *pass, const Draws *draws, int64_t i,
                     int64_t count) {
    for (int64_t f = 0; f < pass->feeds; f++) {
        const int64_t place = f * count + i;
        float *probs = draws->probs + place * draws->width;
        const int64_t token =
            draw_next(draws->choices + f, pass->logits + f * pass->columns, draws->uniforms[place],
                      n->tokens, draws->width, probs);
        if (token < 0) pass->margin[f] = NAN;
        pass->likeliest[f] = token < 0 ? 0 : n->tokens ? n->tokens[token] : token;
    }
}

/* Feed every text its tokens, then each next token but the last: the likeliest, or drawn ones. Write
   the tokens and by how much the likeliest was ahead, [feeds, count]. The feeds, of one kept row each,
   move along. */
void draft(const Network *n, const Pass *first, int64_t *drafted, float *margins, int64_t count,
           const Draws *draws) {
    Pass pass = *first;
    for (int64_t i = 0; i < count; i++) {
        forward(n, &pass);
        if (draws) draw_all(n, &pass, draws, i, count);
        int64_t row = 0;
        for (int64_t f = 0; f < pass.feeds; f++) {
            row += pass.feed[f].time;
            if (is_head(n)) /* it watches its own states, and nothing else */
                memmove(pass.states + f * n->hidden, pass.states + (row - 1) * n->hidden,
                        n->hidden * sizeof(float));
            drafted[f * count + i] = pass.likeliest[f];
            margins[f * count + i] = pass.margin[f];
            pass.feed[f].begin += pass.feed[f].time;
            pass.feed[f].time = 1;
        }
        pass.ids = pass.likeliest; /* read before the next are written */
        pass.rows = pass.feeds;
        pass.features = pass.states; /* of a head: from here on it goes by what it has made itself */
        pass.are_states = 1;
    }
}
