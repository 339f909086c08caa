/** A repair's record: its kind, the text it was fitted on, and every projection. */
export const repair0004 = 'ALTER TABLE run_documents ADD COLUMN repair TEXT;'
