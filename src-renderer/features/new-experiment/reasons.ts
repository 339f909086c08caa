import { getContext, setContext } from 'svelte'
import type { ExplainedPart } from '#contract/experiments/experiments.ts'

const key = Symbol('reasons')
type Reasons = (part: ExplainedPart) => string | undefined

/** Says why parts of the form are set as they are. */
export const explainParts = (reasons: Reasons): void => void setContext(key, reasons)

/** Why a part is set as it is. */
export const reasonOf = (): Reasons => getContext<Reasons | undefined>(key) ?? (() => undefined)
