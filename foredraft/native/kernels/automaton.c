/* The suffix automaton of drafting/suffix_automaton.py, which is easier to read: the same matches. */

#include "lookup.h"

enum { ROOT = 0, NONE = -1 };
enum { NEWEST_DEPTH = 64 }; /* links; deeper suffixes keep an older end position */

/* All strings with the same ends: the longest one, what it is a suffix of, the newest end known. */
typedef struct {
    int32_t link, length, end, first; /* first: of the edges that leave it */
} State;

typedef struct {
    int32_t token, to, next;
} Edge;

typedef struct {
    int64_t max_tokens, length, text_room, count, state_room, edges, edge_room;
    int32_t *text;
    State *states;
    Edge *list;
    Table table; /* state and token → edge */
    int32_t last, match, match_end;
} Automaton;

static int32_t edge_of(const Automaton *a, int32_t state, int32_t token) {
    return value_at(&a->table, key_of(state, token));
}

static int32_t state_after(const Automaton *a, int32_t state, int32_t token) {
    const int32_t edge = edge_of(a, state, token);
    return edge == NOT_THERE ? NONE : a->list[edge].to;
}

static int32_t new_state(Automaton *a, int32_t length, int32_t end) {
    if (!has_room((void **)&a->states, &a->state_room, a->count + 1, sizeof(State))) return NONE;
    a->states[a->count] = (State){NONE, length, end, NONE};
    return (int32_t)a->count++;
}

static int add_edge(Automaton *a, int32_t from, int32_t token, int32_t to) {
    if (!has_room((void **)&a->list, &a->edge_room, a->edges + 1, sizeof(Edge))) return 0;
    int32_t *value = value_for(&a->table, key_of(from, token));
    if (!value) return 0;
    *value = (int32_t)a->edges;
    a->list[a->edges] = (Edge){token, to, a->states[from].first};
    a->states[from].first = (int32_t)a->edges++;
    return 1;
}

/* The state of the longest string of `state` with `token` after it; NONE if there is no memory. */
static int32_t split(Automaton *a, int32_t state, int32_t token) {
    const int32_t known = state_after(a, state, token), length = a->states[state].length + 1;
    if (a->states[known].length == length) return known;
    const int32_t shorter = new_state(a, length, a->states[known].end);
    if (shorter == NONE) return NONE;
    for (int32_t e = a->states[known].first; e != NONE; e = a->list[e].next)
        if (!add_edge(a, shorter, a->list[e].token, a->list[e].to)) return NONE;
    a->states[shorter].link = a->states[known].link;
    a->states[known].link = shorter;
    for (; state != NONE; state = a->states[state].link) {
        const int32_t edge = edge_of(a, state, token);
        if (edge == NOT_THERE || a->list[edge].to != known) break;
        a->list[edge].to = shorter;
    }
    return shorter;
}

static int insert(Automaton *a, int32_t token) {
    if (!has_room((void **)&a->text, &a->text_room, a->length + 1, sizeof(int32_t))) return 0;
    a->text[a->length++] = token;
    const int32_t here = (int32_t)a->length, newest = new_state(a, here, here);
    if (newest == NONE) return 0;
    int32_t state = a->last;
    for (; state != NONE && edge_of(a, state, token) == NOT_THERE; state = a->states[state].link)
        if (!add_edge(a, state, token, newest)) return 0;
    const int32_t found = state == NONE ? ROOT : split(a, state, token);
    if (found == NONE) return 0;
    a->states[newest].link = found;
    a->last = newest;
    a->match = a->states[found].length;
    a->match_end = a->states[found].end;
    state = found;
    for (int depth = 0; depth < NEWEST_DEPTH && state != ROOT; depth++) {
        a->states[state].end = here;
        state = a->states[state].link;
    }
    return 1;
}

static void forget(Automaton *a) {
    close_table(&a->table);
    a->length = a->count = a->edges = 0;
    a->last = ROOT;
    a->match = a->match_end = 0;
}

static int begin(Automaton *a) {
    forget(a);
    return new_state(a, 0, 0) == ROOT;
}

/* Forget the older half of a text that is as long as it may be. */
static int halve(Automaton *a) {
    const int64_t kept = a->max_tokens / 2, first = a->length - kept;
    int32_t *newer = malloc((size_t)kept * sizeof *newer);
    if (!newer) return 0;
    memcpy(newer, a->text + first, (size_t)kept * sizeof *newer);
    int whole = begin(a);
    for (int64_t i = 0; whole && i < kept; i++) whole = insert(a, newer[i]);
    free(newer);
    return whole;
}

void automaton_free(Automaton *a) {
    if (!a) return;
    forget(a);
    free(a->text);
    free(a->states);
    free(a->list);
    free(a);
}

/* One of no text; null if there is no memory for it. */
Automaton *automaton_new(int64_t max_tokens) {
    Automaton *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->max_tokens = max_tokens;
    if (begin(a)) return a;
    automaton_free(a);
    return NULL;
}

int64_t automaton_length(const Automaton *a) { return a->length; }

void automaton_text(const Automaton *a, int64_t *out) {
    for (int64_t i = 0; i < a->length; i++) out[i] = a->text[i];
}

/* Add tokens to the text; 0 if there is no memory for them: it is to be given up then. */
int64_t automaton_extend(Automaton *a, const int64_t *tokens, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (a->length >= a->max_tokens && !halve(a)) return 0;
        if (!insert(a, (int32_t)tokens[i])) return 0;
    }
    return 1;
}

/* The longest end of text and `drafted` that occurred before: where that ended; its length. */
int64_t automaton_match(const Automaton *a, const int64_t *drafted, int64_t count, int64_t *end) {
    int32_t length = a->match, state = a->last == ROOT ? ROOT : a->states[a->last].link;
    *end = a->match_end;
    if (!count) return length;
    for (int64_t i = 0; i < count; i++) {
        const int32_t token = (int32_t)drafted[i];
        int32_t next = state_after(a, state, token);
        while (next == NONE && state != ROOT) {
            state = a->states[state].link;
            length = a->states[state].length;
            next = state_after(a, state, token);
        }
        if (next == NONE) continue;
        state = next;
        length++;
    }
    *end = a->states[state].end;
    return length;
}

/* Up to `most` tokens from a position on; what goes beyond the text goes on in itself. A border ends
   it. Returns how many they are. */
int64_t automaton_copy(const Automaton *a, int64_t begin, const int64_t *drafted, int64_t count,
                       int64_t most, int64_t *out) {
    for (int64_t i = 0; i < most; i++) {
        const int64_t beyond = begin + i - a->length;
        out[i] = beyond < 0 ? a->text[begin + i] : beyond < count ? drafted[beyond] : out[beyond - count];
        if (out[i] < 0) return i;
    }
    return most;
}
