/** A step's name is `MARK LABEL #HASH`: the mark limits which runs may reuse it, the label is for users, and the hash identifies it. */
const form = /^(shared: |own: )?(.*) #[0-9a-f]{64}$/s

/** Which runs can reuse a step. Timings are the run's own; on a cluster, runs wait while another computes a shared step. */
export const stepMarks = { all: '', shared: 'shared: ', own: 'own: ' } as const

export type StepReach = keyof typeof stepMarks

export function reachOfStep(name: string): StepReach {
  if (name.startsWith(stepMarks.own)) return 'own'
  return name.startsWith(stepMarks.shared) ? 'shared' : 'all'
}

/** The label for users. In earlier versions, the whole name is the label. */
export const labelOfStep = (name: string): string => form.exec(name)?.[2] ?? name
