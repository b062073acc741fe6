package webhook

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
)

// TestReplayEachLeavesOutWhatIsGoneAndKeepsWhatIsCut ends at an error that is neither.
func TestReplayEachLeavesOutWhatIsGoneAndKeepsWhatIsCut(t *testing.T) {
	broken := errors.New("broken")
	letters := []store.DeadLetter{{Seq: 5}, {Seq: 4}, {Seq: 3}, {Seq: 2}, {Seq: 1}}
	results, err := ReplayEach(letters, func(seq int64) (Replayed, error) {
		r := Replayed{Seq: seq}
		switch seq {
		case 4:
			return r, ErrNoLetter
		case 3:
			return r, &NotWhole{Kept: 1, Bytes: 2}
		case 2:
			return r, broken
		}
		r.Applied = true
		return r, nil
	})
	type result struct {
		Seq     int64
		Applied bool
		Reason  string
	}
	var got []result
	for _, r := range results {
		got = append(got, result{r.Seq, r.Applied, r.Reason})
	}
	if diff := cmp.Diff([]result{{5, true, ""}, {3, false, (&NotWhole{Kept: 1, Bytes: 2}).Error()}}, got); diff != "" || !errors.Is(err, broken) {
		t.Errorf("got %v; results (-want +got):\n%s", err, diff)
	}
}
