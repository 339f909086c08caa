import type { HubFile } from '#contract/models/hub-file.ts'

/** A split of a published data set, from the hub or from files named after it. */
export interface QuestionRows {
  readonly title: string
  readonly file: HubFile
  readonly split: string
}
