/** A piece of a line of text. */
export type Span =
  | { kind: 'text' | 'code' | 'strong' | 'emphasis'; text: string }
  /** `target` is as written: an address, or a file of the documentation. */
  | { kind: 'link'; text: string; target: string }

export type Block =
  | { kind: 'heading'; level: number; id: string; spans: Span[] }
  | { kind: 'paragraph'; spans: Span[] }
  | { kind: 'code'; text: string }
  | { kind: 'list'; ordered: boolean; items: Block[][] }
  | { kind: 'table'; head: Span[][]; rows: Span[][][] }

const item = /^(\s*)(?:[-*]|(\d+)\.)\s+/
const begins = /^(#{1,6} |```|\||\s*(?:[-*]|\d+\.) )/

/** Parses the Markdown of our own documents: headings, paragraphs, lists, tables and code. Pictures become their captions. */
export function parseMarkdown(text: string): Block[] {
  return parseLines(text.split(/\r?\n/))
}

function parseLines(lines: readonly string[]): Block[] {
  const blocks: Block[] = []
  let at = 0
  const takeWhile = (holds: (line: string) => boolean): string[] => {
    const from = at
    while (at < lines.length && holds(lines[at] as string)) at += 1
    return lines.slice(from, at)
  }
  while (at < lines.length) {
    const line = lines[at] as string
    const heading = /^(#{1,6})\s+(.*)$/.exec(line)
    if (line.trim() === '' || /^<!--.*-->$/.test(line.trim())) at += 1
    else if (heading) {
      const [, marks = '', title = ''] = heading
      blocks.push({ kind: 'heading', level: marks.length, id: anchorOf(title), spans: parseSpans(title) })
      at += 1
    } else if (line.startsWith('```')) {
      at += 1
      blocks.push({ kind: 'code', text: takeWhile((next) => !next.startsWith('```')).join('\n') })
      at += 1
    } else if (line.startsWith('|')) {
      const [head = [], , ...rows] = takeWhile((next) => next.startsWith('|')).map(cellsOf)
      blocks.push({ kind: 'table', head, rows })
    } else if (item.test(line)) blocks.push(parseList(takeList()))
    else {
      at += 1
      blocks.push({ kind: 'paragraph', spans: parseSpans([line, ...takeWhile(isProse)].map((one) => one.trim()).join(' ')) })
    }
  }
  return blocks

  /** The lines of a list: its items, and indented or blank lines between them. */
  function takeList(): string[] {
    return takeWhile((next) => item.test(next) || /^\s+\S/.test(next) || (next.trim() === '' && /^(\s+\S)/.test(lines[at + 1] ?? '')))
  }
}

const isProse = (line: string) => line.trim() !== '' && !begins.test(line)

function parseList(lines: readonly string[]): Block {
  const indent = /^\s*/.exec(lines[0] ?? '')?.[0].length ?? 0
  const items: string[][] = []
  for (const line of lines) {
    const mark = item.exec(line)
    if (mark && mark[1]?.length === indent) items.push([line.slice(mark[0].length)])
    else items.at(-1)?.push(line.replace(/^\s{1,3}/, ''))
  }
  return { kind: 'list', ordered: item.exec(lines[0] ?? '')?.[2] !== undefined, items: items.map(parseLines) }
}

const cellsOf = (row: string): Span[][] =>
  row
    .replace(/^\|\s*|\s*\|\s*$/g, '')
    .split(/\s*(?<!\\)\|\s*/)
    .map((cell) => parseSpans(cell.replaceAll('\\|', '|')))

const span = /`([^`]+)`|\*\*([^*]+)\*\*|(?<!\w)[*_]([^*_]+)[*_](?!\w)|!?\[([^\]]*)\]\(([^)\s]+)\)/

export function parseSpans(text: string): Span[] {
  const spans: Span[] = []
  let rest = text
  for (let found = span.exec(rest); found; found = span.exec(rest)) {
    if (found.index > 0) spans.push({ kind: 'text', text: rest.slice(0, found.index) })
    spans.push(spanOf(found))
    rest = rest.slice(found.index + found[0].length)
  }
  return rest === '' ? spans : [...spans, { kind: 'text', text: rest }]
}

function spanOf([all, code, strong, emphasis, label = '', target = '']: RegExpExecArray): Span {
  if (code !== undefined) return { kind: 'code', text: code }
  if (strong !== undefined) return { kind: 'strong', text: strong.replaceAll('`', '') }
  if (emphasis !== undefined) return { kind: 'emphasis', text: emphasis }
  if (all?.startsWith('!')) return { kind: 'emphasis', text: `Picture: ${label}` }
  return { kind: 'link', text: label.replaceAll('`', ''), target }
}

/** The anchor that links to a heading use. */
export function anchorOf(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s-]/gu, '')
    .trim()
    .replaceAll(/\s/g, '-')
}
