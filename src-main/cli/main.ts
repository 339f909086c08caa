import { argv, exit, stdout } from 'node:process'
import { runCommandLine } from './command-line.ts'

// A closed pipe is not an error: the reader (head, less) has seen enough.
stdout.on('error', (error: NodeJS.ErrnoException) => exit(error.code === 'EPIPE' ? 0 : 1))

process.exitCode = await runCommandLine(argv.slice(2))
