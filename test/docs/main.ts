import { writeTables } from './generated.ts'

/** `npm run docs`: writes the tables that are made from the code. */
const changed = writeTables()
console.log(changed.length > 0 ? `Updated ${changed.join(', ')}.` : 'All tables are up to date.')
