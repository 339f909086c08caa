import type { Random } from './random.ts'

const numbers = [0, 1, 7, 8, 127, 128, 255, 65_535, 65_536, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]

/** A copy with one to eight changes: bytes flipped, set, cut, repeated or moved, or an impossible length. */
export function mutateBytes(source: Uint8Array, random: Random): Buffer {
  let bytes: Buffer = Buffer.from(source)
  for (let changes = 1 + random.below(8); changes > 0; changes--) bytes = changeBytes(bytes, random)
  return bytes
}

function changeBytes(bytes: Buffer, random: Random): Buffer {
  // Headers are at the beginning or end, so half of the changes are made there.
  const near = random.below(Math.min(bytes.length, 512))
  const at = random.chance(0.25) ? near : random.chance(0.33) ? Math.max(0, bytes.length - 1 - near) : random.below(bytes.length)
  const length = 1 + random.below(random.chance(0.8) ? 16 : 4096)
  switch (random.below(7)) {
    case 0:
      if (at < bytes.length) bytes[at] = (bytes[at] as number) ^ (1 << random.below(8))
      return bytes
    case 1:
      if (at < bytes.length) bytes[at] = random.pick([0, 1, 255, 128, 34, 123, 91])
      return bytes
    case 2:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)])
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at)])
    case 4:
      return Buffer.concat([
        bytes.subarray(0, at),
        Buffer.from(Array.from({ length: Math.min(length, 64) }, () => random.below(256))),
        bytes.subarray(at),
      ])
    case 5:
      if (at + 4 <= bytes.length) bytes.writeUInt32LE(random.pick(numbers), at)
      if (random.chance(0.3) && at + 8 <= bytes.length) bytes.writeUInt32LE(0, at + 4)
      return bytes
    default:
      if (random.chance(0.05))
        return Buffer.concat([bytes.subarray(0, at), Buffer.from(random.pick(['[', '{"a":', '(']).repeat(20_000)), bytes.subarray(at)])
      return random.chance(0.2) ? bytes.subarray(0, at) : bytes
  }
}

/** Values that programs often fail on. */
export function strangeValue(random: Random): unknown {
  return random.pick<() => unknown>([
    () => null,
    () => random.pick([-1, 0, 0.5, -0, 1e308, 2 ** 31, 2 ** 32, 2 ** 53, -(2 ** 53), 1e21]),
    () => random.pick([true, false]),
    () => strangeText(random),
    () => [],
    () => ({}),
    () => [null, [[]], {}, 'x'],
    () => nest(random.pick([5, 100, 1000])),
    () => ({ __proto__: null, constructor: 1, toString: 2, length: 2 ** 32 }),
    () => Array.from({ length: random.pick([10, 1000, 50_000]) }, (_, i) => i),
  ])()
}

export function strangeText(random: Random): string {
  return random.pick<() => string>([
    () => '',
    () => 'x'.repeat(random.pick([10, 1000, 100_000])),
    () => '../../../etc/passwd',
    () => '/proc/self/mem',
    () => 'a\0b',
    () => '\ud800',
    () => '(a+)+$',
    () => '(?:(?:(?:.*)*)*)*!',
    () => '[',
    () => '\\p{L}+',
    () => '{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}',
    () => '{{ messages }}',
    () => '\x1b[31m\r\n',
    () => '😀'.repeat(500),
    () => 'nan',
  ])()
}

function nest(depth: number): unknown {
  let value: unknown = []
  for (let i = 0; i < depth; i++) value = i % 2 ? [value] : { a: value }
  return value
}

/** A copy of plain data in which one to four values, keys or items are strange, missing or repeated. */
export function mutateJson(source: unknown, random: Random): unknown {
  const root = { value: structuredClone(source) }
  for (let changes = 1 + random.below(4); changes > 0; changes--) changeNode(root, random)
  return root.value
}

function changeNode(root: Record<string, unknown>, random: Random): void {
  let holder: Record<string, unknown> = root
  let key = 'value'
  while (typeof holder[key] === 'object' && holder[key] !== null && random.chance(0.85)) {
    const inner = holder[key] as Record<string, unknown>
    const keys = Object.keys(inner)
    if (keys.length === 0) break
    // Otherwise large vocabularies would get nearly all changes.
    key = random.chance(0.5) ? (keys[random.below(Math.min(keys.length, 40))] as string) : random.pick(keys)
    holder = inner
  }
  const kind = random.below(6)
  if (kind === 0 && holder !== root) delete holder[key]
  else if (kind === 1 && typeof holder[key] === 'number')
    holder[key] = random.pick([-(holder[key] as number), (holder[key] as number) * 2, (holder[key] as number) + 1, random.pick(numbers)])
  else if (kind === 2 && typeof holder[key] === 'string') holder[key] = (holder[key] as string) + strangeText(random)
  else if (kind === 3 && !Array.isArray(holder)) holder[strangeText(random).slice(0, 200)] = strangeValue(random)
  else holder[key] = strangeValue(random)
}

const templatePieces = [
  ...[
    '{{',
    '}}',
    '{%',
    '%}',
    '{%- ',
    ' -%}',
    '{#',
    '#}',
    '|',
    'for x in ',
    'endfor',
    'if ',
    'endif',
    'set s = s + s',
    'macro m(a)',
    'endmacro',
    'm(m)',
  ],
  ...[
    'messages',
    'range(9999999)',
    "message['role']",
    '[0]',
    '.content',
    ' * 9999',
    "'x'",
    'namespace(a=1)',
    'raise_exception(1)',
    'loop.index',
    '| tojson',
    '| join',
    '| indent(99999999)',
  ],
  ...[
    '(',
    ')',
    '[',
    ']',
    '~',
    '**',
    'is defined',
    'not ',
    'elif',
    'else',
    'break',
    'continue',
    'filter upper',
    'endfilter',
    'call m()',
    'endcall',
    'none',
    '-1',
  ],
]

/** A template with pieces of the language inserted, removed and repeated. */
export function mutateTemplate(source: string, random: Random): string {
  let text = source
  for (let changes = 1 + random.below(6); changes > 0; changes--) {
    const at = random.below(text.length)
    const length = random.below(40)
    if (random.chance(0.6)) text = `${text.slice(0, at)} ${random.pick(templatePieces)} ${text.slice(at)}`
    else if (random.chance(0.5)) text = text.slice(0, at) + text.slice(at + length)
    else text = text.slice(0, at + length) + text.slice(at)
  }
  return text
}
