import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

export const root = join(import.meta.dirname, '../..')

/** Every Markdown file of the project, as paths from the root. */
export const documents = ['*.md', 'docs/*.md', '{src-main,src-renderer,test}/**/README.md', 'resources/*/**/README.md'].flatMap((pattern) =>
  globSync(pattern, { cwd: root }).sort(),
)

export const readDocument = (document: string) => readFileSync(join(root, document), 'utf8')

/** Targets of links and pictures that lie in this project: `[text](target)` and `![text](target)`. */
export function linksIn(text: string): string[] {
  const targets = [...withoutBlocks(text).matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1] ?? '')
  return targets.filter((target) => !/^[a-z]+:/.test(target))
}

/** The anchors of a page's headings, as GitHub makes them. */
export function anchorsIn(text: string): string[] {
  const headings = [...withoutBlocks(text).matchAll(/^#+ (.+)$/gm)].map((match) => match[1] ?? '')
  return headings.map((heading) =>
    heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )
}

/** What is wrong with a link in a document; undefined if nothing is. */
export function problemOf(document: string, link: string): string | undefined {
  const [path = '', anchor] = link.split('#')
  const target = path === '' ? document : join(dirname(document), path)
  if (!existsSync(join(root, target))) return `${document} links to ${link}, which does not exist.`
  if (anchor !== undefined && !anchorsIn(readDocument(target)).includes(anchor))
    return `${document} links to ${link}; ${target} has no such heading.`
  return undefined
}

/** Lines of the shell blocks, continued ones joined, comments left out. */
export function commandsIn(text: string): string[] {
  const blocks = [...text.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map((match) => match[1] ?? '')
  return blocks
    .flatMap((block) => block.replaceAll('\\\n', ' ').split('\n'))
    .flatMap((line) => line.replace(/(^|\s)#.*$/, '').split('&&'))
    .map((line) => line.trim().replace(/\s+/g, ' '))
    .filter((line) => line !== '')
}

/** Inline code, without the backticks. */
export function codeIn(text: string): string[] {
  return [...withoutBlocks(text).matchAll(/`([^`\n]+)`/g)].map((match) => match[1] ?? '')
}

const withoutBlocks = (text: string) => text.replaceAll(/^```[\s\S]*?^```$/gm, '')
