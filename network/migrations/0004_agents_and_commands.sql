-- Numbers that rise with what is watched, so that nobody looks at all of it when something else has changed.
CREATE TABLE revisions (
    topic  TEXT    PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO revisions (topic, number) VALUES ('access', 0), ('secrets', 0);

CREATE TRIGGER tokens_updated AFTER UPDATE ON tokens BEGIN UPDATE revisions SET number = number + 1 WHERE topic = 'access'; END;
CREATE TRIGGER tokens_deleted AFTER DELETE ON tokens BEGIN UPDATE revisions SET number = number + 1 WHERE topic = 'access'; END;
CREATE TRIGGER rules_inserted AFTER INSERT ON rules BEGIN UPDATE revisions SET number = number + 1 WHERE topic = 'access'; END;
CREATE TRIGGER rules_updated AFTER UPDATE ON rules BEGIN UPDATE revisions SET number = number + 1 WHERE topic = 'access'; END;
CREATE TRIGGER rules_deleted AFTER DELETE ON rules BEGIN UPDATE revisions SET number = number + 1 WHERE topic = 'access'; END;
CREATE TRIGGER secrets_inserted AFTER INSERT ON secrets BEGIN UPDATE revisions SET number = number + 1 WHERE topic = 'secrets'; END;
CREATE TRIGGER secrets_updated AFTER UPDATE ON secrets BEGIN UPDATE revisions SET number = number + 1 WHERE topic = 'secrets'; END;
CREATE TRIGGER secrets_deleted AFTER DELETE ON secrets BEGIN UPDATE revisions SET number = number + 1 WHERE topic = 'secrets'; END;

-- Runs of the network. One that was not seen for long has died. Times here and below are milliseconds since 1970.
CREATE TABLE nodes (
    id   TEXT    PRIMARY KEY,
    name TEXT    NOT NULL,
    seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The sessions of agents, and of an agent that has none the last one.
CREATE TABLE sessions (
    id        TEXT    PRIMARY KEY,
    node      TEXT    NOT NULL,
    account   INTEGER NOT NULL REFERENCES accounts (id),
    agent     TEXT    NOT NULL,
    token     TEXT    NOT NULL,
    address   TEXT    NOT NULL,
    software  TEXT    NOT NULL,
    metadata  TEXT    NOT NULL,
    endpoints TEXT    NOT NULL,
    bound     INTEGER NOT NULL,
    parked    INTEGER NOT NULL,
    began     INTEGER NOT NULL,
    gone      INTEGER
) STRICT;

CREATE INDEX sessions_agent ON sessions (account, agent);
CREATE INDEX sessions_node ON sessions (node);
CREATE INDEX sessions_gone ON sessions (gone) WHERE gone IS NOT NULL;

-- What agents were asked to do, and what came of it.
CREATE TABLE commands (
    id       TEXT    PRIMARY KEY,
    account  INTEGER NOT NULL REFERENCES accounts (id),
    agent    TEXT    NOT NULL,
    command  TEXT    NOT NULL,
    text     TEXT    NOT NULL,
    document BLOB,
    author   TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    expires  INTEGER NOT NULL,
    state    TEXT    NOT NULL,
    node     TEXT,
    session  TEXT,
    changed  INTEGER NOT NULL,
    code     INTEGER,
    answer   TEXT
) STRICT;

CREATE INDEX commands_open ON commands (expires) WHERE state IN ('waiting', 'sent');
CREATE INDEX commands_agent ON commands (account, agent) WHERE state IN ('waiting', 'sent');
CREATE INDEX commands_created ON commands (created);
