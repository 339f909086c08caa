import { type ErrorMessage, toErrorMessage } from '#contract/errors.ts'

/** Does something and returns what went wrong; null if nothing did. */
export async function failureOf(action: () => Promise<unknown>): Promise<ErrorMessage | null> {
  try {
    await action()
    return null
  } catch (thrown) {
    return toErrorMessage(thrown)
  }
}
