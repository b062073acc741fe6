package webhook

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// others are tables that are not watched, of which changes arrive that look like
// a run's. Supabase's own webhook on a partitioned table sends the partition's
// name: its changes were ignored, and all looked well.
type others struct {
	mu   sync.Mutex
	seen map[string]time.Time // when last, by name
}

const (
	// maxOthers bounds the names that are kept.
	maxOthers = 10
	// othersFor is the time for which /readyz names a table of which nothing comes any
	// more.
	othersFor = 24 * time.Hour
)

// hear notes the table of a change that was ignored, and logs each once.
func (o *others) hear(name string, d Decoder, now time.Time, log *slog.Logger) {
	if name == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_, known := o.seen[name]
	if !known && len(o.seen) >= maxOthers {
		return
	}
	if o.seen == nil {
		o.seen = map[string]time.Time{}
	}
	o.seen[name] = now
	if !known {
		log.Warn("changes of a table that is not watched are ignored, and look like runs", "table", name, "watched", d.Schema+"."+d.Table, "fix", otherFix(name))
	}
}

func otherFix(name string) string {
	return "if it is a partition of the watched table, set RUNCOUNTER_PARTITIONS=" + name + ", where * stands for any text; else take its webhook off"
}

// degraded reports them as a sentence for /readyz.
func (o *others) degraded(d Decoder, now time.Time) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.seen, func(_ string, at time.Time) bool { return now.Sub(at) > othersFor })
	if len(o.seen) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(o.seen))
	return []string{fmt.Sprintf("Changes arrive and are ignored that look like runs, since %s.%s is watched and they are of %s. Fix: %s.",
		d.Schema, d.Table, strings.Join(names, ", "), otherFix(names[0]))}
}

// watches reports whether a table's changes are those of the watched one.
func (d Decoder) watches(schema, table string) bool {
	return schema == d.Schema && table == d.Table ||
		slices.ContainsFunc(d.Partitions, func(pattern string) bool { return matches(pattern, schema+"."+table) })
}

// matches reports whether a name fits a pattern, in which * stands for any text.
func matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	last := len(parts) - 1
	if last == 0 {
		return pattern == name
	}
	name, fits := strings.CutPrefix(name, parts[0])
	for _, part := range parts[1:last] {
		if fits {
			_, name, fits = strings.Cut(name, part)
		}
	}
	return fits && strings.HasSuffix(name, parts[last])
}
