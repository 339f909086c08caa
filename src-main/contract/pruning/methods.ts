import { z } from 'zod'

export const optionValue = z.union([z.number(), z.string(), z.boolean(), z.null()])

/** One option of a method as a form field, derived from the method's schema. */
export const optionField = z.object({
  name: z.string(),
  kind: z.enum(['number', 'integer', 'boolean', 'text', 'choice', 'list']),
  label: z.string(),
  help: z.string(),
  /** The value if the option is not given. Absent if the method then chooses a value for the model, or works without one. */
  default: z.unknown().optional(),
  required: z.boolean(),
  minimum: z.number().optional(),
  /** Exclusive lower bound. */
  above: z.number().optional(),
  maximum: z.number().optional(),
  choices: z.array(optionValue).optional(),
  unit: z.string().optional(),
  /** What a form shows while an option without a default has no value, such as `none`. If absent, the form shows `automatic`. */
  empty: z.string().optional(),
})

export const methodEntry = z.object({
  id: z.string(),
  title: z.string(),
  paper: z.string(),
  /** Whether the method is Espalier's own. If so, `paper` is the work that it builds on. */
  own: z.boolean(),
  summary: z.string(),
  unit: z.string(),
  options: z.array(optionField),
  /** Whether a pruned model that the method made with its default options can be repaired and recovered. */
  refits: z.boolean(),
})

/** A data set for calibration, for measurement or to train a recovery on. `source` identifies it in data requests. */
export const datasetEntry = z.object({
  source: z.string(),
  title: z.string(),
  uses: z.array(z.enum(['calibration', 'evaluation', 'recovery'])),
  /** Whether the text belongs to the bundled sample model. Forms offer it only for that model and models made from it. */
  ofSample: z.boolean(),
  present: z.boolean(),
  bytes: z.number().int().nullable(),
  summary: z.string(),
})

/**
 * A zero-shot task. If `written`, the model writes each answer, which is then checked. Otherwise it is offered several answers, and the
 * likelihood that it gives to each decides which one it chooses.
 */
export const taskEntry = z.object({
  id: z.string(),
  title: z.string(),
  present: z.boolean(),
  questions: z.number().int().nullable(),
  written: z.boolean(),
})
/** A model family, by the `model_type` of its configs. */
export const familyEntry = z.object({ id: z.string(), title: z.string(), examples: z.string() })
export const exportFormat = z.object({ id: z.string(), title: z.string(), summary: z.string() })

/** Everything that forms let the user choose from. */
export const catalogue = z.object({
  methods: z.array(methodEntry),
  /** Studies of one design choice of 2SSP. A run can have one as its method. */
  ablations: z.array(methodEntry),
  datasets: z.array(datasetEntry),
  tasks: z.array(taskEntry),
  formats: z.array(exportFormat),
  families: z.array(familyEntry),
})

export type OptionField = z.infer<typeof optionField>
export type MethodEntry = z.infer<typeof methodEntry>
export type DatasetEntry = z.infer<typeof datasetEntry>
export type Catalogue = z.infer<typeof catalogue>
