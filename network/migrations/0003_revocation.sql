-- How new the newest revocation list of each issuer and part was, so that an older one is refused after a restart too.
CREATE TABLE revocation_marks (
    scope  BLOB    PRIMARY KEY,
    number BLOB    NOT NULL,
    issued INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The last good copy of each list that is fetched.
CREATE TABLE revocation_copies (
    url  TEXT PRIMARY KEY,
    list BLOB NOT NULL
) STRICT;
