/** Where the decoder's tensors stand in a checkpoint: what begins their names, and the name of the head. */
export interface Place {
  readonly prefix: string
  readonly head: string
}

export const usualPlace: Place = { prefix: 'model.', head: 'lm_head.weight' }

/** A language model that is one part of several, as different versions of transformers have written it. */
const places: readonly Place[] = [
  { prefix: 'language_model.model.', head: 'language_model.lm_head.weight' },
  { prefix: 'model.language_model.', head: 'lm_head.weight' },
  usualPlace,
]

/** The place that a checkpoint uses; the last one where none fits, so that an error names its tensors. */
export function findPlace(stored: (name: string) => boolean): Place {
  return places.find(({ prefix }) => stored(`${prefix}embed_tokens.weight`)) ?? usualPlace
}
