import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { argv } from 'node:process'
import { launchBrowser } from '../browser.ts'
import { startWorkbench } from '../workbench.ts'
import { fill, keepBusy, type Subjects } from './history.ts'
import { busyPictures, emptyPictures, pictures } from './pictures.ts'
import { takeAll } from './take.ts'

/**
 * Pictures of every screen and dialog, light and dark, at three widths, full of real data: `npm run screenshots [-- FOLDER [MODEL]]`.
 * They go to `out/screenshots`, which git ignores; copy the few that the documents show to `docs` yourself.
 * The sample model and a mixture are pruned on little text, and a model of one's own (a folder) besides. Labels that are cut without a
 * way to read them end it with an error.
 */
const [folder = join(import.meta.dirname, '../../../out/screenshots'), ownModel] = argv.slice(2)
const cut = new Set<string>()

const workbench = await startWorkbench()
const browser = await launchBrowser()
try {
  await mkdir(folder, { recursive: true })
  const shooting = { browser, workbench, folder, cut }
  let taken = await takeAll(shooting, {} as Subjects, emptyPictures)
  const subjects = await fill(workbench, ownModel)
  taken += await takeAll(shooting, subjects, pictures)
  const [running = ''] = await keepBusy(workbench, subjects)
  taken += await takeAll(shooting, subjects, busyPictures(running))
  console.log(`${taken} pictures in ${folder}`)
  for (const label of cut) console.log(label)
  process.exitCode = cut.size > 0 ? 1 : 0
} finally {
  await browser.close()
  await workbench.close()
}
