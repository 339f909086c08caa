import { refuseOldNode } from '../runtime/node24.mjs'

// Imported first by every command, so that an old Node prints a message before it meets unknown syntax.
const refusal = refuseOldNode()
if (refusal) {
  console.error(refusal)
  process.exit(1)
}
