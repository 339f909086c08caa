/** The contents of a file or folder: documents in order, one sequence of token ids, or windows of token ids. */
export type TextSource =
  | { kind: 'documents'; documents: () => AsyncIterable<string> }
  | { kind: 'ids'; ids: number[] }
  | { kind: 'windows'; windows: Int32Array[] }
