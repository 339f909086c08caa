/** A step's name is `MARK LABEL #HASH`: the mark limits which runs may reuse it, the label is for users, and the hash identifies it. */
const form = /^(shared: |own: )?(.*) #[0-9a-f]{64}$/s

/** Which runs can reuse a step. Only the run itself can reuse its timings. On a cluster, runs wait while another computes a shared step. */
export const stepMarks = { all: '', shared: 'shared: ', own: 'own: ' } as const

export type StepReach = keyof typeof stepMarks

export function reachOfStep(name: string): StepReach {
  if (name.startsWith(stepMarks.own)) return 'own'
  return name.startsWith(stepMarks.shared) ? 'shared' : 'all'
}

/** The label of the step that decides on the begin token. */
export const beginLabel = 'begin token'

export const isBeginStep = (name: string): boolean => labelOfStep(name) === beginLabel

/** The label of the step that reads and hashes the whole model. */
export const contentsLabel = 'fingerprint of the model'

export const isContentsStep = (name: string): boolean => labelOfStep(name) === contentsLabel

/** Returns the label for users. Names from earlier versions have no other parts. */
export const labelOfStep = (name: string): string => form.exec(name)?.[2] ?? name
