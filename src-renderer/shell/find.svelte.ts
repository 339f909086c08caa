/** The names that the style sheet gives to found text. */
const [all, current] = ['found', 'found-current']

/** At most this many places are marked. */
const mostMarked = 2000

/** Finds text on the screen and marks it, without changing the page. */
export class Find {
  text = $state('')
  count = $state(0)
  /** The index of the current place. */
  at = $state(0)
  #ranges: Range[] = []

  search(root: Node | undefined, text: string): void {
    this.text = text
    this.#ranges = root ? rangesOf(root, text) : []
    this.count = this.#ranges.length
    this.at = 0
    CSS.highlights.set(all, new Highlight(...this.#ranges))
    this.#show()
  }

  move(step: number): void {
    if (this.count === 0) return
    this.at = (this.at + step + this.count) % this.count
    this.#show()
  }

  clear(): void {
    this.#ranges = []
    this.count = 0
    CSS.highlights.delete(all)
    CSS.highlights.delete(current)
  }

  #show(): void {
    const range = this.#ranges[this.at]
    CSS.highlights.set(current, range ? new Highlight(range) : new Highlight())
    range?.startContainer.parentElement?.scrollIntoView({ block: 'nearest', inline: 'nearest' })
  }
}

/** Where the text occurs, in any case of letters, within one element's own text. Hidden elements are skipped. */
function rangesOf(root: Node, text: string): Range[] {
  const wanted = text.toLowerCase()
  if (wanted === '') return []
  const ranges: Range[] = []
  const nodes = document.createTreeWalker(root, NodeFilter.SHOW_TEXT, (node) =>
    node.parentElement?.checkVisibility({ visibilityProperty: true }) ? NodeFilter.FILTER_ACCEPT : NodeFilter.FILTER_REJECT,
  )
  for (let node = nodes.nextNode(); node && ranges.length < mostMarked; node = nodes.nextNode()) {
    const content = (node.textContent ?? '').toLowerCase()
    for (let at = content.indexOf(wanted); at >= 0; at = content.indexOf(wanted, at + wanted.length)) {
      const range = new Range()
      range.setStart(node, at)
      range.setEnd(node, at + wanted.length)
      ranges.push(range)
    }
  }
  return ranges
}
