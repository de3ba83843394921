-- People. email_key is the address in lower case: two spellings of it are one person.
CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL UNIQUE,
    created_us INTEGER NOT NULL
) STRICT;
