// Allocations below this size are cheap to copy, and using a page for each would waste memory.
const smallest = 65536

/**
 * Zeroed memory of `bytes` bytes. From 64 KiB on it starts on a page, and so on a multiple of 64 bytes, and the tensor runtime uses it in
 * place; it would copy other memory. The buffer is resizable in type only. Indexing it in long loops is slow, copying is not.
 */
export function alignedBuffer(bytes: number): Uint8Array<ArrayBuffer> {
  if (bytes < smallest) return new Uint8Array(bytes)
  return new Uint8Array(new ArrayBuffer(bytes, { maxByteLength: bytes }), 0, bytes)
}

/** Freed arrays are outside the heap that V8 watches, so we request a collection (about 10 ms) after this many freed bytes. */
const collectAfter = 2 ** 25
let freed = 0

/** Counts memory of arrays and tensors that are no longer needed, so that it is released in time. */
export function countFreed(bytes: number): void {
  freed += bytes
  if (freed < collectAfter) return
  freed = 0
  void globalThis.gc?.()
}

/** Releases the memory of an array from `alignedBuffer` at once. Nothing may read it afterwards, including tensors that use it in place. */
export function releaseBuffer({ buffer }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.resizable) buffer.resize(0)
}
