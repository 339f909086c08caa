import { existsSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { connect } from '#db/database.ts'
import { eventually } from '../eventually.ts'
import { heldRun, oneRun, openedWorkbench, runEnded } from '../services/opened.ts'

// Windows does not let a folder with open files be moved.
test.skipIf(process.platform === 'win32')(
  'a data folder that vanishes under a run holds everything until it is back, and nothing is written meanwhile',
  async () => {
    await using workbench = await openedWorkbench({ onObstacle: () => {}, retryMilliseconds: 50 })
    const { call, folder } = workbench
    const { options, letGo } = heldRun(workbench)
    const { id } = await oneRun(workbench, options)
    await eventually(async () => (await call('runs.get', { id })).stepsDone >= 3, 'three steps')
    letGo()
    renameSync(folder, `${folder}-away`)
    const state = await eventually(
      () => call('queue.get', {}),
      ({ obstacle }) => obstacle !== null,
    )
    expect(state.obstacle).toMatchObject({
      kind: 'failing',
      message: expect.stringMatching(
        /history\.sqlite cannot be written: It is no longer there\. .*Put it back\. Espalier continues by itself/,
      ),
    })
    await expect(oneRun(workbench, {}, 1)).rejects.toMatchObject({ code: 'disk' })
    // Reading continues, and no new folder takes the place of the one that is away.
    expect((await call('runs.query', {})).total).toBe(1)
    expect(existsSync(folder)).toBe(false)
    renameSync(`${folder}-away`, folder)
    expect(await runEnded(workbench, id)).toMatchObject({ status: 'done', stepsDone: 8, problem: null })
    expect((await runEnded(workbench, (await oneRun(workbench, {}, 1)).id)).status).toBe('done')
    expect((await call('queue.get', {})).obstacle).toBeNull()
    await workbench.close()
    const other = connect(join(folder, 'history.sqlite'))
    expect(other.prepare("SELECT count(*) FROM runs WHERE status = 'done'").pluck().get()).toBe(2)
    other.close()
  },
)
