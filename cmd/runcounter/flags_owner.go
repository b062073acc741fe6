package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
)

// idOf returns the id in a flag as it is written, and the zero ID where it is not
// set.
func idOf(cmd *cli.Command, name string) (store.ID, error) {
	text := cmd.String(name)
	if text == "" {
		return store.ID{}, nil
	}
	id, err := store.ParseID(text)
	if err != nil {
		return store.ID{}, badUsage("--%s %q is %w: write the id as the table has it", name, text, err)
	}
	return id, nil
}

// owner is whose count it is, as the three flags say.
type owner struct{ user, workflow, draft store.ID }

// ofAll reports whether neither a workflow nor a draft is named.
func (o owner) ofAll() bool { return o.workflow.IsZero() && o.draft.IsZero() }

// key is that of a database, whose table may have no users, or no workflows. It is
// the zero key where what is named is all of a user's.
func (o owner) key(ctx context.Context, db database) (store.Key, error) {
	o, err := o.in(ctx, db)
	if err != nil {
		return store.Key{}, err
	}
	if o.user.IsZero() {
		return store.Key{}, badUsage("say whose: add --user ID")
	}
	return store.KeyOf(o.user, o.workflow, o.draft), nil
}

// in fills in what the table of a database has not: its users, or its workflows. What is
// named and that the table has not is refused.
func (o owner) in(ctx context.Context, db database) (owner, error) {
	user, workflow, err := db.Absent(ctx)
	switch {
	case err != nil:
		return o, err
	case user && !o.user.IsZero():
		return o, badUsage("the table has no column that says whose a run is, and its runs are counted by workflow alone: leave out --user")
	case workflow && !o.ofAll():
		return o, badUsage("the table has no column that says what ran, and all runs of a user are one count: leave out --workflow and --draft")
	}
	if user {
		o.user = store.Absent
	}
	if workflow {
		o.workflow = store.Absent
	}
	return o, nil
}

// ownerOf reads --user, --workflow and --draft. Both refs at once are a mistake and
// not a draft, since a person types them.
func ownerOf(cmd *cli.Command) (o owner, err error) {
	for name, id := range map[string]*store.ID{"user": &o.user, "workflow": &o.workflow, "draft": &o.draft} {
		if *id, err = idOf(cmd, name); err != nil {
			return owner{}, err
		}
	}
	switch {
	case o.user.IsZero() && o.ofAll():
		return owner{}, badUsage("say whose: add --user ID")
	case !o.workflow.IsZero() && !o.draft.IsZero():
		return owner{}, badUsage("a count is a workflow's or a draft's: leave out --workflow or --draft")
	}
	return o, nil
}
