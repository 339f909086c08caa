import { type ErrorMessage, toErrorMessage } from '#contract/errors.ts'

/** Runs an action and returns its error, or null if it succeeded. */
export async function failureOf(action: () => Promise<unknown>): Promise<ErrorMessage | null> {
  try {
    await action()
    return null
  } catch (thrown) {
    return toErrorMessage(thrown)
  }
}
