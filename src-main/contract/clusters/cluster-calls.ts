import { z } from 'zod'
import { call } from '../call.ts'
import { nothing } from '../identifiers.ts'
import { clusterFinding, clusterName, clusterProfile } from './clusters.ts'

export const clusterCalls = {
  'clusters.list': call('The Slurm clusters that runs can be sent to.', nothing, z.array(clusterProfile)),
  'clusters.save': call('Save a cluster; the same name replaces it.', z.object({ cluster: clusterProfile }), z.array(clusterProfile)),
  'clusters.remove': call(
    'Delete a cluster that has no runs.',
    z.object({ name: clusterName }),
    z.array(clusterProfile),
    'not-found',
    'conflict',
  ),
  'clusters.script': call(
    'The batch script that runs would be submitted with.',
    z.object({ cluster: clusterProfile, runs: z.number().int().min(1).max(500).default(2) }),
    z.object({ script: z.string() }),
  ),
  'clusters.check': call(
    'Check a cluster: its commands, partitions and shared folder, and the backend and device on a node. Waits up to two minutes for a node.',
    z.object({ name: clusterName }),
    z.array(clusterFinding),
    'not-found',
  ),
}
