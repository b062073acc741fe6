package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Partitions are those of a watched table, and how they differ from those whose
// runs are in its counts. The zero value is that of a table without any.
//
// PostgreSQL tells no trigger that one was attached, detached or dropped: all its
// runs come or go at once, and the counts stay as they were.
type Partitions struct {
	IDs  []int64  // of all that there are
	New  []string // those whose runs need not be in the counts
	Gone []string // those whose runs are in the counts, and no longer in the table
	// Untold are those of which no trigger tells when one is emptied by itself.
	Untold []string
}

// Moved reports whether runs may have come or gone with a partition.
func (p Partitions) Moved() bool { return len(p.New)+len(p.Gone) > 0 }

// changes names the partitions that came or went.
func (p Partitions) changes() string {
	var all []string
	if len(p.Gone) > 0 {
		all = append(all, "gone: "+someOf(p.Gone))
	}
	if len(p.New) > 0 {
		all = append(all, "new: "+someOf(p.New))
	}
	return strings.Join(all, "; ")
}

// someOf lists the first names, and says how many there are besides.
func someOf(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// Sentence says what came or went, and what to do; "" where nothing did.
func (p Partitions) Sentence() string { return p.sentence("") }

func (p Partitions) sentence(changed string) string {
	if !p.Moved() {
		return ""
	}
	return "The watched table has other partitions than those whose runs are in the counts (" + p.changes() + ")" + changed +
		": runcounter sweep --partitions counts the runs that are there; docs/partitions.md says what else can be done."
}

// UntoldSentence says which partitions can be emptied unseen, and what helps; ""
// where none can.
func (p Partitions) UntoldSentence() string {
	if len(p.Untold) == 0 {
		return ""
	}
	return "A TRUNCATE of one of these partitions alone is not counted until an audit finds it: " + someOf(p.Untold) +
		". The role that ran runcounter migrate up has to own them (alter table ... owner to ...), and their trigger zzzz_run_counter_ledger_truncate to be enabled; the next sweep does the rest."
}

// Withheld counts the keys that the last audit of all keys left as they were, since partitions
// came or went.
type Withheld struct {
	Keys int   // whose counts differ from the runs that are there
	Runs int64 // by how many these are more, in sum; below 0 where they are fewer
}

// PartitionSentences says what of the table's partitions waits for an operator,
// and what to do.
func (r SweepReport) PartitionSentences() (all []string) {
	for _, sentence := range []string{r.Partitions.sentence(r.Withheld.clause()), r.Partitions.UntoldSentence()} {
		if sentence != "" {
			all = append(all, sentence)
		}
	}
	return all
}

func (w Withheld) clause() string {
	switch w.Keys {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("; 1 count differs from the runs that are there, by %+d runs in all, and stays as it is until you ask", w.Runs)
	}
	return fmt.Sprintf("; %d counts differ from the runs that are there, by %+d runs in all, and stay as they are until you ask", w.Keys, w.Runs)
}

// readPartitions notes which there are.
func (s *Sweeper) readPartitions(ctx context.Context, r *SweepReport) (err error) {
	if s.Source == nil {
		return nil
	}
	if r.Partitions, err = s.Source.Partitions(ctx); err != nil {
		return fmt.Errorf("look at the table's partitions: %w", err)
	}
	return nil
}

// alreadyAudited reports whether an audit of all keys has found that these partitions
// changed counts. Then it would find the same.
func (s *Sweeper) alreadyAudited(r *SweepReport) bool {
	return s.withheld.Keys > 0 && slices.Equal(s.withheldAmong, r.Partitions.IDs)
}

// settlePartitions ends an audit: where no key was left as it was, the runs of the
// partitions that were there at its beginning are in the counts.
func (s *Sweeper) settlePartitions(ctx context.Context, r *SweepReport) error {
	if s.Source == nil || r.DryRun {
		return nil
	}
	moved := r.Partitions.Moved()
	if moved && r.Full {
		s.withheld, s.withheldAmong = r.Withheld, r.Partitions.IDs
	}
	if moved && s.alreadyAudited(r) {
		r.Withheld = s.withheld
		return nil
	}
	if r.Withheld.Keys > 0 || !moved && len(r.Partitions.Untold) == 0 {
		return nil
	}
	if err := s.Source.SettlePartitions(ctx, r.Partitions); err != nil {
		return fmt.Errorf("note which partitions are counted: %w", err)
	}
	return s.readPartitions(ctx, r)
}

// recount corrects a key, and reports false where it left it, since a partition came
// or went meanwhile.
func (s *Sweeper) recount(ctx context.Context, r *SweepReport, key Key) (done bool, err error) {
	done = true
	var recounted RecountResult
	if s.Source != nil {
		recounted, done, err = s.Source.RecountAmong(ctx, key, r.At, r.Partitions)
	} else {
		recounted, err = s.Store.Recount(ctx, key, r.At)
	}
	if err != nil {
		return true, fmt.Errorf("recount %s: %w", key, err)
	}
	if recounted.Changed() { // otherwise another sweeper was faster
		r.Corrected++
	}
	return done, nil
}
