/** The id that this history and its folder of values share, and the value files that its rows no longer name: only these may be deleted. */
export const ownValues0016 = `
CREATE TABLE identity (id TEXT NOT NULL);
INSERT INTO identity(id) VALUES ('history-' || lower(hex(randomblob(8))));
CREATE TABLE released_files (file TEXT PRIMARY KEY) WITHOUT ROWID;

CREATE TRIGGER steps_deleted AFTER DELETE ON steps WHEN old.file IS NOT NULL OR old.tensors IS NOT NULL BEGIN
  INSERT OR IGNORE INTO released_files SELECT value FROM json_each(json_array(old.file, old.tensors ->> '$.file')) WHERE value IS NOT NULL;
END;
CREATE TRIGGER steps_changed AFTER UPDATE OF file, tensors ON steps WHEN old.file IS NOT NULL OR old.tensors IS NOT NULL BEGIN
  INSERT OR IGNORE INTO released_files SELECT value FROM json_each(json_array(old.file, old.tensors ->> '$.file')) WHERE value IS NOT NULL;
END;
CREATE TRIGGER documents_deleted AFTER DELETE ON run_documents BEGIN
  INSERT OR IGNORE INTO released_files
    SELECT value FROM json_each(json_array(old.plan_file, old.scores_file, old.questions_file)) WHERE value IS NOT NULL
    UNION SELECT value ->> '$.file' FROM json_each(coalesce(old.tensors, '[]'));
END;
CREATE TRIGGER documents_changed AFTER UPDATE OF plan_file, scores_file, questions_file, tensors ON run_documents BEGIN
  INSERT OR IGNORE INTO released_files
    SELECT value FROM json_each(json_array(old.plan_file, old.scores_file, old.questions_file)) WHERE value IS NOT NULL
    UNION SELECT value ->> '$.file' FROM json_each(coalesce(old.tensors, '[]'));
END;
`
