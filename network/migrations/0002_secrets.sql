-- Keys, certificates and accounts: what is sealed says nothing without the key of the configuration.
CREATE TABLE secrets (
    kind    TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    sealed  BLOB    NOT NULL,
    changed INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- When a name whose certificate could not be issued is tried again, so that a restart is no way around a limit of the CA.
CREATE TABLE issues (
    name     TEXT    PRIMARY KEY,
    failures INTEGER NOT NULL,
    next     INTEGER NOT NULL,
    limited  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
