/** Runs that inspect other runs, answers to single questions, tags of prompts, and blind votes on the answers of a transcript. */
export const inspections0009 = `
ALTER TABLE run_documents ADD COLUMN inspected TEXT;
ALTER TABLE run_documents ADD COLUMN outcomes TEXT;
ALTER TABLE run_documents ADD COLUMN questions TEXT;
ALTER TABLE run_documents ADD COLUMN questions_file TEXT;
ALTER TABLE transcripts ADD COLUMN prompt_tags TEXT NOT NULL DEFAULT '[]';
CREATE TABLE judgings (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  title TEXT NOT NULL,
  transcript INTEGER NOT NULL REFERENCES transcripts(number) ON DELETE CASCADE,
  pairs TEXT NOT NULL,
  created_at INTEGER NOT NULL
);
CREATE TABLE judging_votes (
  judging INTEGER NOT NULL REFERENCES judgings(number) ON DELETE CASCADE,
  pair INTEGER NOT NULL,
  vote TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (judging, pair)
) WITHOUT ROWID;
`
