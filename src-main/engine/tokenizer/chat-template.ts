import { Environment, Interpreter, Template } from '@huggingface/jinja'
import { EspalierError } from '#contract/errors.ts'
import { reasonOf } from '#engine/checkpoint/json.ts'
import { underLimits } from '#engine/limits/reading.ts'

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
          `it has ${source.length.toLocaleString('en')} characters; at most ${templateLimits.characters.toLocaleString('en')} are allowed`,
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

/**
 * Limits on a template's size, steps and output. Published templates take a few hundred steps per message and write little more text than
 * the messages have.
 */
const templateLimits = { characters: 1_000_000, steps: 500_000, text: 10_000_000 } as const

type Evaluate = Interpreter['evaluate']

/** Evaluates like the library's interpreter, and counts steps: one for each expression and one for each number of a range. */
class CountingInterpreter extends Interpreter {
  #steps = 0

  count(steps: number): void {
    this.#steps += steps
    if (this.#steps > templateLimits.steps)
      throw new Error(`it takes more than ${templateLimits.steps.toLocaleString('en')} steps, the limit for a template`)
  }

  override evaluate(...[statement, environment]: Parameters<Evaluate>): ReturnType<Evaluate> {
    this.count(1)
    const value = super.evaluate(statement, environment)
    if (value.type === 'StringValue' && (value.value as string).length > templateLimits.text)
      throw new Error(`it writes more than ${templateLimits.text.toLocaleString('en')} characters, the limit for a template`)
    return value
  }
}

/** Renders a template with the values that it may use, by name. Throws an Error if the template refuses or exceeds the limits. */
function renderWithinLimits(template: Template, names: Record<string, unknown>): string {
  const environment = new Environment()
  const interpreter = new CountingInterpreter(environment)
  const globals: Record<string, unknown> = {
    ...{ true: true, false: false, none: null, True: true, False: false, None: null },
    range: (...bounds: number[]) => listRange(bounds, interpreter),
    raise_exception: (reason: unknown) => {
      throw new Error(String(reason))
    },
    // The library does not export its own function, so this renders a template that calls it.
    strftime_now: (format: string) => new Template('{{ strftime_now(format) }}').render({ format }),
  }
  for (const [name, value] of Object.entries({ ...globals, ...names })) environment.set(name, value)
  return interpreter.run(template.parsed).value as string
}

function listRange(bounds: number[], interpreter: CountingInterpreter): number[] {
  const [start, end, step = 1] = bounds.length === 1 ? [0, bounds[0] as number] : (bounds as [number, number, number?])
  const count = Math.max(0, Math.ceil((end - start) / step))
  if (!Number.isFinite(count)) throw new Error(`range(${bounds.join(', ')}) is not possible`)
  interpreter.count(count)
  return Array.from({ length: count }, (_, i) => start + i * step)
}
