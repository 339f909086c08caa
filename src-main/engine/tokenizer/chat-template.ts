import { Template } from '@huggingface/jinja'
import { EspalierError } from '#contract/errors.ts'
import { reasonOf } from '../checkpoint/json.ts'
import { underLimits } from '../limits/reading.ts'
import { renderWithinLimits, templateLimits } from './template-limits.ts'

export interface ChatMessage {
  role: string
  content: string
}

export interface ChatOptions {
  /** Whether the prompt ends where the model's answer begins. Default: true. */
  addGenerationPrompt?: boolean
}

/** A model's own Jinja template, which turns messages into a prompt. */
export class ChatTemplate {
  readonly #template: Template
  readonly #tokens: { bos_token: string; eos_token: string }

  /** Throws `invalid` if the template cannot be parsed. */
  constructor(source: string, tokens: { beginToken?: string; endToken?: string }) {
    this.#tokens = { bos_token: tokens.beginToken ?? '', eos_token: tokens.endToken ?? '' }
    try {
      if (source.length > templateLimits.characters)
        throw new Error(
          `it has ${source.length.toLocaleString('en-US')} characters; at most ${templateLimits.characters.toLocaleString('en-US')} are allowed`,
        )
      this.#template = underLimits("The model's chat template", () => new Template(source))
    } catch (error) {
      throw new EspalierError('invalid', `The model's chat template cannot be read: ${reasonOf(error)}.`)
    }
  }

  /** Renders the prompt of a conversation. Throws `invalid` if the template refuses it; many templates refuse a system message. */
  render(messages: readonly ChatMessage[], { addGenerationPrompt = true }: ChatOptions = {}): string {
    const names = { messages, add_generation_prompt: addGenerationPrompt, ...this.#tokens }
    try {
      return underLimits("The model's chat template", () => renderWithinLimits(this.#template, names))
    } catch (error) {
      throw new EspalierError('invalid', `The model's chat template refuses these messages: ${reasonOf(error)}.`)
    }
  }
}
