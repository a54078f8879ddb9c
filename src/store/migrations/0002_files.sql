-- Uploaded files. See src/store/files.rs for the states; the bytes are elsewhere, under the id.
CREATE TABLE files (
    id TEXT PRIMARY KEY NOT NULL,
    state TEXT NOT NULL,
    key_id TEXT NOT NULL,
    tier TEXT NOT NULL,
    shared_team TEXT,
    purpose TEXT NOT NULL,
    filename TEXT NOT NULL,
    content_type TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    created_unix_ms BIGINT NOT NULL,
    expires_unix_ms BIGINT,
    renewed_unix_ms BIGINT NOT NULL,
    ticket TEXT
);
CREATE INDEX files_by_key ON files (key_id, created_unix_ms, id);
CREATE INDEX files_by_team ON files (shared_team, created_unix_ms, id);
CREATE INDEX files_by_state ON files (state, renewed_unix_ms);
CREATE INDEX files_by_expiry ON files (expires_unix_ms);

-- What keys and tiers hold, kept with every change of a file, so that a bound costs one row and not a sum.
CREATE TABLE files_held (
    holder TEXT PRIMARY KEY NOT NULL,
    files BIGINT NOT NULL,
    bytes BIGINT NOT NULL
);
