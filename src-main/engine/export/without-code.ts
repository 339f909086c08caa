import { parseObject } from '#engine/checkpoint/json.ts'

/** Config entries that make a loader download or run foreign code. */
const codeWords = /^(auto_map|custom_pipelines|custom_generate|trust_remote_code|hub_kernel_config|_?(attn|experts)_implementation\w*)$/

/** Removes the entries that make a loader run code from the source's config, at every depth. A format adds its own module afterwards. */
export function withoutCode<Value>(value: Value): Value {
  if (Array.isArray(value)) return value.map(withoutCode) as Value
  if (typeof value !== 'object' || value === null) return value
  const kept = Object.entries(value).filter(([word]) => !codeWords.test(word))
  return Object.fromEntries(kept.map(([word, inner]) => [word, withoutCode(inner)])) as Value
}

/** Removes these entries from the text of a config file. Returns it unchanged if it has none. Throws `invalid` if the text is not JSON. */
export function textWithoutCode(text: string, file: string): string {
  const config = parseObject(text, file)
  const clean = withoutCode(config)
  return JSON.stringify(clean) === JSON.stringify(config) ? text : `${JSON.stringify(clean, null, 2)}\n`
}
