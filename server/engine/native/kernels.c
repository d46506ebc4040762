/* What a decode step does between its matrix products, one call instead of torch's five to fifteen.
 *
 * Every row is computed by itself, in float32, and rounded once: no neighbour changes a bit of it. Knows pointers and
 * sizes; the caller has checked both. Compiled by `build.py`; `binding.py` says which argument is what.
 *
 * libgomp is the OpenMP that torch's Linux wheels bring; a second one beside it would fight for the same cores.
 */
#if !defined(__GNUC__) || defined(__clang__) || !defined(_OPENMP)
#error "gcc with -fopenmp is wanted"
#endif

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define EXPORT __attribute__((visibility("default")))

/* Compiled once for each LEVEL of the instruction set, with vectors of LANES numbers, as its registers hold: gcc keeps
 * wider ones in memory. The names of all say which. */
#define JOINED(f, type, level) f##_##type##_##level
#define LEVELED(f, type, level) JOINED(f, type, level)

typedef uint16_t bfloat16;

INLINE float bits_float(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}

INLINE uint32_t float_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  return u;
}

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef bfloat16 halves __attribute__((vector_size(2 * LANES)));

INLINE float load_bfloat16(bfloat16 x) { return bits_float((uint32_t)x << 16); }

INLINE floats load_bfloat16s(const bfloat16 *x) {
  halves h;
  memcpy(&h, x, sizeof h);
  return (floats)(__builtin_convertvector(h, words) << 16);
}

/* To the nearest, ties to even; NaN stays NaN. */
INLINE bfloat16 store_bfloat16(float f) {
  uint32_t u = float_bits(f);
  return f != f ? 0x7fc0 : (bfloat16)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

INLINE float load_float32(float x) { return x; }
INLINE float store_float32(float f) { return f; }

INLINE floats load_float32s(const float *x) {
  floats f;
  memcpy(&f, x, sizeof f);
  return f;
}

INLINE float total(floats f) {
  float s[LANES];
  memcpy(s, &f, sizeof s);
#pragma GCC unroll 4
  for (int width = LANES / 2; width; width /= 2)
    for (int i = 0; i < width; i++) s[i] += s[i + width];
  return s[0];
}

/* e^x by Cephes' polynomial, within 2 units in the last place; below -87 it is e^-87, NaN stays NaN. */
INLINE float exponential(float x) {
  x = -87.0f > x ? -87.0f : x;
  x = 88.0f < x ? 88.0f : x;
  float n = (float)((int32_t)(x * 1.44269504f + 128.5f) - 128); /* rounded by what every processor has */
  float r = x - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * bits_float((uint32_t)((int32_t)n + 127) << 23);
}

#define PARALLEL_ELEMENTS 16384 /* below so many, waking a thread costs more than it saves */
#define FEW 4                   /* rows of a run that are as fast one by one */
#define BLOCK 32                /* positions whose scores are held at a time */
#define SUMMED 64               /* products that are summed before they join the sum of all */
#define PART 512                /* logits among which the largest is looked for */
#define PANEL 32                /* outputs of a linear layer that are computed together */
#define MAX_R 12                /* and rows */
#define PARALLEL_PRODUCTS 200000
#define MAX_D 256
#define MAX_J 4 /* query heads of one key head that are computed together */

#if LANES == 16
#include "avx512bf16.inc"
#include "amxbf16.inc"
static int pairs_here, tiles_here, int8_here;
__attribute__((constructor)) static void look(void) {
  __builtin_cpu_init();
  pairs_here = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  tiles_here = pairs_here && tiles_allowed();
  int8_here = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
EXPORT int softprompt_int8(void) { return int8_here; }
#endif

#define T float
#define NAME(f) LEVELED(f, float32, LEVEL)
#define LOAD load_float32
#define STORE store_float32
#define LOADS load_float32s
#define IS_BFLOAT16 0
#include "blocks.inc"
#include "rows.inc"
#if LANES == 16
#include "int8.inc"
#endif
#undef IS_BFLOAT16
#undef T
#undef NAME
#undef LOAD
#undef STORE
#undef LOADS

#define T bfloat16
#define NAME(f) LEVELED(f, bfloat16, LEVEL)
#define LOAD load_bfloat16
#define STORE store_bfloat16
#define LOADS load_bfloat16s
#if LANES == 16
#define PAIRS
#endif
#define IS_BFLOAT16 1
#include "blocks.inc"
#include "rows.inc"
#if LANES == 16
#include "int8.inc"
#endif
