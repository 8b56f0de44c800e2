/* How a quantised matrix lies: panels of 16 outputs, each a run of blocks of 32 inputs.

   A block is first the low four bits of its 512 weights, 64 bytes at a time: byte i of the j-th 64
   holds, for output i / 4, input 8 · j + i % 4 in its lower half and input 8 · j + 4 + i % 4 in its
   upper half. So 64 bytes are 16 outputs of four inputs each, what one instruction multiplies. Bits
   above the fourth follow in planes: of five bits, bit j of byte i belongs to byte i of the j-th
   group of four inputs; of six, two bits each for four groups, then for the other four. A weight of
   8 bits takes a byte instead, 128 more than it is, 64 bytes for each group of four inputs.

   Then come what the numbers are multiplied by and what is added, for 16 outputs: two floats of 16
   bits, or one; of the super-blocks of 256 (K) a byte each, whose unit stands before the first of
   their eight blocks. */

#ifndef PANELS_H
#define PANELS_H

#include "network.h"

enum { SUPER = 8, GROUPS = BLOCK / 4 };

INLINE int bits_of(Kind kind) {
    return kind == Q8_0 ? 8 : kind == Q6_K ? 6 : kind >= Q5_0 && kind != Q4_K ? 5 : 4;
}

INLINE int64_t quants_bytes(Kind kind) { return BLOCK * PANEL * bits_of(kind) / 8; }

INLINE int has_least(Kind kind) {
    return kind == Q4_1 || kind == Q5_1 || kind == Q4_K || kind == Q5_K;
}

INLINE int64_t block_bytes(Kind kind) {
    const int64_t scales = is_super(kind) ? 2 * PANEL : has_least(kind) ? 4 * PANEL : 2 * PANEL;
    return quants_bytes(kind) + scales;
}

INLINE int64_t head_bytes(Kind kind) {
    return !is_super(kind) ? 0 : has_least(kind) ? 4 * PANEL : 2 * PANEL;
}

INLINE int64_t super_bytes(Kind kind) { return head_bytes(kind) + SUPER * block_bytes(kind); }

/* Bytes of the first `blocks` blocks of a panel, and of the head that stands before the next. */
INLINE int64_t offset_of(Kind kind, int64_t blocks) {
    if (!is_super(kind)) return blocks * block_bytes(kind);
    return blocks / SUPER * super_bytes(kind) + head_bytes(kind) + blocks % SUPER * block_bytes(kind);
}

INLINE int64_t run_bytes(Kind kind, int64_t in) {
    const int64_t blocks = in / BLOCK;
    return is_super(kind) ? blocks / SUPER * super_bytes(kind) : blocks * block_bytes(kind);
}

#endif
