/* Verdicts over drafts, a call each: token rejection, exact match and block verification.

   The rules are those of verification/, which are easier to read; the same numbers are used up in the
   same order, and no row is made that decides nothing. */

#include "sampling.h"

/* What a draft was drawn from; a token that was not drawn has all of its row. */
typedef struct {
    const int64_t *tokens;
    const float *probs; /* [count, vocab]; null: nothing was drawn */
    int64_t count;
} Drafted;

INLINE float draft_probability(const Choices *c, const Drafted *draft, int64_t i) {
    return draft->probs ? draft->probs[i * c->vocab + draft->tokens[i]] : 1.0f;
}

/* max(0, weight · p − q) beside the tokens of row i, in s.keys; returns the sum. */
static double residual(const Choices *c, const Drafted *draft, int64_t i, const Row *row,
                       float weight) {
    float *rest = scratch_of(c).keys;
    const float *q = draft->probs ? draft->probs + i * c->vocab : NULL, *p = row->probs;
    if (!q) {
        for (int64_t k = 0; k < row->count; k++) rest[k] = weight * p[k];
        const int64_t place = place_of(row, draft->tokens[i]);
        if (place < row->count && token_at(row, place) == draft->tokens[i]) rest[place] = 0;
    } else if (row->tokens) {
        for (int64_t k = 0; k < row->count; k++) {
            const float more = weight * p[k] - q[row->tokens[k]];
            rest[k] = more > 0 ? more : 0;
        }
    } else {
        for (int64_t k = 0; k < row->count; k++) {
            const float more = weight * p[k] - q[k];
            rest[k] = more > 0 ? more : 0;
        }
    }
    return sum(rest, row->count);
}

/* The token after `kept` of the draft: from p at its end, else from the residual, if there is one. */
static int64_t following(const Choices *c, const Drafted *draft, int64_t kept, float weight,
                         double uniform) {
    const Row row = row_of(c, kept);
    const float *weights = row.probs;
    if (kept < draft->count && weight > 0 && residual(c, draft, kept, &row, weight) > 0)
        weights = scratch_of(c).keys;
    return drawn(c, &row, weights, uniform);
}

/* Tokens kept by the rule of block verification; `weight` is that of the prefix kept. */
static int64_t longest_pass(const Choices *c, const Drafted *draft, const double **uniforms,
                            float *weight) {
    double *weights = scratch_of(c).weights;
    weights[0] = 1;
    for (int64_t i = 0; i < draft->count; i++) {
        const Row row = row_of(c, i);
        const double joint = weights[i] * probability(&row, draft->tokens[i]);
        const double q = draft_probability(c, draft, i);
        weights[i + 1] = joint >= q ? 1 : joint / q;
    }
    int64_t kept = draft->count;
    for (; kept > 0; kept--) {
        double passes = weights[kept];
        if (kept < draft->count) {
            const Row row = row_of(c, kept);
            const double rest = residual(c, draft, kept, &row, (float)weights[kept]);
            const double all = rest + (1 - weights[kept]);
            passes = all > 0 ? rest / all : 1;
        }
        if (*(*uniforms)++ < passes) break;
    }
    *weight = (float)weights[kept];
    return kept;
}

/* Tokens kept by the rule of token rejection. */
static int64_t count_accepted(const Choices *c, const Drafted *draft, const double **uniforms) {
    int64_t kept = 0;
    for (; kept < draft->count; kept++) {
        const Row row = row_of(c, kept);
        const double p = probability(&row, draft->tokens[kept]);
        const double q = draft_probability(c, draft, kept);
        if (!(*(*uniforms)++ < (p >= q ? 1 : p / q))) break;
    }
    return kept;
}

/* As choices.py numbers them. */
enum { REJECTION, REJECTION_WITHOUT_RESIDUAL, EXACT_MATCH, BLOCK_VERIFICATION };

/* Judge a draft of fewer tokens than there are rows; write how many stay, the token after them, and how
   many of the numbers, count + 1 at most, are used up. */
void judge(const Choices *c, int64_t rule, const int64_t *tokens, const float *probs, int64_t count,
           const double *uniforms, int64_t *verdict) {
    const Drafted draft = {tokens, probs, count};
    const double *next = uniforms;
    int64_t kept = 0, token;
    float weight = 1;
    if (rule == EXACT_MATCH) {
        for (;; kept++) {
            const Row row = row_of(c, kept);
            token = drawn(c, &row, row.probs, *next++);
            if (kept == count || token != tokens[kept]) break;
        }
    } else {
        if (rule == BLOCK_VERIFICATION)
            kept = longest_pass(c, &draft, &next, &weight);
        else
            kept = count_accepted(c, &draft, &next);
        if (rule == REJECTION_WITHOUT_RESIDUAL) weight = 0;
        token = following(c, &draft, kept, weight, *next++);
    }
    verdict[0] = kept;
    verdict[1] = token;
    verdict[2] = next - uniforms;
}

/* Write p(token) for token i in row i. */
void probabilities(const Choices *c, const int64_t *tokens, int64_t count, double *out) {
    for (int64_t i = 0; i < count; i++) {
        const Row row = row_of(c, i);
        out[i] = probability(&row, tokens[i]);
    }
}

/* Write Σ min(p, q) for each of the first `count` rows; q is [count, vocab]. */
void overlaps(const Choices *c, const float *q, int64_t count, double *out) {
    float *least = scratch_of(c).keys;
    for (int64_t i = 0; i < count; i++, q += c->vocab) {
        const Row row = row_of(c, i);
        for (int64_t k = 0; k < row.count; k++) {
            const float beside = q[token_at(&row, k)];
            least[k] = row.probs[k] < beside ? row.probs[k] : beside;
        }
        out[i] = sum(least, row.count);
    }
}
