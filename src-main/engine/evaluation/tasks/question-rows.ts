import type { HubFile } from '#contract/models/hub-file.ts'

/** A split of a published data set, read from the hub or from local files. */
export interface QuestionRows {
  readonly title: string
  readonly file: HubFile
  readonly split: string
}
