/* Rows of logits under a sampler, and draws from them: what sampling.c makes and verdicts.c asks. */

#ifndef SAMPLING_H
#define SAMPLING_H

#include "vectors.h"

/* What tokens are drawn from: rows of logits under the filters and the temperature of a sampler. A row
   is made when it is first needed: tokens in their order, and a probability each. */
typedef struct {
    const float *logits; /* [rows, vocab], `stride` apart */
    double *space;       /* `choices_space` of them */
    float *tops;         /* the largest logit of each row; what follows lies in `space` */
    int64_t *counts;     /* tokens of each row; −1: not made yet; vocab: all there are */
    int32_t *tokens;     /* [rows, room] */
    float *probs;        /* [rows, room] */
    int64_t stride, rows, vocab, room;
    int64_t top_k; /* vocab or more: no filter; so 1 is for top_p */
    double top_p;
    double least;      /* logit below the largest from which on tokens are kept; −∞ keeps all */
    float temperature;
    float filtered_at; /* temperature that the nucleus is chosen at */
} Choices;

/* How the texts of a pass draw: choices of one row and their columns for each. */
typedef struct {
    Choices *choices;       /* [feeds] */
    const double *uniforms; /* [feeds, count], in [0, 1) */
    float *probs;           /* [feeds, count, width]: what the tokens were drawn from */
    int64_t width;
} Draws;

/* One row: `count` tokens in their order; all there are need not be written down. */
typedef struct {
    int64_t count;
    const int32_t *tokens; /* null: 0, 1, 2, … */
    const float *probs;
} Row;

INLINE int64_t token_at(const Row *row, int64_t place) {
    return row->tokens ? row->tokens[place] : place;
}

/* Where things lie behind each other in `space`. */
typedef struct {
    double *sums, *ends, *weights; /* of blocks of tokens; and of the prefixes of a draft */
    int64_t *begins;
    float *keys, *buffer;
} Scratch;

Scratch scratch_of(const Choices *c);
Row row_of(const Choices *c, int64_t r);
int64_t place_of(const Row *row, int64_t token);
float probability(const Row *row, int64_t token);
double sum(const float *x, int64_t count);
int64_t drawn(const Choices *c, const Row *row, const float *weights, double uniform);
int64_t draw_next(Choices *c, const float *logits, double uniform, const int64_t *names,
                  int64_t width, float *probs);

#endif
