/**
 * Those of a machine's GPUs that CUDA sees.
 * @template {{ index: string, uuid: string }} T
 * @param {readonly T[]} all in the order of the bus, as CUDA is told to count them
 * @param {string | undefined} visible indices or beginnings of UUIDs, as in `CUDA_VISIBLE_DEVICES`; CUDA sees those up to the first that it
 *   does not know
 * @returns {T[]}
 */
export function visibleGpus(all, visible) {
  if (visible === undefined) return [...all]
  const wanted = visible.split(',').map((word) => all.find(({ index, uuid }) => word.trim() === index || isOf(uuid, word.trim())))
  const end = wanted.indexOf(undefined)
  return wanted.slice(0, end < 0 ? wanted.length : end).flatMap((gpu) => gpu ?? [])
}

/**
 * @param {string} uuid
 * @param {string} word
 */
function isOf(uuid, word) {
  return /^(GPU|MIG)-/.test(word) && uuid.startsWith(word)
}
