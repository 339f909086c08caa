/** Parses one prompt per line. Words with # at the end of a line are its tags. */
export function parsePrompts(text: string): { text: string; tags: string[] }[] {
  return text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter(Boolean)
    .map((line) => {
      const [ending = ''] = /(\s+#[^\s#]+)+$/.exec(line) ?? []
      return {
        text: line.slice(0, line.length - ending.length),
        tags: ending
          .split('#')
          .map((tag) => tag.trim())
          .filter(Boolean),
      }
    })
}
