import { z } from 'zod'
import { type ClusterProfile, clusterProfile } from '#contract/clusters/clusters.ts'
import { EspalierError } from '#contract/errors.ts'
import { plural } from '#contract/words.ts'
import type { History } from '#db/history.ts'
import { batchScript } from '#jobs/cluster/batch-script.ts'
import { checkCluster } from '#jobs/cluster/check-cluster.ts'
import type { Command } from '#jobs/cluster/cluster-shell.ts'
import { espalierCommand } from '#jobs/compute/compute-command.ts'
import type { Calls } from '../context.ts'
import { Service } from '../service.ts'

const key = 'clusters'

/** Returns the configured clusters. Profiles that this version cannot read are omitted. */
export function clusterProfiles(history: History): ClusterProfile[] {
  const kept = z.array(z.unknown()).safeParse(history.settings.get(key)).data ?? []
  return kept.flatMap((one) => clusterProfile.safeParse(one).data ?? [])
}

/** Returns the command that starts `espalier` on a cluster's nodes. Throws `usage` if the profile is incomplete. */
export function clusterProgram({ program, host, copies }: ClusterProfile): Command {
  if (copies && host === '') throw new EspalierError('usage', 'Copying over ssh needs a host. Set the host, or turn copying off.')
  if (copies && program === '') throw new EspalierError('usage', `Set the program: the path of the command espalier on ${host}.`)
  return program === '' ? espalierCommand() : [program]
}

export class ClustersService extends Service {
  readonly calls: Calls<'clusters'> = {
    'clusters.list': () => clusterProfiles(this.history),
    'clusters.save': ({ cluster: profile }) => {
      clusterProgram(profile)
      const others = clusterProfiles(this.history).filter(({ name }) => name !== profile.name)
      return this.#keep([...others, profile].sort((one, other) => one.name.localeCompare(other.name)))
    },
    'clusters.remove': ({ name }) => {
      this.#find(name)
      const busy = this.history.queue.ofClusters().filter(({ executor }) => executor === name).length
      if (busy > 0)
        throw new EspalierError(
          'conflict',
          `The cluster ${name} has ${plural(busy, 'unfinished run')}. Cancel them first, or wait until they are done.`,
        )
      return this.#keep(clusterProfiles(this.history).filter((one) => one.name !== name))
    },
    'clusters.script': ({ cluster: profile, runs }) => {
      const names = Array.from({ length: runs }, (_, at) => `run-${at + 1}`)
      return { script: batchScript(profile, { submission: 'sent-example', runs: names, program: clusterProgram(profile) }) }
    },
    'clusters.check': ({ name }, signal) => {
      const profile = this.#find(name)
      return checkCluster(profile, clusterProgram(profile), signal)
    },
  }

  #keep(profiles: readonly ClusterProfile[]): ClusterProfile[] {
    this.history.settings.set(key, profiles)
    this.parts.queue.tellRuns([])
    return clusterProfiles(this.history)
  }

  #find(name: string): ClusterProfile {
    const profile = clusterProfiles(this.history).find((one) => one.name === name)
    if (!profile) throw new EspalierError('not-found', `There is no cluster ${JSON.stringify(name)}.`)
    return profile
  }
}
