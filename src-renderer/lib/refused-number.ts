/** What `refusedNumber` looks at in an input of type number. */
interface NumberInput {
  readonly value: string
  readonly min: string
  readonly max: string
  readonly step: string
  readonly required: boolean
  readonly validity: Pick<ValidityState, 'badInput'>
}

/** Says why a number that was typed in a field is not taken, with what is allowed; null if it is. */
export function refusedNumber(label: string, { value, min, max, step, required, validity }: NumberInput): string | null {
  const range = max === '' ? `of at least ${min}` : `from ${min} to ${max}`
  const allowed = `it must be a ${step === '' ? 'whole ' : ''}number ${range}.`
  if (validity.badInput) return `${label} is no number; ${allowed}`
  if (value === '') return required ? `${label} is empty; ${allowed}` : null
  const number = Number(value)
  const isWithin = number >= Number(min) && (max === '' || number <= Number(max)) && (step !== '' || Number.isInteger(number))
  return isWithin ? null : `${label} is ${value}; ${allowed}`
}
