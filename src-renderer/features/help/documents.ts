/** The documents of Espalier, by their part of an address, in the order of the list. They are in the program and need no network. */
export const documents = {
  start: { title: 'Start', load: () => import('../../../README.md?raw') },
  'command-line': { title: 'Command line', load: () => import('../../../docs/command-line.md?raw') },
  'models-and-formats': { title: 'Models and formats', load: () => import('../../../docs/models-and-formats.md?raw') },
  'what-broke': { title: 'What broke', load: () => import('../../../docs/what-broke.md?raw') },
  glossary: { title: 'Words', load: () => import('../../../docs/glossary.md?raw') },
  results: { title: 'Results', load: () => import('../../../docs/results.md?raw') },
  speed: { title: 'Speed', load: () => import('../../../docs/speed.md?raw') },
  clusters: { title: 'Clusters', load: () => import('../../../docs/clusters.md?raw') },
  'openai-api': { title: 'OpenAI API', load: () => import('../../../docs/openai-api.md?raw') },
  'run-document': { title: 'Run document', load: () => import('../../../docs/run-document.md?raw') },
  licence: { title: 'Licence', load: () => import('../../../LICENSE?raw') },
  notice: { title: 'Notices', load: () => import('../../../NOTICE?raw') },
} as const satisfies Record<string, { title: string; load: () => Promise<{ default: string }> }>

export type DocumentId = keyof typeof documents

export const isDocument = (id: string): id is DocumentId => Object.hasOwn(documents, id)

const pictures = import.meta.glob<string>('../../../docs/*.png', { query: '?url', import: 'default', eager: true })

/** The address of a picture of the documents. */
export const pictureOf = (target: string): string | undefined => pictures[`../../../docs/${target.replace(/^docs\//, '')}`]

/** Plain text, which is shown as it is. */
export const isPlainText = (id: DocumentId): boolean => id === 'licence' || id === 'notice'

/**
 * Where a link of a document leads: an address for the browser, a document of the program, with its heading, or nowhere, because it is a
 * file of the source code.
 */
export function linkOf(target: string, from: DocumentId): string | undefined {
  if (/^https?:/.test(target)) return target
  const [path = '', anchor] = target.split('#')
  const name = path === '' ? from : path.replace(/^(?:\.\.?\/|docs\/)+/, '').replace(/\.md$/, '')
  const id = name === 'README' ? 'start' : name
  if (!isDocument(id)) return undefined
  return `#/help/${id}${anchor ? `?at=${encodeURIComponent(anchor)}` : ''}`
}
