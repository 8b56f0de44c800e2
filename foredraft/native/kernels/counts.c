/* The n-gram counts of drafting/ngram_storage.py, which are easier to read: the same answers.

   A context is a path from its newest token to its oldest, so that one walk meets those of all lengths. */

#include "lookup.h"

enum { TOP = 0, NONE = -1 };
enum { FULL, UNKNOWN, HOPELESS }; /* why a run of tokens ended; as in native/retrieval.py */

typedef struct {
    int32_t parent, token, depth, record; /* record: NONE where the context has not been seen */
} Node;

/* What followed a context that has been seen. */
typedef struct {
    int32_t node, best, best_count, total;
} Record;

typedef struct {
    int64_t n, one_level, vocab, max_contexts;
    int64_t nodes, node_room, records, record_room, oldest; /* records before it are forgotten */
    Node *node;
    Record *record;
    Table children; /* node and token → node */
    Table counts;   /* record and token → how often */
} Counts;

void counts_free(Counts *c) {
    if (!c) return;
    free(c->node);
    free(c->record);
    close_table(&c->children);
    close_table(&c->counts);
    free(c);
}

static int clear(Counts *c) {
    close_table(&c->children);
    close_table(&c->counts);
    c->nodes = c->records = c->oldest = 0;
    if (!has_room((void **)&c->node, &c->node_room, 1, sizeof(Node))) return 0;
    c->node[c->nodes++] = (Node){NONE, NONE, 0, NONE};
    return 1;
}

/* Counts of nothing; null if there is no memory for them. */
Counts *counts_new(int64_t n, int64_t one_level, int64_t vocab, int64_t max_contexts) {
    Counts *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    *c = (Counts){.n = n, .one_level = one_level, .vocab = vocab, .max_contexts = max_contexts};
    if (clear(c)) return c;
    counts_free(c);
    return NULL;
}

int64_t counts_size(const Counts *c) { return c->records - c->oldest; }

static int32_t child_of(const Counts *c, int32_t node, int64_t token) {
    return value_at(&c->children, key_of(node, token));
}

/* The child of a node, made if there is none; NONE if there is no memory for it. */
static int32_t made_child(Counts *c, int32_t node, int64_t token) {
    int32_t *child = value_for(&c->children, key_of(node, token));
    if (!child) return NONE;
    if (*child != NOT_THERE) return *child;
    if (!has_room((void **)&c->node, &c->node_room, c->nodes + 1, sizeof(Node))) return NONE;
    c->node[c->nodes] = (Node){node, (int32_t)token, c->node[node].depth + 1, NONE};
    return *child = (int32_t)c->nodes++;
}

static int32_t new_record(Counts *c, int32_t node) {
    if (!has_room((void **)&c->record, &c->record_room, c->records + 1, sizeof(Record))) return NONE;
    c->record[c->records] = (Record){node, NONE, 0, 0};
    return c->node[node].record = (int32_t)c->records++;
}

/* Strictly more: of equals, the one that reached the count first keeps the lead. */
static int count_in(Counts *c, int32_t record, int32_t token) {
    int32_t *times = value_for(&c->counts, key_of(record, token));
    if (!times) return 0;
    *times = *times == NOT_THERE ? 1 : *times + 1;
    Record *r = c->record + record;
    r->total++;
    if (r->best == token || *times > r->best_count) {
        r->best = token;
        r->best_count = *times;
    }
    return 1;
}

static int is_counted(const Counts *c, int64_t depth) {
    return c->one_level ? depth == c->n - 1 : depth >= 1 && depth < c->n;
}

/* Count a token after the end of a context; longer contexts first, as they are forgotten in turn. */
static int count_after(Counts *c, const int64_t *context, int64_t length, int64_t token) {
    if (token < 0 || token >= c->vocab) return 1; /* of an encoder's own: the decoder cannot say it */
    int32_t node = TOP;
    const int64_t deepest = length < c->n - 1 ? length : c->n - 1;
    for (int64_t i = 1; i <= deepest; i++)
        if ((node = made_child(c, node, context[length - i])) == NONE) return 0;
    for (; node != TOP; node = c->node[node].parent) {
        if (!is_counted(c, c->node[node].depth)) continue;
        int32_t record = c->node[node].record;
        if (record == NONE && (record = new_record(c, node)) == NONE) return 0;
        if (!count_in(c, record, (int32_t)token)) return 0;
    }
    return 1;
}

/* Move what is remembered into memory of its own, without what is forgotten. */
static int compact(Counts *c) {
    Counts *fresh = counts_new(c->n, c->one_level, c->vocab, c->max_contexts);
    int whole = fresh != NULL;
    for (int64_t r = c->oldest; whole && r < c->records; r++) {
        int32_t path = TOP, node = c->record[r].node, tokens[64];
        const int32_t depth = c->node[node].depth;
        for (int32_t i = depth; i > 0; i--, node = c->node[node].parent)
            tokens[i - 1] = c->node[node].token;
        for (int32_t i = 0; i < depth && path != NONE; i++) path = made_child(fresh, path, tokens[i]);
        const int32_t record = path == NONE ? NONE : new_record(fresh, path);
        if ((whole = record != NONE)) {
            fresh->record[record] = c->record[r];
            fresh->record[record].node = path;
        }
    }
    for (int64_t i = 0; whole && i < c->counts.room; i++) {
        const uint64_t key = c->counts.keys[i];
        const int64_t record = (int64_t)(key >> 32) - c->oldest;
        if (key == NO_KEY || record < 0) continue;
        int32_t *times = value_for(&fresh->counts, key_of(record, (int32_t)(uint32_t)key));
        if ((whole = times != NULL)) *times = c->counts.values[i];
    }
    if (whole) {
        const Counts old = *c;
        *c = *fresh;
        *fresh = old;
    }
    counts_free(fresh);
    return whole;
}

/* Forget the contexts first seen longest ago. */
static int forget(Counts *c) {
    while (counts_size(c) > c->max_contexts) c->node[c->record[c->oldest++].node].record = NONE;
    return c->oldest <= counts_size(c) + 1024 || compact(c);
}

/* Count what stands at each position from `first` on, and then `fillers` of it, `few` a position; 0 if
   there is no memory: all is to be given up then. */
int64_t counts_learn(Counts *c, const int64_t *tokens, int64_t length, int64_t first,
                     const int64_t *fillers, int64_t few) {
    for (int64_t at = first; at < length; at++) {
        const int64_t before = at < c->n - 1 ? at : c->n - 1;
        const int64_t *context = tokens + at - before;
        if (!count_after(c, context, before, tokens[at]) || !forget(c)) return 0;
        for (int64_t k = 0; k < few; k++) {
            const int64_t filler = fillers[(at - first) * few + k];
            if (!count_after(c, context, before, filler) || !forget(c)) return 0;
        }
    }
    return 1;
}

/* Count one token after a context. */
int64_t counts_update(Counts *c, const int64_t *context, int64_t length, int64_t token) {
    return count_after(c, context, length, token) && forget(c);
}

/* Whether exactly this context has been seen. */
int64_t counts_has(const Counts *c, const int64_t *context, int64_t length) {
    int32_t node = TOP;
    if (!is_counted(c, length)) return 0;
    for (int64_t i = 1; i <= length && node != NOT_THERE; i++)
        node = child_of(c, node, context[length - i]);
    return node != NOT_THERE && c->node[node].record != NONE;
}

/* What followed the longest context known that the tokens end with; null if none is. */
static const Record *longest(const Counts *c, const int64_t *tokens, int64_t length) {
    int32_t node = TOP, found = NONE;
    for (int64_t i = 1; i < c->n && i <= length; i++) {
        if ((node = child_of(c, node, tokens[length - i])) == NOT_THERE) break;
        if (c->node[node].record != NONE) found = c->node[node].record;
    }
    return found == NONE ? NULL : c->record + found;
}

/* Append the likeliest tokens to a context of at most n − 1, and their chances: `most` of them, fewer
   where none is known or the chance that all are right falls below `least`.

   Returns how many; why there are no more stands in `ended`, the chance of all in `survival`. */
int64_t counts_retrieve(const Counts *c, int64_t *tokens, int64_t length, int64_t most, double least,
                        double *survival, double *chances, int64_t *ended) {
    for (int64_t i = 0; i < most; i++) {
        const Record *found = longest(c, tokens, length + i);
        if (!found) {
            *ended = UNKNOWN;
            return i;
        }
        chances[i] = (double)found->best_count / (double)((int64_t)found->total + 1);
        *survival *= chances[i];
        if (*survival < least) {
            *ended = HOPELESS;
            return i;
        }
        tokens[length + i] = found->best;
    }
    *ended = FULL;
    return most;
}

/* --- copies --- */

/* What of it lies where, and how many bytes. */
typedef struct {
    void **data;
    int64_t bytes;
} Part;

enum { PARTS = 6 };

static void parts_of(Counts *c, Part *parts) {
    const Part all[PARTS] = {
        {(void **)&c->node, c->nodes * (int64_t)sizeof(Node)},
        {(void **)&c->record, c->records * (int64_t)sizeof(Record)},
        {(void **)&c->children.keys, c->children.room * (int64_t)sizeof(uint64_t)},
        {(void **)&c->children.values, c->children.room * (int64_t)sizeof(int32_t)},
        {(void **)&c->counts.keys, c->counts.room * (int64_t)sizeof(uint64_t)},
        {(void **)&c->counts.values, c->counts.room * (int64_t)sizeof(int32_t)},
    };
    memcpy(parts, all, sizeof all);
}

/* The same counts in memory of their own; null if there is none. */
Counts *counts_copy(Counts *c) {
    Counts *other = malloc(sizeof *other);
    if (!other) return NULL;
    *other = *c;
    other->node_room = c->nodes;
    other->record_room = c->records;
    Part theirs[PARTS], ours[PARTS];
    parts_of(c, theirs);
    parts_of(other, ours);
    int whole = 1;
    for (int i = 0; i < PARTS; i++) {
        *ours[i].data = ours[i].bytes ? malloc((size_t)ours[i].bytes) : NULL;
        whole &= !ours[i].bytes || *ours[i].data;
        if (*ours[i].data) memcpy(*ours[i].data, *theirs[i].data, (size_t)ours[i].bytes);
    }
    if (whole) return other;
    counts_free(other);
    return NULL;
}
