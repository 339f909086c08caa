import { stderr, stdin } from 'node:process'
import { createInterface } from 'node:readline/promises'

/** Asks a question in the terminal that must be answered with `yes`. Without a terminal, the answer is no. */
export async function askInTerminal(question: string): Promise<boolean> {
  if (!stdin.isTTY || !stderr.isTTY) return false
  const terminal = createInterface({ input: stdin, output: stderr })
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question}\nBegin a new history now? [y/N] `)).trim())
  } finally {
    terminal.close()
  }
}
