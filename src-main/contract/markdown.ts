/** Escapes text so that a name or an answer cannot produce raw HTML, images or links. */
export const escapeMarkdown = (text: string): string => text.replace(/[\\`*_<>[\]#|!&~]/g, '\\$&')

/** Escapes text and puts it on one line, for headings. */
export const markdownLine = (text: string): string => escapeMarkdown(linesOf(text).join(' ⏎ '))

/** Escapes text and formats it as a quotation. */
export const markdownQuote = (text: string): string =>
  linesOf(text)
    .map((line) => `> ${escapeMarkdown(line)}`)
    .join('\n')

/** Formats text as a code block, in which nothing needs escaping. */
export const markdownCode = (text: string): string =>
  linesOf(text)
    .map((line) => `    ${line}`)
    .join('\n')

/** Markdown also ends a line at a carriage return, which would end a quotation or code block early. */
const linesOf = (text: string): string[] => text.split(/\r\n|\r|\n/)
