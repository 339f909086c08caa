/** Whether a model was made for code, by its name: `Qwen2.5-Coder-0.5B`, `starcoder2`, but not `decoder-350m`. */
export const isCodeModel = (name: string): boolean => /(?<!en|de)code/i.test(name)

const codeLine =
  /^\s*(?:def |class |import |from \w+ import|#include|function |const |let |var |return\b|public |private |func |fn |SELECT\b|```|"""|\/\/|\/\*)|[;{}]\s*$/

/** Whether a text is code, so that a font in which letters line up suits it: two lines, or a third of several, look like code. */
export function looksLikeCode(text: string): boolean {
  const lines = text.split('\n').filter((line) => line.trim() !== '')
  const code = lines.filter((line) => codeLine.test(line)).length
  return code > 0 && code >= Math.min(2, lines.length) && code * 3 >= lines.length
}

/** An answer without the empty lines and spaces around it. The indentation of its first line stays, so that code lines up. */
export const trimAnswer = (text: string): string => text.replace(/^(?:\s*\n|\s+)/, '').trimEnd()
