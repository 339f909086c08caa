import type { ClusterProfile } from './clusters.ts'

/** A cluster of which nothing is said yet: one processor for a run, the rest as the cluster decides. */
export const emptyProfile: ClusterProfile = {
  name: '',
  host: '',
  folder: '',
  copies: false,
  program: '',
  partition: '',
  account: '',
  time: '',
  gpus: 0,
  cpus: 1,
  memory: '',
  lines: '',
}
