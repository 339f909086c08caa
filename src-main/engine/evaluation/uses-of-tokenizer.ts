/** What measures need a tokenizer for, in the words of errors. */
export const usesOfTokenizer = { tasks: 'read questions', answers: 'answer prompts', 'long context': 'hide numbers in a text' }
