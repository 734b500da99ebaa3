-- Rows of all tables; a rowid table, so that bodies are appended and only small keys are sorted.
CREATE TABLE record (
    tbl     INTEGER NOT NULL,
    id      BLOB    NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    body    BLOB    NOT NULL,
    PRIMARY KEY (tbl, id)
) STRICT;

-- Index entries: row (tbl, id) is listed in index idx under the sort key.
CREATE TABLE listing (
    idx  INTEGER NOT NULL,
    sort BLOB    NOT NULL,
    tbl  INTEGER NOT NULL,
    id   BLOB    NOT NULL,
    PRIMARY KEY (idx, sort, tbl, id)
) STRICT, WITHOUT ROWID;
