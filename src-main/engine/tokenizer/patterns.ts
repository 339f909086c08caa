// How byte-level tokenizers split text before they merge bytes, as their tokenizer.json files state it.

const words = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|`
const rest = String.raw`| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

/** GPT-2's pattern, which is built into the step `ByteLevel`. */
export const gpt2Pattern = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

/** Llama 3's pattern: up to three digits form one word. */
export const llama3Pattern = String.raw`${words}\p{N}{1,3}${rest}`

const lower = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
const upper = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
const shortened = `(?i:'s|'t|'re|'ve|'m|'ll|'d)?`
const before = String.raw`[^\r\n\p{L}\p{N}]?`

/** GPT-4o's pattern, also used by Phi-4-mini: a word ends where an upper-case letter follows a lower-case one. */
export const gpt4oPattern = `${before}${upper}*${lower}+${shortened}|${before}${upper}+${lower}*${shortened}|${String.raw`\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`}`

/** Qwen 2's pattern: every digit is a word. */
export const qwen2Pattern = String.raw`${words}\p{N}${rest}`
