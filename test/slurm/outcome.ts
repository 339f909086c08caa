import type { RunDetail } from '#contract/runs/runs.ts'

/** What must be equal in two runs, wherever they were computed. */
export const outcome = ({ method, seed, nominal, plan, decisions, measures }: RunDetail) => ({
  method,
  seed,
  nominal,
  blocks: plan?.blocks,
  tensors: plan?.tensors?.map(({ sha256 }) => sha256),
  decisions,
  measures: measures.filter(({ name }) => name !== 'pruning time').map(({ name, dataset, value }) => [name, dataset, value]),
})
