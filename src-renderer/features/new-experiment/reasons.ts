import { getContext, setContext } from 'svelte'

const key = Symbol('reasons')
type Reasons = (title: string) => string | undefined

/** Says why parts of the form are set as they are, by their titles. */
export const explainParts = (reasons: Reasons): void => void setContext(key, reasons)

/** Why a part is set as it is. */
export const reasonOf = (): Reasons => getContext<Reasons | undefined>(key) ?? (() => undefined)
