-- Rows of all tables. Room is left on each page, so that a new version of a row can stay on the
-- page of the old one and no index is touched.
CREATE TABLE record (
    tbl     smallint NOT NULL,
    id      bytea    NOT NULL,
    version bigint   NOT NULL CHECK (version > 0),
    body    bytea    NOT NULL,
    PRIMARY KEY (tbl, id)
) WITH (fillfactor = 80);

-- Bodies hold keys and signatures, which do not compress.
ALTER TABLE record ALTER COLUMN body SET STORAGE EXTERNAL;

-- Index entries: row (tbl, id) is listed in index idx under the sort key.
CREATE TABLE listing (
    idx  smallint NOT NULL,
    sort bytea    NOT NULL,
    tbl  smallint NOT NULL,
    id   bytea    NOT NULL,
    PRIMARY KEY (idx, sort, tbl, id)
);
