/* Every kind of matrix, on whatever processor this was compiled for: what `pack` makes of random
   blocks is what `unpack_row` reads, products are sums of those numbers, and a token's result does
   not depend on the tokens beside it. Prints the largest relative difference, or ends with 1. */

#include "network.h"
#include <stdio.h>
#include <stdlib.h>

int64_t packed_bytes(int64_t kind, int64_t out, int64_t in);
void pack(int64_t kind, const uint8_t *rows, int64_t out, int64_t in, uint8_t *panels,
          int64_t threads);

enum { OUT = 37, IN = 512, ROWS = 19 };

static uint32_t state = 1;
static uint32_t next(void) { return state = state * 1664525u + 1013904223u; }
static float uniform(void) { return (float)(next() >> 8) / (1 << 23) - 1.0f; }

/* Random rows as a file holds them: `size` bytes for `count` weights, floats of 16 bits tame. */
static uint8_t *random_rows(Kind kind, int64_t size, int64_t count) {
    static const int places[][2] = {[Q4_0] = {0, -1},  [Q4_1] = {0, 2},  [Q5_0] = {0, -1},
                                    [Q5_1] = {0, 2},   [Q8_0] = {0, -1}, [Q4_K] = {0, 2},
                                    [Q5_K] = {0, 2},   [Q6_K] = {208, -1}};
    const int64_t blocks = (int64_t)OUT * IN / count;
    uint8_t *rows = malloc((size_t)(blocks * size));
    for (int64_t i = 0; i < blocks * size; i++) rows[i] = (uint8_t)(next() >> 24);
    for (int64_t b = 0; b < blocks; b++)
        for (int i = 0; i < 2; i++) {
            const int place = places[kind][i];
            const uint16_t half = (uint16_t)(0x1c00 | (next() >> 24)); /* about 1/256 */
            if (place >= 0) memcpy(rows + b * size + place, &half, 2);
        }
    return rows;
}

static double worst_of(Kind kind, int64_t size, int64_t count) {
    static float x[ROWS * IN], out[2][ROWS * OUT], row[IN];
    uint8_t *given = random_rows(kind, size, count);
    uint8_t *data = calloc(1, (size_t)packed_bytes(kind, OUT, IN) + 4096);
    Rounded *rounded = malloc(sizeof(Rounded) * ROWS * IN / BLOCK);
    pack(kind, given, OUT, IN, data, 1);
    const Matrix w = {data, NULL, kind, OUT, IN};
    for (int i = 0; i < ROWS * IN; i++) x[i] = uniform();
    const Rows all = {x, ROWS, IN, rounded, NULL};
    double worst = 0;
    for (int single = 0; single < 2; single++) {
        if (!single) round_rows(&all);
        block_product(&w, 0, OUT, &all, single, out[0], OUT, 0);
        for (int64_t r = 0; r < ROWS; r++) {
            const Rows one = {x + r * IN, 1, IN, rounded, NULL};
            if (!single) round_rows(&one);
            block_product(&w, 0, OUT, &one, single, out[1] + r * OUT, OUT, 0);
        }
        if (memcmp(out[0], out[1], sizeof out[0])) return INFINITY;
        double off = 0, norm = 0;
        for (int64_t o = 0; o < OUT; o++) {
            unpack_row(&w, o, row);
            for (int64_t r = 0; r < ROWS; r++) {
                double sum = 0;
                for (int64_t k = 0; k < IN; k++) sum += (double)row[k] * x[r * IN + k];
                off += (sum - out[0][r * OUT + o]) * (sum - out[0][r * OUT + o]);
                norm += sum * sum;
            }
        }
        const double gap = sqrt(off / norm), legal = single ? 1e-6 : 2e-2;
        if (!(gap <= legal)) return INFINITY;
        worst = single ? worst : gap;
    }
    free(given), free(data), free(rounded);
    return worst;
}

int main(void) {
    static const struct {
        const char *name;
        Kind kind;
        int64_t size, count;
    } kinds[] = {{"Q4_0", Q4_0, 18, 32},   {"Q4_1", Q4_1, 20, 32},   {"Q5_0", Q5_0, 22, 32},
                 {"Q5_1", Q5_1, 24, 32},   {"Q8_0", Q8_0, 34, 32},   {"Q4_K", Q4_K, 144, 256},
                 {"Q5_K", Q5_K, 176, 256}, {"Q6_K", Q6_K, 210, 256}};
    int failed = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const double worst = worst_of(kinds[i].kind, kinds[i].size, kinds[i].count);
        printf("%s %.2e\n", kinds[i].name, worst);
        failed |= !isfinite(worst);
    }
    return failed;
}
