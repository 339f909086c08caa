import { PythonRandom } from '#engine/random/python-random.ts'

/** How many documents the first pass over the source holds in memory. Each further pass holds twice as many. */
const firstHeld = 1024

/** Counts the documents. */
export async function countDocuments(documents: AsyncIterable<string>): Promise<number> {
  let count = 0
  for await (const _ of documents) count++
  return count
}

/**
 * The documents in the order that the 2SSP reference draws: CPython's `random.shuffle` of their indices after `random.seed(seed)`. The
 * source is read again for every batch, so that only the documents of one batch are in memory.
 */
export async function* drawDocuments(documents: () => AsyncIterable<string>, count: number, seed: number): AsyncGenerator<string> {
  const order = new PythonRandom(seed).shuffle([...Array(count).keys()])
  for (let held = firstHeld; order.length > 0; held *= 2) {
    const ranks = new Map(order.splice(0, held).map((index, rank) => [index, rank]))
    const batch: string[] = []
    let index = 0
    for await (const document of documents()) {
      const rank = ranks.get(index++)
      if (rank !== undefined) batch[rank] = document
    }
    yield* batch
  }
}
