CREATE TABLE accounts (
    id      INTEGER PRIMARY KEY,
    name    TEXT    NOT NULL UNIQUE,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    id          TEXT    PRIMARY KEY,
    account     INTEGER NOT NULL REFERENCES accounts (id),
    hash        BLOB    NOT NULL,
    description TEXT    NOT NULL,
    created     INTEGER NOT NULL,
    revoked     INTEGER
) STRICT;

CREATE TABLE rules (
    token TEXT NOT NULL REFERENCES tokens (id),
    rule  TEXT NOT NULL,
    PRIMARY KEY (token, rule)
) STRICT, WITHOUT ROWID;

CREATE TABLE endpoints (
    endpoint TEXT    PRIMARY KEY,
    owned    TEXT    NOT NULL,
    account  INTEGER NOT NULL REFERENCES accounts (id),
    claimed  INTEGER NOT NULL,
    bound    INTEGER NOT NULL
) STRICT;

CREATE INDEX endpoints_owned ON endpoints (owned);
CREATE INDEX endpoints_account ON endpoints (account);
