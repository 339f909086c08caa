import type { FileHandle } from 'node:fs/promises'
import type { Dialect } from '#engine/architectures/dialect.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Rows, TensorInfo } from '../checkpoint.ts'
import type { GgufLayout } from './block-layout.ts'
import type { GgufHeader, GgufTensor } from './header.ts'

/** One file of a model. */
export interface Part {
  readonly file: string
  readonly handle: FileHandle
  readonly header: GgufHeader
}

/** A tensor in the file that holds it. */
export interface PlacedTensor extends GgufTensor {
  readonly part: Part
}

/** Rows of a stored tensor. */
export interface StoredRows extends Rows {
  readonly stored: PlacedTensor
}

/** A tensor as it appears, the stored rows that it consists of, and the rows per head if they are interleaved. */
export interface Place {
  readonly info: TensorInfo
  readonly rows: readonly StoredRows[]
  readonly interleavedRows: number | undefined
  /** Converts a value of the file to the model's, if they differ. */
  readonly undo?: (value: number) => number
  /** Where the columns are in the file, if their order differs. */
  readonly columnRanges?: readonly Rows[]
}

/** What placing a file's tensors needs: the model that its config describes, in the terms of its architecture. */
export interface Described {
  readonly spec: DecoderSpec
  readonly dialect: Dialect
  readonly layout: GgufLayout
}
