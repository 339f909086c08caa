import { at } from '#contract/at.ts'

export interface FieldProblem {
  /** The place of a value in the request: `grid.calibration.windows`, `methods.0.options.alpha`. */
  field: string
  message: string
}

/** What the form calls the parts of a request. */
const labels: Readonly<Record<string, string>> = {
  models: 'Model',
  methods: 'Methods',
  amounts: 'Amount',
  seeds: 'Seeds',
  calibration: 'Calibration data',
  vocabulary: 'Vocabulary',
  repairs: 'Repair',
  repairData: 'Repair text',
  recoveries: 'Training tokens',
  recoveryData: 'Recovery text',
  recoveryTrains: 'Recovery',
  weights: 'Weight types',
  rivals: 'Rivals',
  siblings: 'Smaller models',
  measures: 'Measurements',
  beginToken: 'Begin token',
  localFolder: 'Folder of local data',
  backend: 'Backend',
  precision: 'Precision',
  memoryBytes: 'Memory budget',
  sequenceLength: 'Window length',
  windows: 'Windows',
  source: 'Text',
  sparsity: 'Sparsity',
  name: 'Name',
}

/**
 * Names the field of a problem as the form does: `Windows of Calibration data is 0; …` instead of `grid.calibration.windows is 0; …`.
 * Messages that name no field stay unchanged.
 * @param optionOf returns the method and the option of an entry of the form, as the form names them
 */
export function nameField({ field, message }: FieldProblem, optionOf: (entry: number, option: string) => string): string {
  const path = field.replace(/^grid\./, '').split('.')
  const said = [field, at(path, path.length - 1)].find((name) => name !== '' && message.startsWith(`${name} is `))
  if (said === undefined) return message
  const [, entry, options, option] = path
  const isOption = path[0] === 'methods' && options === 'options' && option !== undefined
  const known = path.flatMap((part) => labels[part] ?? [])
  const label = isOption ? optionOf(Number(entry), option) : known.length > 0 ? known.reverse().join(' of ') : 'This'
  return `${label}${message.slice(said.length).replace(/^ is null;/, ' is empty;')}`
}
