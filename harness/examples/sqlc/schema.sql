create table accounts (
    name text primary key,
    balance integer not null
);
