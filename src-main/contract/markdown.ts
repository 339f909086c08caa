/** A text as Markdown shows it: no raw HTML, no images and no links, whatever a name or an answer holds. */
export const escapeMarkdown = (text: string): string => text.replace(/[\\`*_<>[\]#|!&~]/g, '\\$&')

/** The same on one line, for headings. */
export const markdownLine = (text: string): string => escapeMarkdown(linesOf(text).join(' ⏎ '))

/** The same as a quotation. */
export const markdownQuote = (text: string): string =>
  linesOf(text)
    .map((line) => `> ${escapeMarkdown(line)}`)
    .join('\n')

/** A text as a block of code, in which nothing needs escaping. */
export const markdownCode = (text: string): string =>
  linesOf(text)
    .map((line) => `    ${line}`)
    .join('\n')

/** Markdown ends a line at a carriage return too: behind one, a quotation or a block of code would be over. */
const linesOf = (text: string): string[] => text.split(/\r\n|\r|\n/)
