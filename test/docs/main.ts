import { pages, writeParts } from './generated.ts'
import { registries, registryFiles } from './registries.ts'

/** `npm run generate`: writes the registries from the files that they list, and the tables of the documentation from the code. */
const code = writeParts(Object.values(registryFiles), registries)
// Loaded afterwards: it imports the registries, which must not name missing files.
const { tables } = await import('./tables.ts')
const changed = [...code, ...writeParts(pages, tables)]
console.log(changed.length > 0 ? `Updated ${changed.join(', ')}.` : 'Everything that is generated is up to date.')
