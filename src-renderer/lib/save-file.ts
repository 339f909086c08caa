import type { TextFile } from '#contract/identifiers.ts'

/** Saves a file as a download of the browser or of the window. */
export function saveBlob(fileName: string, blob: Blob): void {
  const address = URL.createObjectURL(blob)
  const link = document.createElement('a')
  link.href = address
  link.download = fileName
  document.body.append(link)
  link.click()
  link.remove()
  setTimeout(() => URL.revokeObjectURL(address), 10_000)
}

export function saveText(file: TextFile): void {
  saveBlob(file.fileName, new Blob([file.content], { type: file.type }))
}

/** Turns a title into a file name that every file system accepts. */
export function toFileName(title: string, ending: string): string {
  const stem = title
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
  return `${stem || 'espalier'}.${ending}`
}
