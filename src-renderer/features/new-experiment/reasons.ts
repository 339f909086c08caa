import { getContext, setContext } from 'svelte'
import type { ExplainedPart } from '#contract/experiments/experiments.ts'

const key = Symbol('reasons')
type Reasons = (part: ExplainedPart) => string | undefined

/** Provides the reasons for the values of the form's parts. */
export const explainParts = (reasons: Reasons): void => void setContext(key, reasons)

/** The reason for a part's value. */
export const reasonOf = (): Reasons => getContext<Reasons | undefined>(key) ?? (() => undefined)
