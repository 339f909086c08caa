/** What a measure was taken on, and its losses by window. Losses are long, so they have a table of their own, which lists of runs skip. */
export const measureDetails0017 = `
ALTER TABLE measure_summaries ADD COLUMN taken_on TEXT;
CREATE TABLE measure_details (
  run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
  name INTEGER NOT NULL REFERENCES measure_names(id),
  details TEXT NOT NULL,
  PRIMARY KEY (run, name)
) WITHOUT ROWID;
`
