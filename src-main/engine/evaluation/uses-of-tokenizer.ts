/** What measures need a tokenizer for, as errors say it. */
export const usesOfTokenizer = { tasks: 'read questions', answers: 'answer prompts', 'long context': 'hide numbers in a text' }
