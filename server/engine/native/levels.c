/* Of what source the library is, and which of its copies this machine runs: each is compiled for a level of the
 * instruction set, and a library may be used on another machine than it was compiled on. */
#define EXPORT __attribute__((visibility("default")))
EXPORT const char softprompt_source[] = SOURCE;

/* The highest level that runs here. */
EXPORT int softprompt_level(void) {
#ifdef __x86_64__
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return 4;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) return 3;
#endif
  return 0;
}
