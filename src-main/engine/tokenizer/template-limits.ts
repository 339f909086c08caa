import { Environment, Interpreter, Template } from '@huggingface/jinja'

/**
 * Limits on a template's size, steps and output. Published templates take a few hundred steps per message and write little more text than
 * the messages have.
 */
export const templateLimits = { characters: 1_000_000, steps: 500_000, text: 10_000_000 } as const

type Evaluate = Interpreter['evaluate']

/** Evaluates like the library's interpreter, and counts steps: one for each expression and one for each number of a range. */
class CountingInterpreter extends Interpreter {
  #steps = 0

  count(steps: number): void {
    this.#steps += steps
    if (this.#steps > templateLimits.steps)
      throw new Error(`it takes more than ${templateLimits.steps.toLocaleString('en-US')} steps, the limit for a template`)
  }

  override evaluate(...[statement, environment]: Parameters<Evaluate>): ReturnType<Evaluate> {
    this.count(1)
    const value = super.evaluate(statement, environment)
    if (value.type === 'StringValue' && (value.value as string).length > templateLimits.text)
      throw new Error(`it writes more than ${templateLimits.text.toLocaleString('en-US')} characters, the limit for a template`)
    return value
  }
}

/** Renders a template with the values that it may use, by name. Throws an Error if the template refuses or exceeds the limits. */
export function renderWithinLimits(template: Template, names: Record<string, unknown>): string {
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
