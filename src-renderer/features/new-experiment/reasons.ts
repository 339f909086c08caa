import { getContext, setContext } from 'svelte'
import type { ExplainedPart } from '#contract/experiments/experiments.ts'

const key = Symbol('reasons')
type Reasons = (part: ExplainedPart) => string | undefined

/** Gives the parts below this component a function that says why a preset set their values. */
export const explainParts = (reasons: Reasons): void => void setContext(key, reasons)

/** Returns that function: it takes a part of the form, and returns the reason for its value if there is one. */
export const reasonOf = (): Reasons => getContext<Reasons | undefined>(key) ?? (() => undefined)
