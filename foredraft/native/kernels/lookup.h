/* What retrieval looks things up in: arrays and tables that grow, all of numbers. */

#ifndef LOOKUP_H
#define LOOKUP_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* Have room for `count` entries of a size; 0 if there is no memory for them. */
INLINE int has_room(void **data, int64_t *room, int64_t count, int64_t size) {
    if (count <= *room) return 1;
    const int64_t more = count < 32 ? 64 : 2 * count;
    void *grown = realloc(*data, (size_t)(more * size));
    if (!grown) return 0;
    *data = grown;
    *room = more;
    return 1;
}

/* A pair of numbers, none of them −1 and −1 → a number ≥ 0. */
typedef struct {
    uint64_t *keys;
    int32_t *values;
    int64_t room, count; /* room: a power of two, or 0 */
} Table;

enum { NOT_THERE = -1 };
#define NO_KEY UINT64_MAX

INLINE uint64_t key_of(int64_t one, int64_t other) {
    return (uint64_t)one << 32 | (uint32_t)other;
}

INLINE int64_t slot_of(const Table *t, uint64_t key) {
    uint64_t mixed = key * 0x9E3779B97F4A7C15u;
    mixed ^= mixed >> 32;
    int64_t slot = (int64_t)(mixed & (uint64_t)(t->room - 1));
    while (t->keys[slot] != key && t->keys[slot] != NO_KEY) slot = (slot + 1) & (t->room - 1);
    return slot;
}

INLINE int32_t value_at(const Table *t, uint64_t key) {
    if (!t->room) return NOT_THERE;
    const int64_t slot = slot_of(t, key);
    return t->keys[slot] == key ? t->values[slot] : NOT_THERE;
}

/* An empty table for so many entries; 0 if there is no memory for it. */
INLINE int open_table(Table *t, int64_t entries) {
    int64_t room = 64;
    while (2 * room < 3 * entries) room *= 2;
    *t = (Table){malloc((size_t)room * sizeof(uint64_t)), malloc((size_t)room * sizeof(int32_t)), room, 0};
    if (!t->keys || !t->values) return 0;
    memset(t->keys, 0xFF, (size_t)room * sizeof(uint64_t));
    return 1;
}

INLINE void close_table(Table *t) {
    free(t->keys);
    free(t->values);
    *t = (Table){0};
}

/* Where the value of a key stands, NOT_THERE if it is new; null if there is no memory for it. */
INLINE int32_t *value_for(Table *t, uint64_t key) {
    if (3 * t->count >= 2 * t->room) {
        Table grown;
        if (!open_table(&grown, 2 * t->count + 1)) {
            close_table(&grown);
            return NULL;
        }
        for (int64_t i = 0; i < t->room; i++) {
            if (t->keys[i] == NO_KEY) continue;
            const int64_t slot = slot_of(&grown, t->keys[i]);
            grown.keys[slot] = t->keys[i];
            grown.values[slot] = t->values[i];
        }
        grown.count = t->count;
        close_table(t);
        *t = grown;
    }
    const int64_t slot = slot_of(t, key);
    if (t->keys[slot] != key) {
        t->keys[slot] = key;
        t->values[slot] = NOT_THERE;
        t->count++;
    }
    return t->values + slot;
}

#endif
