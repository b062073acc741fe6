package main

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

// world is what an application did and what became of its webhooks. The same
// seed makes the same one, the day apart.
type world struct {
	runs  int
	keys  []store.Key
	truth map[store.Key]int64 // runs that completed or failed
	// arrivals are the webhooks in the order in which they arrive.
	arrivals []arrival
	recounts []recountRace

	twice, disordered, lost, overwritten int
}

// arrival is one webhook on its way.
type arrival struct {
	key    store.Key
	run    store.ID
	status store.Status // of its record
	body   []byte
	step   int           // the number of the change among those of its run
	at     time.Duration // when it arrives, from the beginning
}

// recountRace is a recount that reads before some arrivals and writes after
// them, though another one has read and written in between.
type recountRace struct {
	key           store.Key
	reads, writes int // before which arrivals
}

// demoDelay is how long a webhook takes at most, in the time of the world: a
// run's three changes lie within a few seconds, so many overtake each other.
const demoDelay = 6 * time.Second

func newWorld(seed uint64, runs int, begun time.Time) (*world, error) {
	r := rand.New(rand.NewPCG(seed, 0))
	w := &world{runs: runs, truth: map[store.Key]int64{}}
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
			w.keys = append(w.keys, store.KeyOf(owner, id(0xaa, ref), store.ID{}))
		}
	}
	for n := range runs {
		key := w.keys[r.IntN(len(w.keys))]
		if err := w.live(r, id(0x22, n), key, begun.Add(time.Duration(n)*50*time.Millisecond), begun); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(w.arrivals, func(a, b arrival) int { return int(a.at - b.at) })
	latest := map[store.ID]int{}
	for _, a := range w.arrivals {
		if a.step < latest[a.run] {
			w.disordered++
		}
		latest[a.run] = max(latest[a.run], a.step)
	}
	for range max(1, runs/150) {
		reads := r.IntN(len(w.arrivals))
		w.recounts = append(w.recounts, recountRace{w.keys[r.IntN(len(w.keys))], reads, min(reads+len(w.arrivals)/5, len(w.arrivals)-1)})
	}
	return w, nil
}

// live is the life of one run. The application writes its outcome once; the
// network loses, doubles and delays what tells of it.
func (w *world) live(r *rand.Rand, id store.ID, key store.Key, created, begun time.Time) error {
	row := recordJSON{ID: id, User: key.User, Workflow: key.Ref, Status: store.Pending, CreatedAt: api.Instant(created), UpdatedAt: api.Instant(created)}
	step := 0
	tell := func(old *recordJSON, lost bool) error {
		step++
		change := changeJSON{Type: "UPDATE", Schema: "public", Table: "workflow_runs", Record: &row, Old: old}
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
			w.twice++
		}
		for range copies {
			delay := time.Duration(r.Int64N(int64(demoDelay)))
			w.arrivals = append(w.arrivals, arrival{key, id, row.Status, body.Bytes(), step, time.Time(row.UpdatedAt).Sub(begun) + delay})
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
		w.lost++
	case n < 30:
		overwritten = true
		w.overwritten++
	}
	if err := move(outcome, time.Second+time.Duration(r.IntN(3000))*time.Millisecond, lost); err != nil {
		return err
	}
	if outcome == store.Completed || outcome == store.Failed {
		w.truth[key]++
	}
	if overwritten {
		return move(store.Running, 100*time.Millisecond, false)
	}
	return nil
}
