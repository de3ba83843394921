-- People. email_key is the address in lower case: two spellings of it are one person.
CREATE TABLE users (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    email TEXT COLLATE "C" NOT NULL,
    email_key TEXT COLLATE "C" NOT NULL UNIQUE,
    created_us BIGINT NOT NULL
);
