/* Gives libmlx a fast BLAS. libmlx calls cblas_sgemm and cblas_dgemm; the
 * OpenBLAS in scipy_openblas32 has them under names with a prefix. Loaded
 * globally before libmlx, these two come first in symbol resolution. The
 * integers are 32 bits wide on both sides, and so are the enumerations. */

#define FORWARD(T, NAME)                                                      \
  void scipy_cblas_##NAME(int, int, int, int, int, int, T, const T *, int,    \
                          const T *, int, T, T *, int);                       \
  __attribute__((visibility("default"))) void cblas_##NAME(                   \
      int order, int trans_a, int trans_b, int m, int n, int k, T alpha,      \
      const T *a, int lda, const T *b, int ldb, T beta, T *c, int ldc) {      \
    scipy_cblas_##NAME(order, trans_a, trans_b, m, n, k, alpha, a, lda, b,    \
                       ldb, beta, c, ldc);                                    \
  }

FORWARD(float, sgemm)
FORWARD(double, dgemm)
