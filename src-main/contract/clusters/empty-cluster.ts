import type { ClusterProfile } from './clusters.ts'

/** A new cluster profile: one processor per run, everything else up to the cluster. */
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
