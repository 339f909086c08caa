import { z } from 'zod'

/**
 * What a call does with a path on this machine. `read` reads a file or folder, or a named data set. `write` creates a folder inside those
 * of the settings. `choose` sets a folder in the settings or of a cluster. Every field that holds a path has one of these marks, and the
 * workbench checks all marked paths in one place before the call.
 */
type PlaceUse = 'read' | 'write' | 'choose'

const place = (use: PlaceUse) => z.string().max(4096).meta({ place: use })

export const readPlace = place('read')
export const writePlace = place('write')
export const chosenPlace = place('choose')

/** A marked field of a value, with a way to replace its path. */
export interface NamedPlace {
  use: PlaceUse
  path: string
  replace(path: string): void
}

/** Finds every path in the marked fields of a value. */
export function placesIn(schema: z.ZodType, value: unknown, replace: (path: string) => void = () => {}): NamedPlace[] {
  const use = schema.meta()?.place as PlaceUse | undefined
  if (use !== undefined) return typeof value === 'string' ? [{ use, path: value, replace }] : []
  const holder = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  return innerSchemas(schema).flatMap(([key, inner]) => {
    if (key === undefined) return placesIn(inner, value, replace)
    const keys = key === '*' ? Object.keys(holder) : Object.hasOwn(holder, key) ? [key] : []
    return keys.flatMap((one) => placesIn(inner, holder[one], (path) => (holder[one] = path)))
  })
}

/** Returns the direct sub-schemas of a schema. Their keys are a field's name, `*` for all items, or undefined for the same value. */
export function innerSchemas(schema: z.ZodType): [key: string | undefined, schema: z.ZodType][] {
  const definition = schema.def as unknown as Record<string, z.ZodType & z.ZodType[]> & { type: string; shape?: Record<string, z.ZodType> }
  if (definition.shape) return Object.entries(definition.shape)
  if (definition.type === 'array') return [['*', definition.element as z.ZodType]]
  if (definition.type === 'record') return [['*', definition.valueType as z.ZodType]]
  if (definition.type === 'tuple') return [...(definition.items as z.ZodType[])].map((item) => ['*', item])
  if (definition.options) return [...definition.options].map((option) => [undefined, option])
  return [definition.innerType, definition.in, definition.out, definition.left, definition.right].flatMap((inner) =>
    inner ? [[undefined, inner] as [undefined, z.ZodType]] : [],
  )
}
