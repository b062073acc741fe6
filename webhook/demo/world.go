package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// World holds the runs of an application, and its deliveries on their way. The same seed
// makes the same one, the day apart.
type World struct {
	Runs  int
	Keys  []store.Key
	Truth map[store.Key]int64 // runs that completed or failed
	// Arrivals are the deliveries in the order in which they arrive.
	Arrivals []Arrival
	Recounts []Recount
	// Twice are the deliveries that come twice, Disordered those that a later one of
	// their run overtook, Lost the outcomes that never come, and Overwritten those
	// that the application wrote over.
	Twice, Disordered, Lost, Overwritten int
}

// Arrival is one delivery on its way.
type Arrival struct {
	Key    store.Key
	Run    store.ID
	Status store.Status // of its record
	Body   []byte
	step   int           // the number of the change among those of its run
	at     time.Duration // when it arrives, from the beginning
}

// Recount is a naive recount that reads before some arrivals and writes after
// them, though another one has read and written in between.
type Recount struct {
	Key           store.Key
	reads, writes int // before which arrivals
}

// longestDelay bounds the way of a delivery, in the time of the world: a
// run's three changes lie within a few seconds, so many overtake each other.
const longestDelay = 6 * time.Second

// NewWorld returns the world of a seed, in which so many runs begin 50 ms apart.
func NewWorld(seed uint64, runs int, begun time.Time) (*World, error) {
	r := rand.New(rand.NewPCG(seed, 0))
	w := &World{Runs: runs, Truth: map[store.Key]int64{}}
	id := func(kind, n int) store.ID {
		var b [16]byte
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		b[0], b[6], b[8] = byte(kind), 0x40|b[6]&0x0f, 0x80|b[8]&0x3f
		b[14], b[15] = byte(n>>8), byte(n)
		return store.UUID(b)
	}
	for user := range 24 {
		owner := id(0x11, user)
		for ref := range 3 {
			w.Keys = append(w.Keys, store.KeyOf(owner, id(0xaa, ref), store.ID{}))
		}
	}
	for n := range runs {
		key := w.Keys[r.IntN(len(w.Keys))]
		if err := w.live(r, id(0x22, n), key, begun.Add(time.Duration(n)*50*time.Millisecond), begun); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(w.Arrivals, func(a, b Arrival) int { return int(a.at - b.at) })
	latest := map[store.ID]int{}
	for _, a := range w.Arrivals {
		if a.step < latest[a.Run] {
			w.Disordered++
		}
		latest[a.Run] = max(latest[a.Run], a.step)
	}
	for range max(1, runs/150) {
		reads := r.IntN(len(w.Arrivals))
		w.Recounts = append(w.Recounts, Recount{w.Keys[r.IntN(len(w.Keys))], reads, min(reads+len(w.Arrivals)/5, len(w.Arrivals)-1)})
	}
	return w, nil
}

// live is the life of one run. The application writes its outcome once; the
// network loses, doubles and delays what tells of it.
func (w *World) live(r *rand.Rand, id store.ID, key store.Key, created, begun time.Time) error {
	row := api.Row{ID: id, User: key.User, Workflow: key.Ref, Status: store.Pending, CreatedAt: api.Instant(created), UpdatedAt: api.Instant(created)}
	step := 0
	tell := func(old *api.Row, lost bool) error {
		step++
		change := api.Change{Type: "UPDATE", Schema: "public", Table: "workflow_runs", Record: &row, Old: old}
		if old == nil {
			change.Type = "INSERT"
		}
		var body bytes.Buffer
		if err := json.NewEncoder(&body).Encode(change); err != nil {
			return fmt.Errorf("write a webhook: %w", err)
		}
		copies := 1
		switch {
		case lost:
			copies = 0
		case r.IntN(4) == 0:
			copies = 2
			w.Twice++
		}
		for range copies {
			delay := time.Duration(r.Int64N(int64(longestDelay)))
			w.Arrivals = append(w.Arrivals, Arrival{key, id, row.Status, body.Bytes(), step, time.Time(row.UpdatedAt).Sub(begun) + delay})
		}
		return nil
	}
	if err := tell(nil, false); err != nil {
		return err
	}
	move := func(to store.Status, after time.Duration, lost bool) error {
		old := row
		row.Status = to
		row.UpdatedAt = api.Instant(time.Time(row.UpdatedAt).Add(after))
		switch {
		case to.Terminal():
			row.CompletedAt = row.UpdatedAt
		case time.Time(row.StartedAt).IsZero():
			row.StartedAt = row.UpdatedAt
		default:
			row.CompletedAt = api.Instant{} // a late "running" takes it away
		}
		return tell(&old, lost)
	}
	if err := move(store.Running, 200*time.Millisecond, false); err != nil {
		return err
	}
	outcome, lost, overwritten := store.Completed, false, false
	switch n := r.IntN(100); {
	case n < 10:
		outcome = store.Failed
	case n < 14:
		outcome = store.Cancelled
	case n < 18:
		outcome = store.Timeout
	case n < 22:
		lost = true
		w.Lost++
	case n < 30:
		overwritten = true
		w.Overwritten++
	}
	if err := move(outcome, time.Second+time.Duration(r.IntN(3000))*time.Millisecond, lost); err != nil {
		return err
	}
	if outcome == store.Completed || outcome == store.Failed {
		w.Truth[key]++
	}
	if overwritten {
		return move(store.Running, 100*time.Millisecond, false)
	}
	return nil
}

// Compare returns the sum of counts, and the number of them that differ from the
// truth.
func (w *World) Compare(counts map[store.Key]int64) (total int64, wrong int) {
	for _, key := range w.Keys {
		total += counts[key]
		if counts[key] != w.Truth[key] {
			wrong++
		}
	}
	return total, wrong
}

// Example returns the key at which counts are furthest off.
func (w *World) Example(counts map[store.Key]int64) (worst store.Key) {
	off := int64(-1)
	for _, key := range w.Keys {
		if d := max(counts[key]-w.Truth[key], w.Truth[key]-counts[key]); d > off {
			worst, off = key, d
		}
	}
	return worst
}
