/* What Python fills in (structures.py), and what the files here say to each other. */

#ifndef NETWORK_H
#define NETWORK_H

#include "vectors.h"

/* How the numbers of a matrix lie: floats, or the blocks of 32 or 256 weights of GGUF. */
typedef enum { F32, BF16, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K } Kind;

INLINE int is_dense(Kind kind) { return kind <= F16; }
INLINE int is_super(Kind kind) { return kind >= Q4_K; }

typedef struct {
    const uint8_t *data; /* panels, see `pack` */
    const float *bias;   /* [out]; may be null, as all gains but the first two of a layer */
    int64_t kind, out, in;
} Matrix;

typedef struct {
    const float *attention_gain, *mlp_gain, *attention_end_gain, *mlp_end_gain;
    const float *query_gain, *key_gain, *source_gain;
    Matrix query, key, value, output, gate, up, down; /* no `up` where nothing is gated */
    Matrix source_query, source_output; /* of a decoder that reads what an encoder made of a text */
    int64_t window; /* positions that are attended to; 0: all */
    int64_t turns;  /* which table of rotations; −1: none */
} Layer;

/* GELU by its hyperbolic tangent. */
enum { SILU, GELU, RELU };

typedef struct {
    int64_t layers, hidden, heads, kv_heads, head_dim, turned, inner;
    int64_t activation; /* SILU, GELU or RELU */
    int64_t single; /* activations stay in float32 whatever the weights are */
    int64_t half;   /* keys and values are remembered in 16 bits */
    float epsilon, embedding_scale, query_scale;
    int64_t residual_is_normed; /* of a head: whether the norm comes before the residual */
    Matrix embedding, head;
    Matrix fuse; /* of a head: what makes a state of the target's features; else there is none */
    const float *gain, *word_gain; /* the latter of a head: of the embeddings beside such a state */
    const int64_t *tokens; /* that the columns of the logits stand for; null: for themselves */
    const Layer *layer;
} Network;

INLINE int is_head(const Network *n) { return n->fuse.data != NULL; }

/* What one text adds to a pass. Its keys and values: [layers, 2 · kv_heads, capacity, padded
   head_dim]. Of 16 positions the values lie one after the other, the keys transposed: [head_dim, 16].
   No two texts of a pass share them. */
typedef struct {
    uint8_t *block;
    int64_t layer_stride, head_stride; /* in bytes */
    int64_t begin, time, keep; /* where its tokens begin; how many; the last of them with logits */
    int64_t first; /* positions before it are not attended to */
    const uint8_t *source;     /* keys and values of what an encoder has read, laid out likewise */
    int64_t source_layer_stride, source_head_stride, source_length;
} Feed;

typedef struct {
    const int64_t *ids; /* [rows], feed after feed */
    int64_t feeds, rows, columns, threads;
    Feed *feed;
    const float *rotations; /* cosine and sine, [tables, positions, turned / 2, 2] */
    /* What scores get by the distance of a key: [heads, positions + PANEL], nearest keys last, then
       room. Null: nothing. */
    const float *nearness;
    int64_t positions;
    float *scratch, *logits; /* logits: [sum of keep, columns], feed after feed */
    int64_t *likeliest; /* the likeliest token of each row of logits, and room for each thread's */
    float *margin;      /* how far it is ahead of the second; no number: the row decides nothing */
    int64_t watched;    /* numbers of layers after which the states of all rows are written down */
    const int64_t *watch;  /* [watched]; 0: before the first */
    float *states;         /* [rows, watched, hidden] */
    const float *features; /* that a head is given, [rows, width] */
    int64_t are_states;    /* whether those are its own of the row before, not to be fused */
} Pass;

/* 32 activations of a row, rounded to 8 bits. */
enum { BLOCK = 32 };
typedef struct {
    int8_t bytes[BLOCK];
    float scale, shift; /* what a byte stands for; that times the sum of the bytes */
    int32_t halves[2];  /* sums of 16 bytes */
} Rounded;

/* Rows of activations as a product reads them, made once for all products that do. */
typedef struct {
    const float *values; /* [rows, in] */
    int64_t rows, in;
    Rounded *rounded; /* [in / 32, rows] */
    uint16_t *parts;  /* [rows, 3, padded in]: each row as three of bfloat16 */
} Rows;

/* Columns [begin, end) of x · wᵀ + bias, written to `out` or added to it; `begin` starts a panel. */
void dense_product(const Matrix *w, int64_t begin, int64_t end, const Rows *x, float *out,
                   int64_t out_stride, int add);
void block_product(const Matrix *w, int64_t begin, int64_t end, const Rows *x, int single,
                   float *out, int64_t out_stride, int add);
void split_rows(const Rows *x);
void round_rows(const Rows *x);
void unpack_row(const Matrix *w, int64_t row, float *out);

int64_t may_use_tiles(void);
void open_tiles(int64_t rows);
void close_tiles(void);
enum { PARTS = 3, TILE_INS = 32 };
INLINE int64_t in_tiles(int64_t in) { return (in + TILE_INS - 1) / TILE_INS * TILE_INS; }

/* Root-mean-square normalisation of one row (Zhang and Sennrich, 2019). */
void normalise(const float *x, const float *gain, int64_t size, float epsilon, float *out);
INLINE int64_t padded(int64_t size) { return (size + PANEL - 1) / PANEL * PANEL; }

/* Make a head of a new token ready: rotate a query, remember a key or a value. */
void place_head(const Network *n, const Layer *layer, const Pass *pass, float *x, int64_t head,
                int64_t position, uint8_t *memory, int64_t head_stride);
/* A rotated query, the positions that it may look at, and where what it reads goes. */
typedef struct {
    const float *x, *nearness; /* what is added to its score of each position; may be null */
    int64_t first, seen;
    float *out;
} Query;

/* out = Σ softmax(query · keys) values, for up to TOGETHER queries of one text that share keys. What
   one reads does not depend on the others. `scores` has `stride` floats for each. */
enum { TOGETHER = LANES == 16 ? 4 : 2 };
void attend(int count, const Query *queries, const uint8_t *keys, const uint8_t *values,
            int64_t size, int64_t half, float *scores, int64_t stride);

#endif
