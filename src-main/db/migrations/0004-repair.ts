/** What a repair did: its kind, the text that it was fitted on, and every projection. */
export const repair0004 = 'ALTER TABLE run_documents ADD COLUMN repair TEXT;'
