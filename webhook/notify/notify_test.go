package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/store/storetest"
	"github.com/edgaze-ai/runcounter/webhook/webhooktest"
)

var (
	key    = []byte("0123456789abcdef0123456789abcdef")
	secret = "whsec_" + base64.StdEncoding.EncodeToString(key)
	epoch  = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
)

// told is a request that the receiver took.
type told struct {
	ID, Type string
	Data     map[string]any
}

// world is a store, a receiver and a clock, with instances that share them.
type world struct {
	*testing.T
	store *sqlite.Store
	log   *webhooktest.Log
	url   string

	mu       sync.Mutex
	now      time.Time
	failures []report.Finding
	answers  []int // of the receiver, before 204
	tries    []string
	told     []told
	down     error // of the database
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "runs.db"), sqlite.Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{T: t, store: db, now: epoch, log: &webhooktest.Log{}}
	receiver := httptest.NewServer(http.HandlerFunc(w.receive))
	t.Cleanup(receiver.Close)
	w.url = receiver.URL + "/secret-path"
	return w
}

// receive verifies a request as https://www.standardwebhooks.com has it, with code that
// shares nothing with the sender's.
func (w *world) receive(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.Error(err)
	}
	if !strings.HasPrefix(r.UserAgent(), "runcounter/") {
		w.Errorf("a notice is sent by %q, want runcounter with its version", r.UserAgent())
	}
	id, at := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp")
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
	if want, got := "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)), strings.Fields(r.Header.Get("webhook-signature")); len(got) == 0 || got[0] != want {
		w.Errorf("webhook-signature: got %q, want %q", got, want)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if at != strconv.FormatInt(w.now.Unix(), 10) {
		w.Errorf("webhook-timestamp: got %s, want the time of the try", at)
	}
	w.tries = append(w.tries, id)
	if len(w.answers) > 0 {
		status := w.answers[0]
		w.answers = w.answers[1:]
		out.Header().Set("Location", "/elsewhere")
		out.WriteHeader(status)
		return
	}
	var m struct {
		Type, Timestamp string
		Data            map[string]any
	}
	if err := json.Unmarshal(body, &m); err != nil || m.Timestamp == "" {
		w.Errorf("body %s: %v", body, err)
	}
	w.told = append(w.told, told{id, m.Type, m.Data})
	out.WriteHeader(http.StatusNoContent)
}

// instance is a notifier on the world.
func (w *world) instance() *Notifier {
	return New(Config{
		Settings: Settings{URL: w.url, Secrets: []string{secret}, Share: 80, Where: "runs.db", Examine: func(context.Context) (report.Report, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return report.New("runs.db", report.KindMirror, w.failures), nil
		}},
		Box: box{w.store, w}, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(w.log, nil)),
		Now: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.now
		},
	})
}

// box is the store, which may be down.
type box struct {
	*sqlite.Store
	world *world
}

func (b box) Notice(ctx context.Context, subject string) (store.Notice, error) {
	b.world.mu.Lock()
	down := b.world.down
	b.world.mu.Unlock()
	if down != nil {
		return store.Notice{}, down
	}
	return b.Store.Notice(ctx, subject)
}

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) pass(d time.Duration) { w.set(func() { w.now = w.now.Add(d) }) }

// minute lets instances look and send, and a minute pass.
func (w *world) minute(instances ...*Notifier) {
	var wg sync.WaitGroup
	for _, do := range []func(*Notifier){func(n *Notifier) { n.look(w.Context()) }, func(n *Notifier) { n.send(w.Context()) }} {
		for _, n := range instances {
			wg.Go(func() { do(n) })
		}
		wg.Wait()
	}
	w.pass(time.Minute)
}

func (w *world) types() (types []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.told {
		types = append(types, t.Type)
	}
	return types
}

func (w *world) want(types ...string) {
	w.Helper()
	if diff := cmp.Diff(types, w.types()); diff != "" {
		w.Fatalf("told (-want +got):\n%s", diff)
	}
}

func (w *world) fails() {
	w.set(func() {
		w.failures = []report.Finding{{Check: "triggers", Status: report.Failure, Text: "one is missing", Fix: "runcounter migrate up"}, {Check: "ledger", Status: report.Warning}}
	})
}

func (w *world) recovers() { w.set(func() { w.failures = nil }) }

func TestAVerdictIsToldWhenItTurns(t *testing.T) {
	w := newWorld(t)
	n := w.instance()
	w.minute(n)
	w.want() // healthy from the start is no news
	w.fails()
	for range 3 {
		w.minute(n)
	}
	w.want(doctorFailing)
	want := map[string]any{"database": "runs.db", "failures": []any{map[string]any{"check": "triggers", "status": "failure", "finding": "one is missing", "fix": "runcounter migrate up"}}}
	if diff := cmp.Diff(want, w.told[0].Data); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	w.recovers()
	w.minute(w.instance()) // after a restart
	w.want(doctorFailing, doctorRecovered)
	w.fails()
	w.minute(n)
	w.want(doctorFailing, doctorRecovered, doctorFailing)
	if w.told[0].ID == w.told[2].ID {
		t.Error("two turns have one id")
	}
}

func TestAnInstallationThatFailsFromTheStartIsTold(t *testing.T) {
	w := newWorld(t)
	w.fails()
	w.minute(w.instance())
	w.want(doctorFailing)
}

func TestAReceiverThatFailsIsTriedAgainUnderTheSameID(t *testing.T) {
	w := newWorld(t)
	n := w.instance()
	w.fails()
	w.set(func() { w.answers = []int{500, 302} })
	n.look(t.Context())
	n.send(t.Context())
	n.send(t.Context()) // too soon
	w.pass(backoff[0])
	n.send(t.Context())
	w.pass(backoff[1] - time.Second)
	n.send(t.Context()) // too soon
	w.want()
	w.pass(time.Second)
	n.send(t.Context())
	n.send(t.Context())
	w.want(doctorFailing)
	id := w.told[0].ID
	if diff := cmp.Diff([]string{id, id, id}, w.tries); diff != "" {
		t.Errorf("ids of the tries (-want +got):\n%s", diff)
	}
	if text := w.log.String(); strings.Contains(text, "secret-path") || strings.Contains(text, secret) || !strings.Contains(text, "the receiver answered 302") {
		t.Errorf("the log holds the URL or the secret, or not why: %s", text)
	}
}

func TestANoticeIsGivenUpAfterADay(t *testing.T) {
	w := newWorld(t)
	n := w.instance()
	w.fails()
	w.set(func() {
		for range 100 {
			w.answers = append(w.answers, 503)
		}
	})
	n.look(t.Context())
	for range 100 {
		n.send(t.Context())
		w.pass(time.Hour)
	}
	if len(w.tries) != len(backoff)+1 || !strings.Contains(w.log.String(), "given up") {
		t.Errorf("got %d tries, want %d and then no more: %s", len(w.tries), len(backoff)+1, w.log)
	}
}

func TestAReceiverThatIsGoneLeavesNoURLInTheLog(t *testing.T) {
	w := newWorld(t)
	w.url = "http://127.0.0.1:1/secret-path"
	w.fails()
	w.minute(w.instance())
	if text := w.log.String(); strings.Contains(text, "secret-path") || !strings.Contains(text, "could not be notified") {
		t.Errorf("got %s", text)
	}
}

func TestTwoInstancesTellOnce(t *testing.T) {
	w := newWorld(t)
	both := []*Notifier{w.instance(), w.instance()}
	w.minute(both...)
	for i := range 10 {
		if w.fails(); i%2 == 1 {
			w.recovers()
		}
		w.begin(i, 10)
		w.minute(both...)
	}
	counts := map[string]int{}
	for _, typ := range w.types() {
		counts[typ]++
	}
	if diff := cmp.Diff(map[string]int{doctorFailing: 5, doctorRecovered: 5, limitNear: 1}, counts); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// begin creates a run of a user under a limit.
func (w *world) begin(i int, most int64) {
	w.Helper()
	b, err := w.store.Begin(w.Context(), store.Begin{
		ID: storetest.MustID('1', i), User: storetest.MustID('a', 1), Workflow: storetest.MustID('c', 1),
		Limits: []store.Limit{{Scope: store.KeyLimit, Max: most}}, Now: w.now,
	})
	if err != nil || !b.Created {
		w.Fatalf("Begin: got %+v, %v", b, err)
	}
}

func TestALimitIsToldOnceWhenTheShareIsUsed(t *testing.T) {
	w := newWorld(t)
	n := w.instance()
	n.cfg.Share = 90
	for i := range 8 {
		w.begin(i, 10)
	}
	w.minute(n)
	w.want()
	w.begin(8, 10)
	for range 3 {
		w.minute(n)
	}
	w.minute(w.instance()) // after a restart
	w.want(limitNear)
	want := map[string]any{
		"database": "runs.db", "user_id": storetest.MustID('a', 1).String(), "workflow_id": storetest.MustID('c', 1).String(), "draft_id": nil,
		"scope": "key", "max": 10.0, "from": nil, "granted": 0.0, "counted": 0.0, "active": 9.0, "remaining": 1.0,
	}
	if diff := cmp.Diff(want, w.told[0].Data); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	w.begin(9, 11) // another limit
	w.minute(n)
	w.want(limitNear, limitNear)
}

func TestWhatFindsNoPlaceIsToldLater(t *testing.T) {
	w := newWorld(t)
	n := w.instance()
	for i := range store.MaxNotices {
		if _, err := w.store.TurnNotice(t.Context(), "", store.Notice{Subject: fmt.Sprint("limit ", i), ID: fmt.Sprint(i), Body: "{}", MadeAt: w.now}, w.now.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	w.minute(n)
	for i := range 9 {
		w.begin(i, 10)
	}
	w.fails()
	w.minute(n)
	w.want(doctorFailing) // a verdict has a place all the same
	if !strings.Contains(w.log.String(), "too many notices") {
		t.Errorf("the log does not say that notices find no place: %s", w.log)
	}
	if err := w.store.SettleNotice(t.Context(), "7", time.Time{}); err != nil {
		t.Fatal(err)
	}
	w.minute(n)
	w.want(doctorFailing, limitNear)
}

func TestADatabaseThatIsSilentIsToldByEachInstanceUnderOneID(t *testing.T) {
	w := newWorld(t)
	both := []*Notifier{w.instance(), w.instance()}
	w.minute(both...)
	w.minute(both...)
	w.set(func() { w.down = fmt.Errorf("%w: connection refused", store.ErrUnavailable) })
	for range silentAfter - 1 {
		w.minute(both...)
	}
	w.want()
	w.set(func() { w.answers = []int{500} })
	for range 3 {
		w.minute(both...)
	}
	w.want(doctorFailing, doctorFailing)
	if w.told[0].ID != w.told[1].ID {
		t.Errorf("two instances tell of one silence under %s and %s", w.told[0].ID, w.told[1].ID)
	}
	w.set(func() { w.down = nil })
	for range 2 {
		w.minute(both...)
	}
	w.want(doctorFailing, doctorFailing, doctorRecovered)
	if standing, err := w.store.Notice(t.Context(), store.DoctorSubject); err != nil || standing.ID != w.told[2].ID {
		t.Errorf("the last notice: got %+v, %v; want that of the recovery", standing, err)
	}
}

func TestTheSilenceOfADatabaseIsNoNewsOfAnInstallationThatFails(t *testing.T) {
	w := newWorld(t)
	fails, knowsNothing := w.instance(), w.instance()
	w.fails()
	w.minute(fails)
	w.minute(fails)
	w.set(func() { w.down = store.ErrUnavailable })
	for range 2 * silentAfter {
		w.minute(fails, knowsNothing)
	}
	w.want(doctorFailing)
}

func TestWhatCanNotBeKeptIsComplainedOfOnce(t *testing.T) {
	w := newWorld(t)
	n := w.instance()
	w.set(func() { w.down = errors.New("it needs the migrations") })
	for range 5 {
		w.minute(n)
	}
	w.want()
	if got := strings.Count(w.log.String(), "it needs the migrations"); got != 1 {
		t.Errorf("complained %d times, want once: %s", got, w.log)
	}
}

// An instance that is stopped while it sends leaves the notice to another.
func TestAStopEndsWhatIsSentAndAnotherSendsIt(t *testing.T) {
	w := newWorld(t)
	w.fails()
	arrived, leave := make(chan struct{}), make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-leave
	}))
	defer hangs.Close()
	defer close(leave)
	n := w.instance()
	n.cfg.URL = hangs.URL
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.Run(ctx)
	}()
	<-arrived
	stop()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("Run did not end")
	}
	if text := w.log.String(); strings.Contains(text, "could not") {
		t.Errorf("a stop is logged as a failure: %s", text)
	}
	other := w.instance()
	other.send(t.Context()) // the first has it still
	w.want()
	w.pass(lease)
	other.send(t.Context())
	w.want(doctorFailing)
}

func TestSettingsThatCanNotBeUsedAreRefused(t *testing.T) {
	good := Settings{URL: "https://hooks.example.com/x", Secrets: []string{secret, secret}, Share: 80}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Settings){
		"write it whole":              func(s *Settings) { s.URL = "hooks.example.com/secret" },
		"such as https":               func(s *Settings) { s.URL = "ftp://hooks.example.com/secret" },
		"can't be read":               func(s *Settings) { s.URL = "https://hooks.example.com:x/secret" },
		"set RUNCOUNTER_NOTIFY_SECRE": func(s *Settings) { s.Secrets = nil },
		"begins with whsec_":          func(s *Settings) { s.Secrets = []string{secret, "token"} },
		"80 to 100 percent":           func(s *Settings) { s.Share = 79 },
		"and not 101":                 func(s *Settings) { s.Share = 101 },
	} {
		s := good
		change(&s)
		err := s.Validate()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "/secret") {
			t.Errorf("got %v, want %q and no path", err, want)
		}
	}
	if diff := cmp.Diff([]string{"a", "b"}, SplitSecrets(" a, b,")); diff != "" {
		t.Error(diff)
	}
}
