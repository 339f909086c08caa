/** A step's name is `MARK LABEL #HASH`: a mark where not every run may find it, words for people, and the hash that identifies it. */
const form = /^(shared: |own: )?(.*) #[0-9a-f]{64}$/s

/** Which runs find a finished step. Times are of the run that took them; on a cluster, runs wait for a shared step that another computes. */
export const stepMarks = { all: '', shared: 'shared: ', own: 'own: ' } as const

export type StepReach = keyof typeof stepMarks

export function reachOfStep(name: string): StepReach {
  if (name.startsWith(stepMarks.own)) return 'own'
  return name.startsWith(stepMarks.shared) ? 'shared' : 'all'
}

/** The words for people. Names of earlier versions are all words. */
export const labelOfStep = (name: string): string => form.exec(name)?.[2] ?? name
