import { refuseOldNode } from '../runtime/node24.mjs'

// Imported first by every command: an old Node gets a sentence before anything that it does not know is run.
const refusal = refuseOldNode()
if (refusal) {
  console.error(refusal)
  process.exit(1)
}
