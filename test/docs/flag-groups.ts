export interface FlagGroup {
  readonly title: string
  readonly flags: { readonly flag: string; readonly help: string }[]
}

/** The groups of flags in what `espalier --help` prints: a title, then two spaces, a flag and its help, which may continue below. */
export function readFlagGroups(help: string): FlagGroup[] {
  const groups: FlagGroup[] = []
  let group: FlagGroup | undefined
  for (const line of help.split('\n')) {
    const heading = /^[A-Z][\w ]*$/.exec(line)
    const entry = /^ {2}(--\S+(?: [A-Z]\S*)?) +(\S.*)$/.exec(line)
    if (heading) group = { title: line, flags: [] }
    else if (entry && group) addFlag(groups, group, { flag: entry[1] ?? '', help: entry[2] ?? '' })
    else if (/^ {10,}\S/.test(line)) continueFlag(group, line.trim())
    else if (line.trim() === '') group = undefined
  }
  return groups
}

function addFlag(groups: FlagGroup[], group: FlagGroup, flag: FlagGroup['flags'][number]): void {
  if (group.flags.length === 0) groups.push(group)
  group.flags.push(flag)
}

function continueFlag(group: FlagGroup | undefined, text: string): void {
  const last = group?.flags.pop()
  if (last) group?.flags.push({ flag: last.flag, help: `${last.help} ${text}`.trim() })
}
