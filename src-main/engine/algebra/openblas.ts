import type { Tensor2D } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import { bind, koffi, type LibraryFunction } from '#engine/backend/ggml/ggml-library.ts'
import { chosenKernels } from '#runtime/kernels.mjs'
import { findOpenblas, openblasFile } from '#runtime/openblas.mjs'
import { ownThreads } from '#runtime/threads.ts'
import { findStranger, findTrustProblem, trustedAddon } from '#runtime/trusted.mjs'
import { type Algebra, addEntries, forEachRows, isNarrow, ownAlgebra } from './own.ts'

const products = 'int order, int a, int b, int64_t m, int64_t n'
const declarations = {
  threads: 'void scipy_openblas_set_num_threads64_(int count)',
  singleGram: `void scipy_cblas_ssyrk64_(${products}, float alpha, const void *x, int64_t ldx, float beta, void *c, int64_t ldc)`,
  doubleGram: `void scipy_cblas_dsyrk64_(${products}, double alpha, const void *x, int64_t ldx, double beta, void *c, int64_t ldc)`,
  singleProduct: `void scipy_cblas_sgemm64_(${products}, int64_t k, float alpha, const void *x, int64_t ldx, const void *z, int64_t ldz, float beta, void *c, int64_t ldc)`,
  doubleProduct: `void scipy_cblas_dgemm64_(${products}, int64_t k, double alpha, const void *x, int64_t ldx, const void *z, int64_t ldz, double beta, void *c, int64_t ldc)`,
  symmetric: `void scipy_cblas_dsymm64_(${products}, double alpha, const void *g, int64_t ldg, const void *w, int64_t ldw, double beta, void *c, int64_t ldc)`,
  factor: 'int64_t scipy_LAPACKE_dpotrf64_(int order, char triangle, int64_t size, void *g, int64_t ldg)',
  solve:
    'int64_t scipy_LAPACKE_dpotrs64_(int order, char triangle, int64_t size, int64_t count, const void *g, int64_t ldg, void *b, int64_t ldb)',
  eigen: 'int64_t scipy_LAPACKE_dsyevd64_(int order, char vectors, char triangle, int64_t size, void *g, int64_t ldg, void *values)',
} as const

type Openblas = Record<keyof typeof declarations, LibraryFunction>

/** Values of CBLAS's and LAPACKE's enumerations. */
const [rowMajor, columnMajor, plain, transposed, lower, right] = [101, 102, 111, 112, 122, 142]
/** The lower triangle of a matrix by rows is the upper one of the same matrix by columns. */
const [upperByColumns, lowerByColumns] = ['U'.charCodeAt(0), 'L'.charCodeAt(0)]
const withVectors = 'V'.charCodeAt(0)
/** Rows of a product in float32: as many as pay for adding the product to the sums. */
const rowsPerProduct = 4096

/** Opens OpenBLAS. Returns undefined if setup has not installed it, or if its files are not those that setup installed. */
export function openOpenblas(): Algebra | undefined {
  const folder = findOpenblas()
  if (!folder || !openblasFile || findTrustProblem(folder) || findStranger(folder)) return undefined
  const path = trustedAddon(folder, openblasFile)
  if (!path) return undefined
  const { blas } = chosenKernels() ?? {}
  if (blas) process.env.OPENBLAS_CORETYPE = blas
  const library = bind(koffi().load(path), declarations)
  library.threads(ownThreads())
  return algebraOf(library)
}

function algebraOf(blas: Openblas): Algebra {
  return {
    addProducts(sums, x, z = x, exact = isNarrow(x, z)) {
      // A GPU multiplies faster than the CPU could, even with the way back.
      if (activeBackend().name.endsWith('gpu')) ownAlgebra.addProducts(sums, x, z, exact)
      else if (exact) addDoubles(blas, sums, x, z)
      else addSingles(blas, sums, x, z)
    },
    timesSymmetric(w, g, size) {
      const product = new Float64Array(w.length)
      blas.symmetric(rowMajor, right, lower, w.length / size, size, 1, g, size, w, size, 0, product, size)
      return product
    },
    solve(g, shift, b, size) {
      // The factor takes the other triangle of g, and the diagonal for as long as it is needed.
      const diagonal = Float64Array.from({ length: size }, (_, i) => g[i * (size + 1)] as number)
      mirror(g, size)
      for (let i = 0; i < size; i++) g[i * (size + 1)] = (diagonal[i] as number) + shift
      const solved = b.slice()
      try {
        expectDone(blas.factor(columnMajor, lowerByColumns, size, g, size), 'Cholesky factor')
        expectDone(blas.solve(columnMajor, lowerByColumns, size, b.length / size, g, size, solved, size), 'solution')
      } finally {
        for (let i = 0; i < size; i++) g[i * (size + 1)] = diagonal[i] as number
      }
      return solved
    },
    eigen(g, size) {
      const values = new Float64Array(size)
      expectDone(blas.eigen(columnMajor, withVectors, upperByColumns, size, g, size, values), 'eigenvectors')
      // LAPACK's are ascending, one after another.
      const vectors = new Float64Array(size * size)
      for (let i = 0; i < size; i++) vectors.set(g.subarray(i * size, (i + 1) * size), (size - 1 - i) * size)
      return { values: values.reverse(), vectors }
    },
  }
}

/** Rows and columns that are mirrored at a time, so that both blocks stay in the cache. */
const mirroredAtOnce = 64

/** Copies the lower triangle of g [size, size], by rows, to the upper one. */
function mirror(g: Float64Array, size: number): void {
  for (let firstRow = 0; firstRow < size; firstRow += mirroredAtOnce) {
    const lastRow = Math.min(size, firstRow + mirroredAtOnce)
    for (let firstColumn = 0; firstColumn <= firstRow; firstColumn += mirroredAtOnce) {
      for (let row = firstRow; row < lastRow; row++) {
        const lastColumn = Math.min(row, firstColumn + mirroredAtOnce)
        for (let column = firstColumn; column < lastColumn; column++) g[column * size + row] = g[row * size + column] as number
      }
    }
  }
}

function addDoubles(blas: Openblas, sums: Float64Array, x: Tensor2D, z: Tensor2D): void {
  const [rows, width] = x.shape
  const columns = z.shape[1]
  const left = new Float64Array(x.dataSync())
  if (z === x) blas.doubleGram(rowMajor, lower, transposed, width, rows, 1, left, width, 1, sums, width)
  else {
    const wide = new Float64Array(z.dataSync())
    blas.doubleProduct(rowMajor, transposed, plain, width, columns, rows, 1, left, width, wide, columns, 1, sums, columns)
  }
}

function addSingles(blas: Openblas, sums: Float64Array, x: Tensor2D, z: Tensor2D): void {
  const [width, columns] = [x.shape[1], z.shape[1]]
  const product = roomFor(width * columns)
  forEachRows(x, z, rowsPerProduct, (left, other) => {
    const [rows, values] = [left.shape[0], left.dataSync()]
    if (z === x) {
      blas.singleGram(rowMajor, lower, transposed, width, rows, 1, values, width, 0, product, width)
      for (let i = 0; i < width; i++) addEntries(sums, product, i * width, i * width + i + 1)
    } else {
      blas.singleProduct(
        rowMajor,
        transposed,
        plain,
        width,
        columns,
        rows,
        1,
        values,
        width,
        other.dataSync(),
        columns,
        0,
        product,
        columns,
      )
      addEntries(sums, product)
    }
  })
}

let room = new WeakRef(new Float32Array())

/**
 * Returns an array of at least this many entries, the same as long as it is not collected. New arrays of hundreds of megabytes for each
 * product would cost a tenth of a repair's time.
 */
function roomFor(entries: number): Float32Array {
  const kept = room.deref()
  if (kept && kept.length >= entries) return kept
  const larger = new Float32Array(entries)
  room = new WeakRef(larger)
  return larger
}

function expectDone(info: unknown, what: string): void {
  if (Number(info) !== 0) throw new Error(`OpenBLAS found no ${what} (info ${String(info)}).`)
}

let chosen: Algebra | undefined

/** OpenBLAS if setup could install it, otherwise our own code, which is slow above some hundred columns. */
export function algebra(): Algebra {
  chosen ??= openOpenblas() ?? ownAlgebra
  return chosen
}
