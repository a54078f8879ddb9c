-- One text for SQLite and Postgres: BIGINT and TEXT only. Times are milliseconds since 1970, lists and maps JSON,
-- hashes 64 hexadecimal digits, money micro-dollars.

-- Organisations, teams and owners: whoever holds limits besides keys.
CREATE TABLE holders (
    id TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    email TEXT,
    team_id TEXT REFERENCES holders (id),
    organisation_id TEXT REFERENCES holders (id),
    limits TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_unix_ms BIGINT NOT NULL,
    UNIQUE (kind, name)
);
CREATE INDEX holders_by_creation ON holders (created_unix_ms, id);
CREATE INDEX holders_by_team ON holders (team_id);
CREATE INDEX holders_by_organisation ON holders (organisation_id);

CREATE TABLE keys (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    tier TEXT NOT NULL,
    owner_id TEXT REFERENCES holders (id),
    team_id TEXT REFERENCES holders (id),
    organisation_id TEXT REFERENCES holders (id),
    models TEXT NOT NULL,
    endpoints TEXT NOT NULL,
    networks TEXT NOT NULL,
    metadata TEXT NOT NULL,
    limits TEXT NOT NULL,
    created_unix_ms BIGINT NOT NULL,
    expires_unix_ms BIGINT,
    revoked_unix_ms BIGINT,
    rotated_unix_ms BIGINT,
    last_used_unix_ms BIGINT
);
CREATE INDEX keys_by_creation ON keys (created_unix_ms, id);
CREATE INDEX keys_by_owner ON keys (owner_id);
CREATE INDEX keys_by_team ON keys (team_id);
CREATE INDEX keys_by_organisation ON keys (organisation_id);

-- The secrets of a key by hash: the one in force, and those that were rotated away, each to its end.
CREATE TABLE key_secrets (
    sha256 TEXT PRIMARY KEY NOT NULL,
    key_id TEXT NOT NULL REFERENCES keys (id),
    created_unix_ms BIGINT NOT NULL,
    ends_unix_ms BIGINT
);
CREATE INDEX key_secrets_by_key ON key_secrets (key_id);

CREATE TABLE applications (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    email TEXT NOT NULL,
    purpose TEXT NOT NULL,
    address TEXT NOT NULL,
    status TEXT NOT NULL,
    created_unix_ms BIGINT NOT NULL,
    decided_unix_ms BIGINT,
    decided_by TEXT,
    reason TEXT,
    key_id TEXT REFERENCES keys (id)
);
CREATE INDEX applications_by_creation ON applications (created_unix_ms, id);

-- One row for each request, and for each attempt that was billed and replaced. Names of holders and keys are no
-- references: what was used stays true when they are gone.
CREATE TABLE usage_records (
    id TEXT PRIMARY KEY NOT NULL,
    request_id TEXT NOT NULL,
    at_unix_ms BIGINT NOT NULL,
    attempt TEXT NOT NULL,
    status BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    tier TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    team_id TEXT NOT NULL,
    organisation_id TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    upstream_model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    estimated BIGINT NOT NULL,
    price_version TEXT NOT NULL,
    cost_microusd BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    audio_input_tokens BIGINT NOT NULL,
    image_input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    audio_output_tokens BIGINT NOT NULL,
    images BIGINT NOT NULL,
    characters BIGINT NOT NULL,
    audio_ms BIGINT NOT NULL,
    searches BIGINT NOT NULL,
    documents BIGINT NOT NULL
);
CREATE INDEX usage_records_by_time ON usage_records (at_unix_ms, id);
CREATE INDEX usage_records_by_key ON usage_records (key_id, at_unix_ms);

-- Sums of the above by hour: what questions are answered from.
CREATE TABLE usage_hours (
    hour_unix_ms BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    tier TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    team_id TEXT NOT NULL,
    organisation_id TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    requests BIGINT NOT NULL,
    replaced_attempts BIGINT NOT NULL,
    estimated BIGINT NOT NULL,
    cost_microusd BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    audio_input_tokens BIGINT NOT NULL,
    image_input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    audio_output_tokens BIGINT NOT NULL,
    images BIGINT NOT NULL,
    characters BIGINT NOT NULL,
    audio_ms BIGINT NOT NULL,
    searches BIGINT NOT NULL,
    documents BIGINT NOT NULL,
    PRIMARY KEY (hour_unix_ms, key_id, tier, owner_id, team_id, organisation_id, model, provider, endpoint)
);
CREATE INDEX usage_hours_by_key ON usage_hours (key_id, hour_unix_ms);

-- What was used of limits over days and months, so that it survives a restart.
CREATE TABLE limit_counters (
    holder TEXT NOT NULL,
    name TEXT NOT NULL,
    window_unix_ms BIGINT NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (holder, name, window_unix_ms)
);
CREATE INDEX limit_counters_by_window ON limit_counters (window_unix_ms);

CREATE TABLE audit_log (
    id TEXT PRIMARY KEY NOT NULL,
    at_unix_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    via TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_log_by_time ON audit_log (at_unix_ms, id);
CREATE INDEX audit_log_by_object ON audit_log (object, at_unix_ms);

-- Creations that may be asked for twice.
CREATE TABLE idempotency_keys (
    actor TEXT NOT NULL,
    name TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    object TEXT NOT NULL,
    created_unix_ms BIGINT NOT NULL,
    PRIMARY KEY (actor, name)
);

CREATE TABLE admin_tokens (
    id TEXT PRIMARY KEY NOT NULL,
    sha256 TEXT NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    created_unix_ms BIGINT NOT NULL,
    expires_unix_ms BIGINT,
    revoked_unix_ms BIGINT
);
CREATE INDEX admin_tokens_by_creation ON admin_tokens (created_unix_ms, id);

-- Every change of keys and holders has a number. The row lock on the sequence makes numbers commit in order, so
-- that who has seen one has seen all below it.
CREATE TABLE change_sequence (
    one BIGINT PRIMARY KEY NOT NULL,
    last BIGINT NOT NULL
);
INSERT INTO change_sequence (one, last) VALUES (1, 0);

CREATE TABLE changes (
    number BIGINT PRIMARY KEY NOT NULL,
    object TEXT NOT NULL,
    at_unix_ms BIGINT NOT NULL
);
