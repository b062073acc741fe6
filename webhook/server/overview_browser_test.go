package server

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/edgaze-ai/runcounter/store"
)

// wire stands between a browser and a server, and can be cut.
type wire struct {
	t    *testing.T
	addr string
	to   string

	mu   sync.Mutex
	ln   net.Listener
	open []net.Conn
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	w := &wire{t: t, to: to, addr: "127.0.0.1:0"}
	w.mend()
	t.Cleanup(w.cut)
	return w
}

// mend listens where the wire was cut.
func (w *wire) mend() {
	w.t.Helper()
	ln, err := net.Listen("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ln, w.addr = ln, ln.Addr().String()
	go w.accept(ln)
}

func (w *wire) accept(ln net.Listener) {
	for {
		from, err := ln.Accept()
		if err != nil {
			return
		}
		to, err := (&net.Dialer{}).DialContext(w.t.Context(), "tcp", w.to)
		if err != nil {
			from.Close()
			continue
		}
		w.mu.Lock()
		w.open = append(w.open, from, to)
		w.mu.Unlock()
		for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
			go func() {
				_, _ = io.Copy(pair[0], pair[1])
				pair[0].Close()
			}()
		}
	}
}

// cut ends all connections and takes no more, as kill -9 does.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ln.Close()
	for _, c := range w.open {
		c.Close()
	}
	w.open = nil
}

// TestAnOpenOverviewShowsThatThingsGotWorse and better, and that the server is gone.
func TestAnOpenOverviewShowsThatThingsGotWorse(t *testing.T) {
	t.Parallel()
	w := serveWatched(t, nil)
	b := openTab(t, w.rig)
	cable := newWire(t, w.addr)
	b.base = "http://" + cable.addr
	b.signIn()
	const level = `document.querySelector("[data-level]").dataset.level`
	deliveries := `document.querySelector(".timeline svg").getAttribute("aria-label")`
	b.becomes(level + ` === "good"`)
	b.becomes(`document.querySelector(".connection").hidden`)

	w.set(func() {
		w.away = &store.StorageFault{What: "The disk of the database is full: free space on it.", Err: io.ErrShortWrite}
	})
	w.pass(askedFor)
	b.becomes(level + ` === "bad"`)
	b.do(chromedp.WaitVisible(`//main//li[contains(normalize-space(), "The disk of the database is full")]`))
	w.set(func() { w.away = nil })
	w.pass(askedFor)
	b.becomes(level + ` === "good"`)
	w.deliver(completed(1))
	w.pass(askedFor)
	b.becomes(deliveries + `.startsWith("Deliveries in the last hour: 1,")`)

	w.pass(2 * time.Minute) // the runs are read each minute
	b.becomes(`document.querySelector("[data-part=business] button[data-copy]:not([hidden])") !== null`)

	cable.cut()
	b.becomes(`/^Connection lost: data of \d+ s ago/.test(document.querySelector(".connection").textContent)`)
	b.do(chromedp.WaitVisible(`.connection`))
	w.deliver(completed(2))
	w.pass(askedFor)
	cable.mend()
	b.becomes(`document.querySelector(".connection").hidden`)
	b.becomes(deliveries + `.startsWith("Deliveries in the last hour: 2,")`)
	b.complaints() // of the connection

	// Without JavaScript it is what it was when it was loaded.
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.open("/?span=day")
	b.do(chromedp.WaitVisible(`//main//a[normalize-space()="Day" and @aria-current="true"]`), chromedp.WaitVisible(`[data-level=good]`))
	if wrong := b.complaints(); len(wrong) > 0 {
		t.Error(wrong)
	}
}
