/** Opens a history with one more migration, so that it is copied and migrated, and is killed meanwhile. */
import { openHistory } from '#db/history.ts'
import { migrations } from '#db/migrate.ts'

process.stdout.write('opening\n')
const change = 'ALTER TABLE filler ADD COLUMN size; UPDATE filler SET size = length(bytes)'
openHistory(process.argv[2] as string, undefined, [...migrations, change]).close()
