package main

import (
	"fmt"
	"strings"
)

// The run of the example, and its owner.
const (
	sampleRun      = "00000000-0000-4000-8000-000000000001"
	sampleUser     = "11111111-1111-4111-8111-111111111111"
	sampleWorkflow = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
)

// sampleChange is the smallest webhook that counts: a run was running, and is
// completed.
func (s settings) sampleChange() string {
	return fmt.Sprintf(`{"type":"UPDATE","schema":"%[1]s","table":"%[2]s",
  "record":{"id":"%[3]s","user_id":"%[4]s","workflow_id":"%[5]s",
    "status":"completed","completed_at":"2026-01-31T12:00:00Z","updated_at":"2026-01-31T12:00:00Z"},
  "old_record":{"id":"%[3]s","user_id":"%[4]s","workflow_id":"%[5]s",
    "status":"running","completed_at":null,"updated_at":"2026-01-31T11:59:00Z"}}`,
		s.decoder.Schema, s.decoder.Table, sampleRun, sampleUser, sampleWorkflow)
}

// welcome tells a person what to do next, in lines to paste. It shows no
// secret, only the variable that holds it.
func (s settings) welcome(base string, db backend) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Run Counter listens on %s and keeps its counts in %s\n\n", base, db.where)
	fmt.Fprintf(&b, "Look at it in a browser: %s/\n\n", base)
	fmt.Fprintf(&b, "Point the database webhook of %s.%s at one of these:\n  %s\n  %s\n\n",
		s.decoder.Schema, s.decoder.Table, base+hookPath, base+edgePath)
	if db.source {
		b.WriteString("The runs are those of that database: what is written there counts at once, and a\nwebhook is a hint to check whether it has to be repaired. Ask for a count:\n\n")
		fmt.Fprintf(&b, "curl -sS '%s/v1/counts?user_id=%s&workflow_id=%s'%s\n\n",
			base, sampleUser, sampleWorkflow, bearer(len(s.keys) > 0, "RUNCOUNTER_API_KEY"))
		return b.String()
	}
	b.WriteString("Try it: tell it that a run completed, and ask for the count.\n\n")
	if strings.HasPrefix(s.secret, "whsec_") {
		fmt.Fprintf(&b, "runcounter send --url %s --secret \"$RUNCOUNTER_WEBHOOK_SECRET\" \\\n  --id %s --user %s --workflow %s\n\n",
			base+hookPath, sampleRun, sampleUser, sampleWorkflow)
	} else {
		fmt.Fprintf(&b, "curl -sS %s -H 'Content-Type: application/json'%s -d '%s'\n\n",
			base+hookPath, bearer(s.secret != "", "RUNCOUNTER_WEBHOOK_SECRET"), s.sampleChange())
	}
	fmt.Fprintf(&b, "curl -sS '%s/v1/counts?user_id=%s&workflow_id=%s'%s\n\n",
		base, sampleUser, sampleWorkflow, bearer(len(s.keys) > 0, "RUNCOUNTER_API_KEY"))
	b.WriteString("This is a mirror: what it doesn't receive it doesn't know. Tell it of earlier runs with\n" +
		"  psql \"$SUPABASE_DB_URL\" -Atc 'select to_jsonb(r) from workflow_runs r' | runcounter import\n\n")
	return b.String()
}

// bearer is the header that a request needs. Where a variable lists several
// secrets, its first is sent.
func bearer(needed bool, variable string) string {
	if !needed {
		return ""
	}
	return ` -H "Authorization: Bearer ${` + variable + `%%,*}"`
}
