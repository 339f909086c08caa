import type { RunDetail } from '#contract/runs/runs.ts'

/** What two runs must have in common, wherever they were computed. */
export const outcome = ({ method, seed, nominal, plan, decisions, measures }: RunDetail) => ({
  method,
  seed,
  nominal,
  blocks: plan?.blocks,
  tensors: plan?.tensors?.map(({ sha256 }) => sha256),
  decisions,
  measures: measures.filter(({ name }) => name !== 'pruning time').map(({ name, dataset, value }) => [name, dataset, value]),
})
