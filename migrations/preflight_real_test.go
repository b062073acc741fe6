package migrations

// realTables are tables of that name in public repositories: their columns,
// types and words.
var realTables = []unusual{
	{
		name: "case R1: organisations, an enum, finished_at",
		table: `create type run_status as enum ('pending', 'running', 'completed', 'failed', 'cancelled');
create table workflow_runs (id uuid primary key default gen_random_uuid(), org_id uuid not null, workflow_id uuid not null, status run_status not null default 'pending',
    triggered_by_user uuid, started_at timestamptz, finished_at timestamptz, error text);`,
		life: `insert into workflow_runs (org_id, workflow_id) values ('` + alice + `', '` + flow + `');
update workflow_runs set status = 'running', started_at = now(); update workflow_runs set status = 'completed', finished_at = now(); delete from workflow_runs;`,
		want: []string{refusedHead + "there is no column user_id: if org_id is what plays the role user, say --column user=org_id; " +
			"with every mapping that could be guessed it can be, check each: runcounter migrate up --column user=org_id" + refusedTail},
	},
	{
		name: "case R2: the workflow is a type, and it succeeded",
		table: `create table people (id uuid primary key); insert into people values ('` + alice + `');
create table workflow_runs (id uuid primary key default gen_random_uuid(), user_id uuid not null references people on delete cascade, workflow_type text not null,
    status text not null default 'queued' check (status in ('queued', 'running', 'succeeded', 'failed', 'canceled')), error text, result jsonb,
    created_at timestamptz not null default now(), started_at timestamptz, completed_at timestamptz);`,
		life: `insert into workflow_runs (user_id, workflow_type) values ('` + alice + `', 'mail');
update workflow_runs set status = 'running', started_at = now(); update workflow_runs set status = 'succeeded', completed_at = now(); delete from workflow_runs;`,
		want: []string{"there is no column workflow_id: if workflow_type is what plays the role workflow, say --column workflow=workflow_type",
			"runcounter migrate up --column workflow=workflow_type --status canceled=cancelled --status queued=pending --status succeeded=completed" + refusedTail},
	},
	{
		name: "case R3: counted by creator, and a workspace",
		table: `create table people (id uuid primary key); insert into people values ('` + alice + `');
create table workflow_runs (id uuid primary key default gen_random_uuid(), workspace_id uuid not null, created_by uuid references people on delete restrict, workflow_name text not null,
    status text not null check (status in ('running', 'completed', 'failed')), error_message text,
    started_at timestamptz, completed_at timestamptz, created_at timestamptz not null default now(), updated_at timestamptz not null default now(), unique (workspace_id, id));`,
		life: `insert into workflow_runs (workspace_id, created_by, workflow_name, status) values ('` + bob + `', '` + alice + `', 'mail', 'running');
update workflow_runs set status = 'completed', completed_at = now(); delete from workflow_runs;`,
		want: []string{"there is no column user_id: if workspace_id is what plays the role user, say --column user=workspace_id", "there is no column workflow_id: if workflow_name is what plays the role workflow, say --column workflow=workflow_name"},
	},
	{
		name: "case R5: an organisation, and a time to come",
		table: `create table workflow_runs (id uuid primary key default gen_random_uuid(), organization_id uuid not null, workflow_id uuid not null, next_run_at timestamptz,
    status text not null default 'queued' check (status in ('queued', 'running', 'waiting', 'completed', 'failed', 'cancelled')),
    started_at timestamptz, completed_at timestamptz, created_at timestamptz not null default now(), updated_at timestamptz not null default now());`,
		life: `insert into workflow_runs (organization_id, workflow_id, next_run_at) values ('` + alice + `', '` + flow + `', now() + interval '1 day');
update workflow_runs set status = 'waiting', started_at = now(); update workflow_runs set status = 'completed', completed_at = now(); delete from workflow_runs;`,
		want: []string{"there is no column user_id: if organization_id is what plays the role user, say --column user=organization_id"},
	},
	{
		name: "case R6: no user, no workflow, no end",
		table: `create table workflow_runs (id uuid primary key default gen_random_uuid(), status text not null default 'CREATED',
    created_at timestamptz not null default now(), last_updated_at timestamptz not null default now());`,
		life: `insert into workflow_runs default values; update workflow_runs set status = 'DONE', last_updated_at = now(); delete from workflow_runs;`,
		want: []string{"there is no column user_id: ", "there is no column workflow_id: ", "there is no column completed_at: ", "add column completed_at timestamptz"},
	},
	{
		name: "case R7: a counselor, and another duration",
		table: `create table workflow_runs (id uuid primary key default gen_random_uuid(), counselor_id uuid not null, workflow_id uuid not null, execution_time_ms integer,
    status varchar(20) not null check (status in ('running', 'completed', 'failed', 'cancelled')),
    started_at timestamptz, completed_at timestamptz, created_at timestamptz not null default now());`,
		life: `insert into workflow_runs (counselor_id, workflow_id, status) values ('` + alice + `', '` + flow + `', 'running');
update workflow_runs set status = 'completed', completed_at = now(), execution_time_ms = 5; delete from workflow_runs;`,
		want: []string{refusedHead + "there is no column user_id: if counselor_id is what plays the role user, say --column user=counselor_id; " +
			"with every mapping that could be guessed it can be, check each: runcounter migrate up --column user=counselor_id --column duration_ms=execution_time_ms" + refusedTail},
	},
	{
		name: "case R8: serial ids, a wallet, times without zone",
		table: `create table flows (id integer primary key); insert into flows values (1);
create table workflow_runs (id serial primary key, run_uuid text unique, triggered_by text, workflow_id integer references flows on delete cascade,
    status text not null check (status in ('running', 'completed', 'failed', 'cancelled')), started_at timestamp, completed_at timestamp);`,
		life: `insert into workflow_runs (run_uuid, triggered_by, workflow_id, status) values (gen_random_uuid(), '0xabc', 1, 'running');
update workflow_runs set status = 'completed', completed_at = now(); delete from workflow_runs;`,
		want: []string{refusedHead + "there is no column user_id: if triggered_by is what plays the role user, say --column user=triggered_by; " +
			"with every mapping that could be guessed it can be, check each: runcounter migrate up --column user=triggered_by" + refusedTail},
	},
	{
		name: "case R9: ids of text",
		table: `create table workflow_runs (id text primary key, user_id text, tenant_id text, parent_run_id text, status text,
    created_at timestamptz not null default now(), updated_at timestamptz not null default now(), completed_at timestamptz);`,
		life: `insert into workflow_runs (id, user_id, tenant_id, status) values (gen_random_uuid()::text, 'user_2ab', 'org_1', 'running');
update workflow_runs set status = 'completed', completed_at = now(); delete from workflow_runs;`,
		want: []string{refusedHead + "there is no column workflow_id: another that plays the role is named with --column workflow=NAME, and where there is none, and all runs of a user are one count, with --column workflow=; " +
			"with every mapping that could be guessed it can be, check each: runcounter migrate up --column workflow=" + refusedTail},
	},
	{
		name: "case R10: varchar everywhere",
		table: `create table people (id text primary key); insert into people values ('p');
create table workflow_runs (id varchar(255) primary key, triggered_by text references people on delete set null, workflow_id varchar(255), status varchar(50) default 'started',
    started_at timestamp, completed_at timestamp);`,
		life: `insert into workflow_runs (id, triggered_by, workflow_id) values (gen_random_uuid(), 'p', 'w');
update workflow_runs set status = 'completed', completed_at = now(); delete from workflow_runs;`,
		want: []string{refusedHead + "there is no column user_id: if triggered_by is what plays the role user, say --column user=triggered_by; " +
			"with every mapping that could be guessed it can be, check each: runcounter migrate up --column user=triggered_by --status started=running" + refusedTail},
	},
	{
		name: "case R11: milliseconds since 1970, in camel case",
		table: `create table flows (id varchar(191) primary key); insert into flows values ('w');
create table workflow_runs (id varchar(191) primary key, workflow_id varchar(191) references flows on delete set null, status varchar(32), log json, meta json,
    "startedAt" bigint, "finishedAt" bigint, "createdAt" bigint not null, "updatedAt" bigint);`,
		life: `insert into workflow_runs (id, workflow_id, status, "createdAt") values (gen_random_uuid(), 'w', 'running', 1769904000000);
update workflow_runs set status = 'success', "finishedAt" = 1769904000001; delete from workflow_runs;`,
		want: []string{"there is no column user_id: ", "startedAt is bigint: say what it counts since 1970, with --times milliseconds or --times seconds; "},
		say:  []string{"--status", "success=completed"},
	},
	{
		name: "case R12: ids of varchar, an enum by value",
		table: `create type workflowstatus as enum ('running', 'completed', 'failed');
create table flows (id varchar(36) primary key); insert into flows values ('w');
create table workflow_runs (id varchar(36) primary key, workflow_id varchar(36) references flows on delete cascade, status workflowstatus not null,
    started_at timestamptz, finished_at timestamptz, failure_reason text, progress_metadata json);`,
		life: `insert into workflow_runs (id, workflow_id, status, started_at) values (gen_random_uuid()::text, 'w', 'running', now());
update workflow_runs set status = 'completed', finished_at = now(); delete from workflow_runs;`,
		want: []string{"; with every mapping that could be guessed it can be, check each: runcounter migrate up --column user=" + refusedTail},
	},
	{
		name: "case R13: no end",
		table: `create table workflow_runs (id uuid primary key default gen_random_uuid(), user_id uuid not null, workflow_id uuid not null, status varchar(20) not null default 'running',
    created_at timestamptz not null default now(), updated_at timestamptz not null default now());`,
		life: `insert into workflow_runs (user_id, workflow_id) values ('` + alice + `', '` + flow + `'); update workflow_runs set status = 'completed', updated_at = now(); delete from workflow_runs;`,
		want: []string{refusedHead + "there is no column completed_at: another that plays the role is named with --column completed_at=NAME; what helps: alter table public.workflow_runs add column completed_at timestamptz" + refusedTail},
	},
	{
		name: "case R14: no user",
		table: `create table flows (id uuid primary key); insert into flows values ('` + flow + `');
create table workflow_runs (id uuid primary key default gen_random_uuid(), workflow_id uuid references flows on delete set null, status text not null default 'pending',
    started_at timestamptz, completed_at timestamptz, created_at timestamptz not null default now());`,
		life: `insert into workflow_runs (workflow_id) values ('` + flow + `'); update workflow_runs set status = 'completed', completed_at = now(); delete from workflow_runs;`,
		want: []string{refusedHead + "there is no column user_id: another that plays the role is named with --column user=NAME, and where there is none, and runs are counted by workflow alone, with --column user=; " +
			"with every mapping that could be guessed it can be, check each: runcounter migrate up --column user=" + refusedTail},
	},
}

// r4 is the first that is understood.
const r4 = `create table workflows (id uuid primary key, user_id uuid not null, unique (id, user_id)); insert into workflows values ('` + flow + `', '` + alice + `');
create table workflow_runs (id uuid primary key default gen_random_uuid(), user_id uuid not null, workflow_id uuid not null, error_message text,
    status text not null default 'queued' check (status in ('queued', 'running', 'completed', 'failed', 'cancelled')),
    started_at timestamptz, completed_at timestamptz, created_at timestamptz not null default now(), foreign key (workflow_id, user_id) references workflows (id, user_id));`
