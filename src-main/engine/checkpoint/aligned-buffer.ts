// Allocations below this size are cheap to copy, and using a page for each would waste memory.
const smallest = 65536

/**
 * Allocates `bytes` bytes of zeroed memory. Allocations of 64 KiB or more start at a page boundary, so they are aligned to 64 bytes, as the
 * tensor runtime requires to use memory in place. It copies memory that is not aligned. These buffers are resizable, so that
 * `releaseBuffer` can free them; nothing else resizes them. V8 indexes resizable buffers slowly in long loops, but copies them fast.
 */
export function alignedBuffer(bytes: number): Uint8Array<ArrayBuffer> {
  if (bytes < smallest) return new Uint8Array(bytes)
  return new Uint8Array(new ArrayBuffer(bytes, { maxByteLength: bytes }), 0, bytes)
}

/**
 * The memory of arrays and tensors is outside V8's heap, so V8 does not notice how much of it could be freed. After this many bytes, we
 * request a garbage collection (about 10 ms).
 */
const collectAfter = 2 ** 25
let freed = 0

/** Counts memory of arrays and tensors that are no longer needed, and requests a garbage collection when enough has piled up. */
export function countFreed(bytes: number): void {
  freed += bytes
  if (freed < collectAfter) return
  freed = 0
  void globalThis.gc?.()
}

/**
 * Frees the memory of an array from `alignedBuffer` at once; smaller arrays, which are not resizable, are left to the garbage collector.
 * Nothing may read the array afterwards, including tensors that use its memory in place.
 */
export function releaseBuffer({ buffer }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.resizable) buffer.resize(0)
}
