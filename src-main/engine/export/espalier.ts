import { formatTitles } from '#contract/titles.ts'
import type { BlockLayout } from '#engine/architectures/spec.ts'
import { type PrunedLayout, prunedLayoutFile } from '#engine/model/pruned-layout.ts'
import { viewWithPlan } from '#engine/model/view.ts'
import { type ExportFormat, writeModelFolder } from './format.ts'
import { modelCard, readParentCard } from './model-card.ts'
import type { PackedBlock } from './packing.ts'
import { prunedTensors } from './pruned-tensors.ts'
import { slicedTensors } from './sliced-tensors.ts'

/** Only what is left: removed submodules have no tensors, every MLP its own width. This program reopens it. */
export const espalier: ExportFormat = {
  title: formatTitles.espalier,
  summary: 'The smallest: only the weights that are left, with the plan beside them. For this program.',
  async write(request) {
    const { model, plan, method } = request
    const view = viewWithPlan(model, plan, request.tensors)
    try {
      const { blocks } = view.spec
      const tensors = plan.slice
        ? await slicedTensors(view, plan.slice)
        : prunedTensors(request, { removed: 'absent', blocks: unpacked(blocks) })
      // The weights are what the plan's tensors made of them; only the account of it is left.
      const { tensors: _, ...account } = plan
      const layout: PrunedLayout = { format: 1, parent: model.name, method, blocks: [...blocks], plan: account }
      await writeModelFolder(request, {
        tensors,
        config: model.checkpoint.config,
        files: {
          [prunedLayoutFile]: `${JSON.stringify(layout)}\n`,
          'README.md': modelCard(
            request,
            'The folder holds only what is left; removed submodules have no tensors. Open it with Espalier.',
            await readParentCard(model),
          ),
        },
      })
    } finally {
      view.dispose()
    }
  },
}

/** Every block under its own number, with what is left of it. */
function unpacked(blocks: readonly BlockLayout[]): PackedBlock[] {
  return blocks.map(({ attention, width }, index) => ({ attention: attention ? index : undefined, mlp: width > 0 ? index : undefined }))
}
