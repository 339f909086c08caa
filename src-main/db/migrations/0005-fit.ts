/** The numbers that determined a run's fitted widths. */
export const fit0005 = 'ALTER TABLE run_documents ADD COLUMN fit TEXT;'
