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

/** A range of rows of a stored tensor. */
export interface StoredRows extends Rows {
  readonly stored: PlacedTensor
}

/**
 * A tensor as callers see it, and the stored rows that it consists of. `interleavedRows` is the number of rows per head if llama.cpp
 * interleaved them.
 */
export interface Place {
  readonly info: TensorInfo
  readonly rows: readonly StoredRows[]
  readonly interleavedRows: number | undefined
  /** Converts a stored value to the model's value, if they differ. */
  readonly undo?: (value: number) => number
  /** Where the model's columns are in the file, if the file orders them differently. */
  readonly columnRanges?: readonly Rows[]
}

/** What is needed to locate a file's tensors: the model that its config describes, its architecture's dialect, and its sizes. */
export interface Described {
  readonly spec: DecoderSpec
  readonly dialect: Dialect
  readonly layout: GgufLayout
}
