import type { ClusterProfile } from './clusters.ts'

/** A new cluster profile: one processor per run, and the cluster's defaults for everything else. */
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
