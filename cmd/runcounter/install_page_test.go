package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

const installPage = "../../docs/install-on-supabase.md"

// installed is the project that the page speaks of.
const installed = `
create table public.workflow_runs (
    id uuid primary key default gen_random_uuid(), user_id uuid not null, workflow_id uuid, draft_id uuid, status text,
    started_at timestamptz, completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb,
    created_at timestamptz not null default now(), updated_at timestamptz not null default now()
);
alter table public.workflow_runs enable row level security;
create policy own on public.workflow_runs for all to authenticated using ((select auth.uid()) = user_id);
insert into public.workflow_runs (id, user_id, workflow_id, draft_id, status, created_at, started_at, completed_at, updated_at)
select ('00000000-0000-4000-8000-00000000000' || n)::uuid, '11111111-1111-4111-8111-111111111111',
       case when n < 4 then 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid end, case when n = 4 then 'dddddddd-dddd-4ddd-8ddd-dddddddddddd'::uuid end,
       (array['completed', 'failed', 'running', 'completed'])[n], timestamptz '2026-01-31 12:00Z' + n * interval '1 hour',
       timestamptz '2026-01-31 12:00Z' + n * interval '1 hour', case when n <> 3 then timestamptz '2026-01-31 12:01Z' + n * interval '1 hour' end,
       timestamptz '2026-01-31 12:01Z' + n * interval '1 hour'
  from generate_series(1, 4) as n;
create function public.get_user_workflow_run_count(p_user_id uuid, p_workflow_id uuid) returns bigint
language sql security definer as
$$ select count(*) from public.workflow_runs where user_id = p_user_id and workflow_id = p_workflow_id $$;`

// TestInstallPage runs the commands of the page, one after the other, and
// compares what they print. -update writes it into the page.
func TestInstallPage(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, installed)
	pgtest.StartNet(t, address)
	pgtest.InstallVault(t, address)
	newReader(t, t.TempDir(), "DATABASE_URL="+address).follow(installPage)
}

// settled takes out what differs from run to run: today's times, secrets, and the
// progress that a busy machine has time to show.
func settled(out string) string {
	out = today.ReplaceAllStringFunc(out, func(at string) string {
		if at == capturedEnd {
			return at
		}
		return "2026-11-23T09:00:00.000000Z"
	})
	out = progress.ReplaceAllString(out, "")
	out = whsec.ReplaceAllString(out, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
	out = deliveredIn.ReplaceAllString(steady(out), "Delivered in 0.5s, 3000 webhooks")
	var b strings.Builder
	for line := range strings.Lines(out) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return b.String()
}

// capturedEnd is the end of the run in testdata/webhooks/003-lifecycle-update-completed.json.
const capturedEnd = "2026-11-22T20:10:38.209569Z"

var progress = regexp.MustCompile(`(?m)^\d+ %, \d+ of \d+ webhooks.*\n`)

var whsec = regexp.MustCompile(`whsec_[A-Za-z0-9+/=]+`)

var today = regexp.MustCompile(`20(2[7-9]|[3-9]\d)-\d\d-\d\d[T ][0-9:.]+Z|2026-(0[2-9]|1\d)-\d\d[T ][0-9:.]+Z`)
