/** What the experts of a run's mixtures were judged by. */
export const experts0015 = 'ALTER TABLE run_documents ADD COLUMN experts TEXT;'
