import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { toErrorMessage } from '#contract/errors.ts'
import { readGgufTokenizer } from '#engine/tokenizer/gguf-tokenizer.ts'
import type { TokenizerFiles } from '#engine/tokenizer/tokenizer-files.ts'

/**
 * Writes the tokenizer inside a GGUF file as separate files, as a model folder has them. Writes nothing if the file has no readable
 * tokenizer.
 */
export async function writeInnerTokenizer(model: string, folder: string): Promise<void> {
  const files = await readGgufTokenizer(model).catch((thrown: unknown) => {
    // A model without a tokenizer is written without one.
    if (toErrorMessage(thrown).code !== 'not-found') throw thrown
  })
  if (!files || files.where !== model) return
  for (const [name, content] of Object.entries(filesOf(files))) await writeFile(join(folder, name), `${JSON.stringify(content)}\n`)
}

/** Files in the form that the tokenizers and transformers libraries read, with all fields that they require. */
function filesOf({ tokenizer, settings, chatTemplate, beginToken, endToken, beginId, endIds }: TokenizerFiles): Record<string, unknown> {
  const { model, pre_tokenizer: steps, ...rest } = tokenizer as Record<string, Record<string, unknown>>
  const pieces = (steps?.pretokenizers ?? []) as Record<string, unknown>[]
  const complete = pieces.map((piece) => (piece.type === 'ByteLevel' ? { trim_offsets: true, ...piece } : piece))
  const bare = { dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false }
  return {
    'tokenizer.json': {
      version: '1.0',
      truncation: null,
      padding: null,
      post_processor: null,
      ...rest,
      pre_tokenizer: { ...steps, pretokenizers: complete },
      decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
      model: { ...bare, byte_fallback: false, ...model },
    },
    'tokenizer_config.json': {
      tokenizer_class: 'PreTrainedTokenizerFast',
      clean_up_tokenization_spaces: false,
      ...settings,
      ...(beginToken === undefined ? {} : { bos_token: beginToken }),
      ...(endToken === undefined ? {} : { eos_token: endToken }),
      ...(chatTemplate === undefined ? {} : { chat_template: chatTemplate }),
    },
    'generation_config.json': {
      ...(beginId === undefined ? {} : { bos_token_id: beginId }),
      ...(endIds.length > 0 ? { eos_token_id: endIds } : {}),
    },
  }
}
