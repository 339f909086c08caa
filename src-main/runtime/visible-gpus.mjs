/**
 * Returns the GPUs that CUDA sees.
 * @template {{ index: string, uuid: string }} T
 * @param {readonly T[]} all in bus order, as CUDA is configured to count them
 * @param {string | undefined} visible indices or UUID prefixes, as in `CUDA_VISIBLE_DEVICES`; CUDA ignores the first
 * unknown entry and everything after it
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
