/** Opens a history, which copies and migrates an old one, and is killed meanwhile. */
import { openHistory } from '#db/history.ts'

process.stdout.write('opening\n')
openHistory(process.argv[2] as string).close()
