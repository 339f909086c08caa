/** Names of the decoder's tensors in a checkpoint: their prefix, and the name of the head. */
export interface Place {
  readonly prefix: string
  readonly head: string
}

export const usualPlace: Place = { prefix: 'model.', head: 'lm_head.weight' }

/** The prefixes of a language model that is one part of several, in different versions of transformers. */
const places: readonly Place[] = [
  { prefix: 'language_model.model.', head: 'language_model.lm_head.weight' },
  { prefix: 'model.language_model.', head: 'lm_head.weight' },
  usualPlace,
]

/** Finds the place that a checkpoint uses. Returns the last place if none fits, so that an error names its tensors. */
export function findPlace(stored: (name: string) => boolean): Place {
  return places.find(({ prefix }) => stored(`${prefix}embed_tokens.weight`)) ?? usualPlace
}

// Entries in the config of a model of several parts that apply to all parts.
const shared = ['tie_word_embeddings', 'bos_token_id', 'eos_token_id', 'pad_token_id', 'dtype', 'torch_dtype', 'transformers_version']

/** The config of a language model that is one part of several, in the form of a model by itself. Missing entries are taken from `usual`. */
export function textConfigOf(config: Record<string, unknown>, usual: Record<string, unknown>): Record<string, unknown> {
  const common = Object.fromEntries(shared.filter((key) => config[key] !== undefined).map((key) => [key, config[key]]))
  return { ...usual, ...common, ...(config.text_config as Record<string, unknown>) }
}
