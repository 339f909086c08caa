/** Terms that screens, help and documentation explain, each in one or two sentences. */
export const glossary = {
  perplexity: {
    title: 'Perplexity',
    text: 'How surprised a model is by a text: the exponential of its mean loss per token. Lower is better; 1 would be no surprise at all. Only numbers on the same windows and the same tokenizer can be compared.',
  },
  'bits per byte': {
    title: 'Bits per byte',
    text: 'The loss on a text divided by its bytes. Unlike perplexity, it can be compared between models with different tokenizers.',
  },
  calibration: {
    title: 'Calibration',
    text: 'The text that a method reads to decide what to remove. What it needs is kept best.',
  },
  'block stack': {
    title: 'Block stack',
    text: 'The blocks of a model without the embedding and the output head. Sparsity is the share of their parameters that is removed.',
  },
  sparsity: {
    title: 'Sparsity',
    text: 'The removed share of the parameters of the block stack. What was requested and what was reached can differ, because methods remove whole parts. For the method Vocabulary, it is the share of all parameters.',
  },
  rival: {
    title: 'Rival',
    text: 'An unpruned file that costs no more than a pruned one: the same model quantised further, or a smaller model. Pruning pays only if it beats its best rival.',
  },
  repair: {
    title: 'Repair',
    text: 'Refits the remaining weights so that the pruned model answers more like the original. It solves equations and trains nothing.',
  },
  recovery: {
    title: 'Recovery',
    text: 'A short training after pruning, in which the pruned model learns to predict what the original predicts.',
  },
  'looping answers': {
    title: 'Looping answers',
    text: 'The share of answers that end by repeating themselves. Perplexity does not show this damage.',
  },
  'distinct trigrams': {
    title: 'Distinct trigrams',
    text: 'The share of runs of three tokens in an answer that occur only once. Low values mean repetition.',
  },
  nats: {
    title: 'Nats',
    text: 'The unit of losses and divergences with natural logarithms. One nat is 1.44 bits.',
  },
  'KL divergence': {
    title: 'KL divergence',
    text: 'How far the predictions of a pruned model are from the original’s, per token. 0 means the same predictions.',
  },
  shared: {
    title: 'Shared',
    text: 'Several answers were written at the same time, so each had only a part of the machine. One alone is faster.',
  },
  'Pareto front': {
    title: 'Pareto front',
    text: 'The files that no other file beats in both cost and quality.',
  },
  'begin token': {
    title: 'Begin token',
    text: 'A token (BOS) that some models need before every text. Numbers with and without it cannot be compared.',
  },
  'KV cache': {
    title: 'KV cache',
    text: 'The keys and values that a model keeps for every token of the context. It grows with the context and is added to the weights.',
  },
} as const

export type TermId = keyof typeof glossary

/** Whether a word, such as the name of a measure, is explained. */
export const isTerm = (word: string): word is TermId => Object.hasOwn(glossary, word)
