/** The numbers that the fitted widths of a run were decided by. */
export const fit0005 = 'ALTER TABLE run_documents ADD COLUMN fit TEXT;'
