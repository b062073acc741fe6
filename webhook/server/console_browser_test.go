package server

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/edgaze-ai/runcounter/internal/need"
)

// tab is a page of Chromium, and what it complained of.
type tab struct {
	t    *testing.T
	base string
	ctx  context.Context

	mu    sync.Mutex
	wrong []string
}

// openTab starts Chromium for one server. With neither Chromium nor CI the test
// is skipped.
func openTab(t *testing.T, r *rig) *tab {
	t.Helper()
	need.NoRaceDetector(t)
	path := need.Program(t, "chromium", "chromium")
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true))...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	b := &tab{t: t, base: "http://" + r.addr, ctx: ctx}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	call(b, log.Enable, cdp.Empty{})
	call(b, network.Enable, network.EnableParams{})
	return b
}

// listen keeps what a page must not do: ask another host, or complain.
func (b *tab) listen(event any) {
	complain := func(format string, args ...any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
	}
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if u := e.Request.URL; !strings.HasPrefix(u, b.base+"/") && !strings.HasPrefix(u, "data:") {
			complain("it asks %s", u)
		}
	case *runtime.EventExceptionThrown:
		complain("it throws %s", e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		complain("it prints %s", e.Type)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			complain("%s %s (%s)", e.Entry.Level, e.Entry.Text, e.Entry.URL)
		}
	}
}

// complaints returns what was wrong since it was last called.
func (b *tab) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	wrong := b.wrong
	b.wrong = nil
	return wrong
}

// within is how long one step may take.
const within = 30 * time.Second

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	get(b, chromedp.Steps(steps...))
}

// get takes a step, and returns what it gives.
func get[T any](b *tab, step chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	v, err := chromedp.Run(ctx, step)
	if err != nil {
		b.t.Fatalf("in Chromium: %v; %q", err, b.complaints())
	}
	return v
}

func call[P, R any](b *tab, command cdp.Command[P, R], params P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, command, params); err != nil {
		b.t.Fatalf("in Chromium: %v", err)
	}
}

// becomes waits until an expression is true.
func (b *tab) becomes(expression string) {
	b.t.Helper()
	get(b, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(within)))
}

func (b *tab) open(path string) { b.t.Helper(); b.do(chromedp.Navigate(b.base + path)) }

func (b *tab) signIn() {
	b.t.Helper()
	b.open("/")
	b.do(chromedp.SendKeys(`input[name=name]`, "Ada"), chromedp.SendKeys(`input[name=key]`, apiKey),
		chromedp.Submit(`form.stack`), chromedp.WaitVisible(`.numbers`))
}

func (b *tab) press(button string) {
	b.t.Helper()
	b.do(chromedp.Click(`//main//button[normalize-space()="` + button + `"]`))
}

// TestTheConsoleInChromium looks at each page in both widths and both schemes:
// no complaint, no other host, nothing that has to be scrolled sideways, and no
// serious finding of axe.
func TestTheConsoleInChromium(t *testing.T) {
	t.Parallel()
	r := withConsole(t, nil)
	b := openTab(t, r)
	axe := axeSource(t)
	b.open("/sign-in")
	b.look("/sign-in", axe)
	b.signIn()
	paths := slices.Sorted(func(yield func(string) bool) {
		for path := range consolePages {
			if !yield(path) {
				return
			}
		}
	})
	for _, path := range append(paths, "/runs/"+runID(999), "/runs?state=lost") {
		b.look(path, axe)
	}
}

// look looks at a page. With RUNCOUNTER_TEST_SHOTS set to a folder it keeps
// pictures of it there.
func (b *tab) look(path, axe string) {
	b.t.Helper()
	for _, width := range []int64{390, 1440} {
		for _, scheme := range []string{"light", "dark"} {
			b.do(chromedp.EmulateViewport(width, 900))
			call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
			b.open(path)
			b.do(chromedp.WaitReady(`main h1`))
			if wide := get(b, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`)); wide > width {
				b.t.Errorf("%s is %d pixels wide in a window of %d", path, wide, width)
			}
			for _, wrong := range b.complaints() {
				if !strings.Contains(wrong, "the server responded with a status of 4") { // a page that says so
					b.t.Errorf("%s at %d, %s: %s", path, width, scheme, wrong)
				}
			}
			if (width == 390) == (scheme == "light") { // axe takes its time, and looks at colours and at structure
				b.check(axe, fmt.Sprintf("%s at %d, %s", path, width, scheme))
			}
			b.keep(path, width, scheme)
		}
	}
}

// check asks axe for what keeps people out.
func (b *tab) check(axe, what string) {
	b.t.Helper()
	if axe == "" {
		return
	}
	type violation struct {
		ID     string   `json:"id"`
		Impact string   `json:"impact"`
		Help   string   `json:"help"`
		Nodes  []string `json:"nodes"`
	}
	b.do(chromedp.Evaluate[chromedp.Void](axe))
	for _, v := range get(b, chromedp.Evaluate[[]violation](`axe.run().then(r => r.violations.map(v => ({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map(n => n.html)})))`, chromedp.EvalAwaitPromise)) {
		if v.Impact == "serious" || v.Impact == "critical" {
			b.t.Errorf("%s: %s, %s: %s %v", what, v.Impact, v.ID, v.Help, v.Nodes)
		}
	}
}

func (b *tab) keep(path string, width int64, scheme string) {
	b.t.Helper()
	folder := os.Getenv("RUNCOUNTER_TEST_SHOTS")
	if folder == "" {
		return
	}
	shot := get(b, chromedp.FullScreenshot(100))
	name := fmt.Sprintf("%s-%d-%s.png", url.PathEscape(path), width, scheme)
	if err := os.WriteFile(filepath.Join(folder, name), shot, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// axeSource is axe-core, the accessibility checker, which .ci/run fetches.
func axeSource(t *testing.T) string {
	t.Helper()
	path := os.Getenv("RUNCOUNTER_TEST_AXE")
	if path == "" {
		need.InPart(t, "RUNCOUNTER_TEST_AXE names no axe.min.js of axe-core; .ci/run fetches it")
		return ""
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAnIDIsCopied by its button, which a page without scripts does not show.
func TestAnIDIsCopied(t *testing.T) {
	t.Parallel()
	r := withConsole(t, nil)
	b := openTab(t, r)
	b.signIn()
	b.open("/counts?user=" + user)
	const button = `button[data-copy="` + user + `"]`
	b.do(chromedp.Focus(button), chromedp.SendKeys(button, "\r"))
	b.becomes(`document.querySelector('` + button + `').getAttribute("aria-label") === "Copied"`)
	b.becomes(`document.querySelector('` + button + `').getAttribute("aria-label") === "Copy ` + user + `"`)

	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.open("/counts?user=" + user)
	b.do(chromedp.WaitNotVisible(button), chromedp.WaitVisible(`main a[title="`+user+`"]`))
	if wrong := b.complaints(); len(wrong) > 0 {
		t.Error(wrong)
	}
}

func TestALiveCountMovesWhileItIsWatched(t *testing.T) {
	t.Parallel()
	r := withConsole(t, nil)
	b := openTab(t, r)
	b.signIn()
	b.open(keyPath)
	before := get(b, chromedp.TextContent(`[data-live=count]`))
	start := r.counted()
	if before != fmt.Sprint(start) {
		t.Fatalf("the page says %s, the API %d", before, start)
	}
	for i := range int64(3) {
		r.deliver(completed(int(500 + i)))
		b.becomes(fmt.Sprintf(`document.querySelector("[data-live=count]").textContent === "%d"`, start+i+1))
	}
	// The overview is told the numbers every two seconds.
	b.open("/")
	r.deliver(inserted(row(600, "running", nil)))
	active := get(b, chromedp.TextContent(`[data-live=active]`))
	r.deliver(inserted(row(601, "running", nil)))
	b.becomes(`document.querySelector("[data-live=active]").textContent !== "` + active + `"`)
	if wrong := b.complaints(); len(wrong) > 0 {
		t.Error(wrong)
	}
}

// TestTheActionsInChromium does each action by its buttons, with JavaScript and
// without.
func TestTheActionsInChromium(t *testing.T) {
	t.Parallel()
	for _, scripts := range []bool{true, false} {
		t.Run(fmt.Sprintf("with scripts %v", scripts), func(t *testing.T) {
			t.Parallel()
			r := withConsole(t, nil)
			b := openTab(t, r)
			b.signIn()
			if !scripts {
				call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
			}
			click := func(link string) {
				t.Helper()
				b.do(chromedp.Click(`//main//a[normalize-space()="` + link + `"]`))
			}
			wants := func(text string) {
				t.Helper()
				b.do(chromedp.WaitVisible(`//main//*[contains(normalize-space(), "` + text + `")]`))
			}
			b.open(keyPath)
			click("Recount…")
			wants("Recount?")
			b.press("Recount")
			wants("The count was right already")

			b.open("/runs/" + runID(2))
			click("Complete…")
			b.do(chromedp.Click(`input[value=failed]`))
			b.press("Complete")
			wants("The run has ended so.")

			b.open("/runs/" + runID(4))
			click("Amend…")
			b.do(chromedp.Click(`input[value=completed]`), chromedp.SendKeys(`input[name=reason]`, "it did work"))
			b.press("Amend")
			wants("The outcome is changed")
			wants("it did work")

			b.open("/dead-letters/1")
			click("Replay…")
			b.press("Replay")
			wants("still can't be read")
			click("Drop…")
			b.press("Drop")
			wants("The dead letter is gone.")

			b.open("/sweep")
			b.do(chromedp.Click(`input[name=full]`))
			b.press("Sweep now")
			wants("The sweep is done.")

			b.do(chromedp.Click(`//header//button[normalize-space()="Sign out"]`))
			wants("You are signed out.")
			if wrong := b.complaints(); len(wrong) > 0 {
				t.Error(wrong)
			}
		})
	}
}
